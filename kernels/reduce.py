"""Window reduction: every statistic of the feature table from the samples of one sensor in one window.

Missing samples (NULL or NaN) are counted and left out. Sums run over differences from the first sample, in sixteen lanes by the sample's
place in the window (:mod:`kernels.lanes`): exact at large offsets and the same bits for the same samples, however they were delivered.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kernels.jit import leaf, lean_kernel
from kernels.lanes import WIDTH, add, fill, greater, head, least, lesser, load, most, mul, store, sub, total
from kernels.quantiles import BINS, quantiles_linear

COLUMNS = ("n", "missing", "first", "last", "min", "max", "mean", "std", "median", "p05", "p95", "slope", "area")
"""The columns of the result, in order; NaN stands for NULL."""

MOMENTS, TRENDS, QUANTILES = 0, 1, 2
"""How much is computed: all columns up to ``std``; ``slope`` and ``area`` as well; the quantiles as well."""

BLOCK = 8192
"""Samples of neighbouring windows that are reduced together, one sensor after the other: their time axes stay in the cache meanwhile."""

WANTED = np.array([0.5, 0.05, 0.95])


@leaf
def _axis(time_us, n, u, h):
    """Prepare the time axis of ``n`` > 0 samples for all sensors that share it; return the sum of squares of ``u``.

    ``u``: microseconds from the mean time; ``h``: twice each sample's weight in the sum of trapezoids; zero to the end of the lanes.
    """
    tail = (n - 1) // WIDTH * WIDTH
    rest, origin = n - tail, time_us[0]
    for i in range(n):
        u[i] = time_us[i] - origin
    for i in range(1, n - 1):
        h[i] = time_us[i + 1] - time_us[i - 1]
    h[0] = u[min(1, n - 1)]
    if n > 1:
        h[n - 1] = u[n - 1] - u[n - 2]
    store(u, tail, head(load(u, tail), rest, 0.0))
    store(h, tail, head(load(h, tail), rest, 0.0))
    sums = fill(0.0)
    for i in range(0, n, WIDTH):
        sums = add(sums, load(u, i))
    mean = fill(total(sums) / n)
    for i in range(0, n, WIDTH):
        store(u, i, sub(load(u, i), mean))
    store(u, tail, head(load(u, tail), rest, 0.0))
    sums = fill(0.0)
    for i in range(0, n, WIDTH):
        sums = add(sums, mul(load(u, i), load(u, i)))
    return total(sums)


@leaf
def _sum(x, n):
    """Return (shift, sum of differences from it, min, max) of ``n`` > 0 samples; the sum is NaN if any of them is."""
    first = fill(x[0])
    offset = x[0] if math.isfinite(x[0]) else 0.0
    shift, sums, low, high = fill(offset), fill(0.0), first, first
    whole = n // WIDTH * WIDTH
    for i in range(0, whole, WIDTH):
        v = load(x, i)
        sums = add(sums, sub(v, shift))
        low = lesser(low, v)
        high = greater(high, v)
    if whole < n:
        v = head(load(x, whole), n - whole, x[0])
        sums = add(sums, sub(v, shift))
        low = lesser(low, v)
        high = greater(high, v)
    return offset, total(sums), least(low), most(high)


@leaf
def _squares(x, n, offset, mean_d):
    """Return the sum of squares about the mean."""
    shift, mean, squares = fill(offset), fill(mean_d), fill(0.0)
    whole = n // WIDTH * WIDTH
    for i in range(0, whole, WIDTH):
        d = sub(sub(load(x, i), shift), mean)
        squares = add(squares, mul(d, d))
    if whole < n:
        d = head(sub(sub(load(x, whole), shift), mean), n - whole, 0.0)
        squares = add(squares, mul(d, d))
    return total(squares)


@leaf
def _products(x, n, offset, mean_d, u, h):
    """Return the sums of squares about the mean, of products with the time, and of trapezoids twice over, with ``_axis``'s u and h."""
    shift, mean = fill(offset), fill(mean_d)
    squares, cross, area = fill(0.0), fill(0.0), fill(0.0)
    whole = n // WIDTH * WIDTH
    for i in range(0, whole, WIDTH):
        v = load(x, i)
        d = sub(sub(v, shift), mean)
        squares = add(squares, mul(d, d))
        cross = add(cross, mul(d, load(u, i)))
        area = add(area, mul(v, load(h, i)))
    if whole < n:
        v = load(x, whole)
        d = head(sub(sub(v, shift), mean), n - whole, 0.0)
        squares = add(squares, mul(d, d))
        cross = add(cross, mul(d, load(u, whole)))
        area = add(area, mul(head(v, n - whole, 0.0), load(h, whole)))
    return total(squares), total(cross), total(area)


@lean_kernel
def _reduce(flat, time_us, start, stop, what, out, u, h, at, spread, present, times, wanted, room, places, counts, ones):
    """Fill ``out`` (g, k, 13) as :func:`reduce_windows` says; the arrays after it are room to work in.

    ``u``, ``h`` hold the time axes of a block of windows from ``at[w]`` on, and from ``own`` on that of samples with some missing.
    """
    g, k, own = out.shape[0], out.shape[1], len(u) - len(present)
    begin = 0
    while begin < g:
        end, used = begin, 0
        while end < g and (end == begin or used + stop[end] - start[end] + WIDTH <= BLOCK):
            at[end] = used
            size = stop[end] - start[end]
            if what >= TRENDS and size > 0:
                spread[end] = _axis(time_us[start[end] :], size, u[used:], h[used:])
            used += size // WIDTH * WIDTH + WIDTH
            end += 1
        for j in range(k):
            for w in range(begin, end):
                cell = out[w, j]
                n = stop[w] - start[w]
                cell[0], cell[1] = n, 0.0
                if n == 0:
                    continue
                x, axis, time_squares = flat[j * len(time_us) + start[w] :], at[w], spread[w]
                if len(x) < n + WIDTH:  # lanes may reach beyond the window, not beyond the matrix
                    for i in range(n):
                        present[i] = x[i]
                    x = present
                offset, sums, low, high = _sum(x, n)
                if math.isnan(sums):
                    m = 0
                    for i in range(n):
                        v = x[i]
                        present[m] = v
                        times[m] = time_us[start[w] + i]
                        m += not math.isnan(v)
                    cell[0], cell[1] = m, n - m
                    if m == 0:
                        continue
                    if what >= TRENDS and m < n:
                        axis = own
                        time_squares = _axis(times, m, u[own:], h[own:])
                    x, n = present, m
                    offset, sums, low, high = _sum(x, n)
                mean_d = sums / n
                cell[2], cell[3], cell[4], cell[5], cell[6] = x[0], x[n - 1], low, high, offset + mean_d
                if what >= TRENDS:
                    squares, cross, area = _products(x, n, offset, mean_d, u[axis:], h[axis:])
                    cell[12] = area * 0.5e-6 if n > 1 else 0.0
                    if time_squares > 0.0:
                        cell[11] = cross / time_squares * 1e6
                else:
                    squares = _squares(x, n, offset, mean_d)
                if n > 1:
                    cell[7] = math.sqrt(squares / (n - 1))
                if what >= QUANTILES:
                    if low == high:
                        cell[8], cell[9], cell[10] = low, low, low
                    else:
                        quantiles_linear(x, n, low, high, wanted, room, places, counts, ones, cell[8:])
        begin = end


def _plain(array: Any) -> Any:
    """Return ``array``, or a copy: one that can't be written would be another signature, which means another compilation."""
    flags = array.flags
    return array if flags.c_contiguous and flags.writeable else np.require(array, requirements=["C", "W"])


def reduce_windows(matrix: Any, time_us: Any, start: Any, stop: Any, what: int = QUANTILES) -> Any:
    """Return (g, k, 13) float64 in the order of :data:`COLUMNS` for ``k`` sensors and ``g`` windows.

    ``matrix``: float64 (k, n), samples in order of (time, seq); ``time_us``: int64 (n,); ``start``, ``stop``: int64 (g,),
    window w holds samples ``[start[w], stop[w])``; ``what``: :data:`MOMENTS`, :data:`TRENDS` or :data:`QUANTILES`, the rest stays NULL.
    std has n - 1 in the denominator; quantiles interpolate linearly;
    slope in units per second by least squares; area in units times seconds by trapezoids.
    """
    g = len(start)
    out = np.full((g, matrix.shape[0], len(COLUMNS)), np.nan)
    longest = int((stop - start).max(initial=0)) + WIDTH
    whole = max(longest, BLOCK) + longest
    size = longest if what >= QUANTILES else 0
    flat, time_us, start, stop = (_plain(array) for array in (matrix, time_us, start, stop))
    with np.errstate(all="ignore"):  # without the jit numpy would warn of infinite samples
        _reduce(
            flat.reshape(-1),
            time_us,
            start,
            stop,
            what,
            out,
            np.empty(whole),
            np.empty(whole),
            np.empty(g, np.int64),
            np.empty(g),
            np.empty(longest),
            np.empty(longest, np.int64),
            WANTED,
            np.empty((2, size)),
            np.empty((2, size), np.uint8),
            np.empty((3, BINS), np.int64),
            np.empty((2, BINS)),
        )
    return out
