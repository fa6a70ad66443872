"""Window reduction: every statistic of the feature table from the samples of one sensor in one window.

Missing samples (NULL or NaN) are counted and left out. Sums run over differences from the first sample, in order, in strict IEEE
arithmetic: exact at large offsets and the same bits for the same samples, however they were delivered.
"""

from __future__ import annotations

import math

import numpy as np

from kernels.jit import inline, kernel

COLUMNS = ("n", "missing", "first", "last", "min", "max", "mean", "std", "median", "p05", "p95", "slope", "area")
"""The columns of the result, in order; NaN stands for NULL."""


@inline
def _select(a, lo, hi, k):
    """Reorder ``a[lo:hi+1]`` so that ``a[k]`` is its order statistic, smaller ones before it, larger ones after it."""
    while lo < hi:
        mid = (lo + hi) >> 1
        if a[mid] < a[lo]:
            a[mid], a[lo] = a[lo], a[mid]
        if a[hi] < a[lo]:
            a[hi], a[lo] = a[lo], a[hi]
        if a[hi] < a[mid]:
            a[hi], a[mid] = a[mid], a[hi]
        pivot = a[mid]
        i, j = lo, hi
        while i <= j:
            while a[i] < pivot:
                i += 1
            while pivot < a[j]:
                j -= 1
            if i <= j:
                a[i], a[j] = a[j], a[i]
                i += 1
                j -= 1
        if k <= j:
            hi = j
        elif k >= i:
            lo = i
        else:
            return


@inline
def _quantile(a, lo, hi, n, q):
    """Return the linear quantile ``q`` of n samples whose order statistics around it lie in ``a[lo:hi+1]``."""
    place = (n - 1) * q
    k = int(place)
    weight = place - k
    _select(a, lo, hi, k)
    below = a[k]
    if weight == 0.0 or k + 1 > hi:
        return below
    above = a[k + 1]
    for i in range(k + 2, hi + 1):
        above = min(above, a[i])
    gap = above - below
    if weight >= 0.5:
        return above - gap * (1.0 - weight)
    return below + gap * weight


@kernel
def reduce_windows(matrix, time_us, start, stop, started_us):
    """Return (g, k, 13) float64 in the order of :data:`COLUMNS` for ``k`` sensors and ``g`` windows.

    ``matrix``: float64 (k, n), samples in order of (time, seq); ``time_us``: int64 (n,); ``start``, ``stop``, ``started_us``: int64 (g,),
    window w holds samples ``[start[w], stop[w])`` and began at ``started_us[w]``.
    std has n - 1 in the denominator; quantiles interpolate linearly;
    slope in units per second by least squares; area in units times seconds by trapezoids.
    """
    k, g = matrix.shape[0], len(started_us)
    out = np.full((g, k, 13), np.nan)
    longest = 0
    for w in range(g):
        longest = max(longest, stop[w] - start[w])
    x = np.empty(longest, np.float64)
    t = np.empty(longest, np.float64)
    for w in range(g):
        for j in range(k):
            row = matrix[j]
            n = 0
            shift = 0.0
            total = 0.0
            time_total = 0.0
            for i in range(start[w], stop[w]):
                v = row[i]
                if not math.isnan(v):
                    if n == 0:
                        shift = v
                    x[n] = v
                    t[n] = (time_us[i] - started_us[w]) * 1e-6
                    total += v - shift
                    time_total += t[n]
                    n += 1
            cell = out[w, j]
            cell[0] = n
            cell[1] = stop[w] - start[w] - n
            if n == 0:
                continue
            mean_d = total / n
            time_mean = time_total / n
            low, high = x[0], x[0]
            squares, cross, time_squares, area = 0.0, 0.0, 0.0, 0.0
            for i in range(n):
                v = x[i]
                low = min(low, v)
                high = max(high, v)
                d = (v - shift) - mean_d
                u = t[i] - time_mean
                squares += d * d
                cross += u * d
                time_squares += u * u
            for i in range(1, n):
                area += (x[i] + x[i - 1]) * 0.5 * (t[i] - t[i - 1])
            cell[2], cell[3], cell[4], cell[5] = x[0], x[n - 1], low, high
            cell[6] = shift + mean_d
            if n > 1:
                cell[7] = math.sqrt(squares / (n - 1))
                if t[n - 1] > t[0]:
                    cell[11] = cross / time_squares
            cell[12] = area
            if low == high:
                cell[8], cell[9], cell[10] = low, low, low
            else:
                middle = (n - 1) // 2
                cell[8] = _quantile(x, 0, n - 1, n, 0.5)
                cell[9] = _quantile(x, 0, min(n - 1, middle + 1), n, 0.05)
                cell[10] = _quantile(x, middle, n - 1, n, 0.95)
    return out
