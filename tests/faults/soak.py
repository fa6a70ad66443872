"""How often, with which seeds: a small count in the suite, the full one by ``make soak``."""

from __future__ import annotations

import os
import random

SCALE = float(os.environ.get("LOADLOCK_SOAK", "1"))
"""Part of the full counts that the slow tests run."""


def scaled(full: int) -> int:
    """The part of ``full`` that is asked for, at least one."""
    return max(1, round(full * SCALE))


def new_seed() -> int:
    """A seed: that of ``LOADLOCK_SEED``, else a new one."""
    return int(os.environ.get("LOADLOCK_SEED") or random.SystemRandom().randrange(1 << 32))
