"""Sentences that more than one command says."""

WAITING = "WAITING: no spec — run 'scriptorium plan'"
