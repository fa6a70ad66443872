"""Fewer points that draw the same line: of each stretch of time the first, least, greatest and last sample stay."""

from __future__ import annotations

import numpy as np

from kernels.jit import kernel

KEPT = 6
"""The most samples that one bucket keeps: first, last, least, greatest, and one at each side that breaks the line."""


@kernel
def extremes(time_us, values, buckets):
    """Return the places (int64, ascending) of the samples that stay when ``n`` of them are drawn in ``buckets`` stretches of equal time.

    ``time_us``: int64 (n,), ascending, spanning less than 2**63; ``values``: float64 (n,), where NaN breaks the line. A bucket keeps its
    first and last sample, the first least and the first greatest of its numbers, and the first and last of its NaNs. Among samples of
    about ``KEPT`` a bucket all stay. The picture is that of min-max downsampling (Jugel et al., M4, VLDB 2014), with gaps.
    """
    n = len(time_us)
    if n <= KEPT * buckets:
        return np.arange(n)
    width = (time_us[n - 1] - time_us[0]) // buckets + 1
    out = np.empty(KEPT * buckets, np.int64)
    size = 0
    begin = 0
    while begin < n:
        bucket = (time_us[begin] - time_us[0]) // width
        least = greatest = gap = gap_end = -1
        i = begin
        while i < n and (time_us[i] - time_us[0]) // width == bucket:
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
    return out[:size]
