"""From records to sensors: blocked transposition, and the bitmap of what is not NULL."""

from __future__ import annotations

import numpy as np

from kernels.jit import kernel
from kernels.loads import prefetch
from kernels.missing import NULL_BITS

BLOCK = 32
AHEAD = 64
"""The samples of a record are fetched so many records before they are read: a step from record to record is too long for the processor to
foresee."""

APART = 4
"""Columns that are so near to the one before it are fetched with it."""

_NULL = int(NULL_BITS)


@kernel
def transpose(values, start, columns, out):
    """Fill ``out`` (k, n) with ``values[start[i] + columns[j]]`` at [j, i], in blocks that stay in cache, and return it.

    ``values``: float64 or float32 (m,), widened; ``start``: int64 (n,), where each record's samples begin; ``columns``: int64 (k,).
    """
    n, k = len(start), len(columns)
    for i0 in range(0, n, BLOCK):
        i1 = min(n, i0 + BLOCK)
        fetched = -APART
        for j in range(k):
            if not fetched <= columns[j] < fetched + APART:
                fetched = columns[j]
                for i in range(i0 + AHEAD, min(n, i0 + AHEAD + BLOCK)):
                    prefetch(values, start[i] + fetched)
        for j in range(k):
            c = columns[j]
            for i in range(i0, i1):
                out[j, i] = values[start[i] + c]
    return out


@kernel
def valid_bits(bits):
    """Return (Arrow validity bitmap uint8, number of NULLs) of int64-viewed values."""
    n = len(bits)
    out = np.zeros((n + 7) // 8, np.uint8)
    nulls = 0
    for i in range(n):
        if bits[i] == _NULL:
            nulls += 1
        else:
            out[i >> 3] |= np.uint8(1 << (i & 7))
    return out, nulls


@kernel
def count_nulls(bits):
    """Return how many int64-viewed values are NULL."""
    nulls = 0
    for i in range(len(bits)):
        nulls += bits[i] == _NULL
    return nulls
