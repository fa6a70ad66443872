"""Linear quantiles by selection: a histogram finds the few samples between which they lie, and only these are ordered."""

from __future__ import annotations

import numpy as np

from kernels.jit import leaf

BINS = 256
FEW = 64
"""Up to here a partition costs less than a histogram."""


@leaf
def select(a, lo, hi, k):
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


@leaf
def _bin(x, n, low, high, place, count, one):
    """Sort ``n`` samples into equal bins from ``low`` to ``high``; tell whether the two lie apart so far that there are any.

    ``place`` (n,) takes each sample's bin, ``count`` (BINS,) the number in each, ``one`` (BINS,) a sample of each.
    """
    scale = (BINS - 1) / (high - low)
    if not 0.0 < scale < np.inf:
        return False
    for i in range(n):
        place[i] = np.uint8(np.int32((x[i] - low) * scale))
    for b in range(BINS):
        count[b] = 0
    for i in range(n):
        b = place[i]
        count[b] += 1
        one[b] = x[i]
    return True


@leaf
def _bins_of(count, n, k):
    """Return the bins of the order statistics ``k`` and ``k + 1`` of ``n`` samples (of the last: its own), and ``k``'s rank there."""
    b, below = 0, 0
    while below + count[b] <= k:
        below += count[b]
        b += 1
    after = b
    if k + 1 < n and below + count[b] == k + 1:
        after += 1
        while count[after] == 0:
            after += 1
    return b, after, k - below


@leaf
def _narrow(z, c, k, place, count, one):
    """Keep of ``z[:c]`` the bins of the order statistics ``k`` and ``k + 1`` until they are few; return how many, and ``k``'s rank."""
    while c > FEW:
        low, high = z[0], z[0]
        for i in range(1, c):
            if z[i] < low:  # noqa: PLR1730  (a branch that is rarely taken costs less than a chain of minima)
                low = z[i]
            if z[i] > high:  # noqa: PLR1730
                high = z[i]
        if not _bin(z, c, low, high, place, count, one):
            break
        b, after, k = _bins_of(count, c, k)
        m = 0
        for i in range(c):
            z[m] = z[i]
            m += (place[i] == b) | (place[i] == after)
        if m == c:
            break
        c = m
    return c, k


@leaf
def quantiles_linear(x, n, low, high, wanted, room, places, counts, ones, out):
    """Write the quantiles ``wanted`` (q,) of ``x[:n]``, whose least and greatest are ``low`` < ``high``, to ``out`` (q,).

    ``room`` float64 and ``places`` uint8, each (2, n), ``counts`` int64 (3, BINS), ``ones`` float64 (2, BINS): room to work in.
    """
    y, z = room[0], room[1]
    place, count, one, held = places[0], counts[0], ones[0], counts[2]
    binned = _bin(x, n, low, high, place, count, one)
    m = 0
    if binned:
        for b in range(BINS):
            held[b] = 0
        for q in range(len(wanted)):
            b, after, _ = _bins_of(count, n, int((n - 1) * wanted[q]))
            held[b] = 1
            held[after] = 1
        for i in range(n):
            v, b = x[i], place[i]
            y[m] = v
            place[m] = b
            m += held[b] & (v != one[b])
    for q in range(len(wanted)):
        exact = (n - 1) * wanted[q]
        rank = int(exact)
        weight = exact - rank
        c = 0
        if binned:
            b, after, rank = _bins_of(count, n, rank)
            below, above = one[b], one[after]
            first = 0
            for i in range(m):
                z[c] = y[i]
                c += (place[i] == b) | (place[i] == after)
                first += place[i] == b
            if c > 0:  # of a quantised sensor nothing differs from its bin's one sample, and nothing remains to be ordered
                ends = c + count[b] - first, c + count[b] - first + (count[after] - (c - first) if after != b else 0)
                while c < ends[0]:
                    z[c] = below
                    c += 1
                while c < ends[1]:
                    z[c] = above
                    c += 1
        else:
            while c < n:
                z[c] = x[c]
                c += 1
        if c > 0:
            c, rank = _narrow(z, c, rank, places[1], counts[1], ones[1])
            select(z, 0, c - 1, rank)
            below = z[rank]
            above = below
            if rank + 1 < c:
                above = z[rank + 1]
                for i in range(rank + 2, c):
                    above = min(above, z[i])
        # numpy's two ways, to the bit
        gap = above - below
        out[q] = below if weight == 0.0 else above - gap * (1.0 - weight) if weight >= 0.5 else below + gap * weight
