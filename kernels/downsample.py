"""Fewer points that draw the same line: of each stretch of time the first, least, greatest and last sample stay."""

from __future__ import annotations

import numpy as np

from kernels.jit import kernel

KEPT = 6
"""The most samples that one cell keeps: first, last, least, greatest, and one at each side that breaks the line."""


@kernel
def extremes(time_us, values, cell_us):
    """Return the places (int64, ascending) of the samples that stay when ``n`` of them are drawn, a cell of time ``cell_us`` (> 0) wide.

    ``time_us``: int64 (n,), ascending; cells begin at multiples of ``cell_us``. ``values``: float64 (n,), where NaN breaks the line.
    A cell keeps its first and last sample, the first least and the first greatest of its numbers, and the first and last of its NaNs.
    Cells nest: what is kept of cells of 8 us is all that cells of 16 us need. The picture is that of min-max downsampling (Jugel et al.,
    M4, VLDB 2014), with gaps.
    """
    n = len(time_us)
    out = np.empty(n, np.int64)
    size = 0
    begin = 0
    while begin < n:
        cell = time_us[begin] // cell_us
        least = greatest = gap = gap_end = -1
        i = begin
        while i < n and time_us[i] // cell_us == cell:
            value = values[i]
            if np.isnan(value):
                if gap < 0:
                    gap = i
                gap_end = i
            else:
                if least < 0 or value < values[least]:
                    least = i
                if greatest < 0 or value > values[greatest]:
                    greatest = i
            i += 1
        last = begin - 1
        for _ in range(KEPT):  # the smallest place that is not out yet, again and again
            following = n
            for place in (begin, least, greatest, gap, gap_end, i - 1):
                if last < place < following:
                    following = place
            if following == n:
                break
            out[size] = following
            size += 1
            last = following
        begin = i
    return out[:size].copy()
