"""How much the stress tests try: a sample, or everything with STRESS=<minutes> in the environment."""

from __future__ import annotations

import os

MINUTES = float(os.environ.get("STRESS") or "0")
"""For how long interleavings are tried, and no less than there are to be of them."""

FULL = MINUTES > 0
