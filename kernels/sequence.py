"""Sequence keys against the runs of a stream.

A run is a stretch of records without a gap in (time, seq) order; a stream's runs are disjoint in that order. A key that lies in no
run is new; a key inside a run is looked up. Shapes: ``n`` records sorted by (time, seq), ``r`` runs in the same order. ``step``
tells what follows without a gap: ``COUNTER`` (seq + 1), ``ANY`` (a sparse time: everything), or a largest time step in microseconds.
"""

from __future__ import annotations

import numpy as np

from kernels.jit import kernel

COUNTER = -1
ANY = 0


@kernel
def covered(time, seq, time_lo, seq_lo, time_hi, seq_hi):
    """Return for each of ``n`` records the index of the run whose span holds it, or -1.

    All inputs int64; both sides sorted by (time, seq). One merge pass, O(n + r).
    """
    n, r = len(time), len(time_lo)
    out = np.full(n, -1, np.int64)
    j = 0
    for i in range(n):
        t, s = time[i], seq[i]
        while j < r and (time_hi[j] < t or (time_hi[j] == t and seq_hi[j] < s)):
            j += 1
        if j == r:
            break
        if time_lo[j] < t or (time_lo[j] == t and seq_lo[j] <= s):
            out[i] = j
    return out


@kernel
def merge_runs(time, seq, time_lo, seq_lo, time_hi, seq_hi, step):
    """Return the runs (r', 4) int64 (time_lo, seq_lo, time_hi, seq_hi) after adding ``n`` new records that lie in no run."""
    n, r = len(time), len(time_lo)
    out = np.empty((n + r, 4), np.int64)
    m, i, j = 0, 0, 0
    while i < n or j < r:
        if j == r or (i < n and (time[i] < time_lo[j] or (time[i] == time_lo[j] and seq[i] < seq_lo[j]))):
            a, b, c, d = time[i], seq[i], time[i], seq[i]
            i += 1
        else:
            a, b, c, d = time_lo[j], seq_lo[j], time_hi[j], seq_hi[j]
            j += 1
        if m > 0 and ((step == COUNTER and b == out[m - 1, 3] + 1) or step == ANY or (step > 0 and a - out[m - 1, 2] <= step)):
            out[m - 1, 2] = c
            out[m - 1, 3] = d
        else:
            out[m, 0], out[m, 1], out[m, 2], out[m, 3] = a, b, c, d
            m += 1
    return out[:m].copy()


@kernel
def is_sorted(stream, time, seq):
    """Tell whether ``n`` records are sorted by (stream, time, seq)."""
    for i in range(1, len(stream)):
        if stream[i] != stream[i - 1]:
            if stream[i] < stream[i - 1]:
                return False
        elif time[i] < time[i - 1] or (time[i] == time[i - 1] and seq[i] < seq[i - 1]):
            return False
    return True


@kernel
def same_as_previous(stream, time, seq):
    """Return for each of ``n`` sorted records whether its key is that of the record before it."""
    out = np.zeros(len(stream), np.bool_)
    for i in range(1, len(stream)):
        out[i] = stream[i] == stream[i - 1] and time[i] == time[i - 1] and seq[i] == seq[i - 1]
    return out


@kernel
def same_content(left, left_start, left_count, right, right_start, right_count):
    """Return for each of ``p`` pairs whether both records hold the same bits.

    ``left``, ``right``: int64 views of the values (NaN canonical); starts and counts (p,).
    """
    out = np.zeros(len(left_start), np.bool_)
    for i in range(len(left_start)):
        if left_count[i] != right_count[i]:
            continue
        same = True
        a, b = left_start[i], right_start[i]
        for k in range(left_count[i]):
            if left[a + k] != right[b + k]:
                same = False
                break
        out[i] = same
    return out


@kernel
def find_keys(time, seq, in_time, in_seq):
    """Return for each of ``n`` keys its index in ``in_time``, ``in_seq`` (both sides sorted by (time, seq)), or -1."""
    out = np.full(len(time), -1, np.int64)
    j = 0
    for i in range(len(time)):
        while j < len(in_time) and (in_time[j] < time[i] or (in_time[j] == time[i] and in_seq[j] < seq[i])):
            j += 1
        if j < len(in_time) and in_time[j] == time[i] and in_seq[j] == seq[i]:
            out[i] = j
    return out
