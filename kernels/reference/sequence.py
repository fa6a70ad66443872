"""Slow, obvious twins of :mod:`kernels.sequence`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

COUNTER = -1
ANY = 0
Key = tuple[int, int]
Run = tuple[int, int, int, int]


def covered(keys: Sequence[Key], runs: Sequence[Run]) -> list[int]:
    """Return for each (time, seq) the index of the run that holds it, or -1."""
    return [next((i for i, run in enumerate(runs) if run[:2] <= key <= run[2:]), -1) for key in keys]


def runs_of(keys: Sequence[Key], step: int) -> list[Run]:
    """Return the runs of a set of keys, from nothing."""
    runs: list[Run] = []
    for time, seq in sorted(keys):
        last = runs[-1] if runs else None
        follows = last is not None and ((step == COUNTER and seq == last[3] + 1) or step == ANY or (step > 0 and time - last[2] <= step))
        if last is not None and follows:
            runs[-1] = (*last[:2], time, seq)
        else:
            runs.append((time, seq, time, seq))
    return runs


def advance(keys: Sequence[Key], held: Sequence[Key], step: int) -> tuple[list[int], list[Run]]:
    """Return the places of the keys, in order of arrival, that come late, and the runs of ``held`` and all others.

    A key is late that is not above all of ``held`` and all keys before it.
    """
    late: list[int] = []
    taken = list(held)
    for i, key in enumerate(keys):
        if taken and key <= max(taken):
            late.append(i)
        else:
            taken.append(key)
    return late, runs_of(taken, step)


def gaps_of(keys: Sequence[Key]) -> set[tuple[int, int, int, int, int]]:
    """Return (first missing, last missing, number, time before, time after) of a counter, by epochs, from the contract's words."""
    ordered = sorted(keys)
    gaps = set()
    for (time_a, seq_a), (time_b, seq_b) in pairwise(ordered):
        opens_epoch = seq_b <= seq_a
        if not opens_epoch and seq_b > seq_a + 1:
            gaps.add((seq_a + 1, seq_b - 1, seq_b - seq_a - 1, time_a, time_b))
    return gaps
