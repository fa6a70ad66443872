"""Slow, obvious twins of :mod:`kernels.gather`."""

from __future__ import annotations

from collections.abc import Sequence

from kernels.missing import NULL_BITS


def transpose(values: Sequence[float], start: Sequence[int], columns: Sequence[int]) -> list[list[float]]:
    """Return one row a column with each record's sample."""
    return [[values[begin + column] for begin in start] for column in columns]


def valid_bits(bits: Sequence[int]) -> tuple[list[int], int]:
    """Return (bitmap bytes, number of NULLs)."""
    flags = [bit != NULL_BITS for bit in bits]
    packed = [sum(1 << j for j, flag in enumerate(flags[i : i + 8]) if flag) for i in range(0, len(flags), 8)]
    return packed, flags.count(False)
