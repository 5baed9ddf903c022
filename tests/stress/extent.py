"""The extent of the stress tests: a sample, or everything with STRESS=<minutes> in the environment."""

from __future__ import annotations

import os

MINUTES = float(os.environ.get("STRESS") or "0")
"""The duration of the search for interleavings, which also has a minimum number."""

FULL = MINUTES > 0
