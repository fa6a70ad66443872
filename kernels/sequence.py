"""Sequence keys against the runs of their streams.

A run is a stretch of records without a gap in (time, seq) order; a stream's runs are disjoint in that order. A key that lies in no
run is new; a key inside a run is looked up. Shapes: ``n`` records, ``r`` runs sorted by (stream, time, seq), (r, 4) int64 (time_lo,
seq_lo, time_hi, seq_hi), and the stream of each; streams are int32, times and numbers int64. A stream's ``step`` tells what follows
without a gap: ``COUNTER`` (seq + 1), ``ANY`` (a sparse time: everything), or a largest time step in microseconds.

Records are taken as they arrive: one beyond its stream's last run is new without a look at anything else (``advance``). Only the others,
the late ones, are matched against the runs (``covered``), and only those of them that lie in no run are sorted (``order_keys``) and merged
(``merge_runs``).
"""

from __future__ import annotations

import numpy as np

from kernels.jit import kernel

COUNTER = -1
ANY = 0
UNBEGUN = -2
"""The step of a stream without a run: nothing follows nothing."""
LOWEST = np.iinfo(np.int64).min


@kernel
def order_keys(stream, time, seq):
    """Sort ``n`` records of any order by (stream, time, seq), equal keys as they came: return (order int64, streams, times, numbers).

    O(n) where records come in order within their stream; the ``m`` that come late cost O(m log m).
    """
    n, streams = len(stream), 0
    for i in range(n):
        streams = max(streams, stream[i] + 1)
    place = np.zeros(streams + 1, np.int64)
    for i in range(n):
        place[stream[i] + 1] += 1
    for s in range(streams):
        place[s + 1] += place[s]
    order, t, q, name = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int32)
    late, other = np.empty(n, np.int64), np.empty(n, np.int64)
    for i in range(n):
        k = place[stream[i]]
        order[k], t[k], q[k], name[k] = i, time[i], seq[i], stream[i]
        place[stream[i]] = k + 1
    end = 0
    for s in range(streams):
        begin, end = end, place[s]
        # A record is late if one before it has a greater key: the others are in order as they stand.
        kept, m = begin, 0
        for k in range(begin, end):
            if kept > begin and (t[k] < t[kept - 1] or (t[k] == t[kept - 1] and q[k] < q[kept - 1])):
                late[m] = order[k]
                m += 1
            else:
                order[kept], t[kept], q[kept] = order[k], t[k], q[k]
                kept += 1
        width = 1
        while width < m:
            for a in range(0, m, 2 * width):
                i, j = a, min(a + width, m)
                middle, stop = j, min(a + 2 * width, m)
                for k in range(a, stop):
                    x, y = late[min(i, middle - 1)], late[min(j, stop - 1)]
                    if i < middle and (j == stop or time[x] < time[y] or (time[x] == time[y] and seq[x] <= seq[y])):
                        other[k] = x
                        i += 1
                    else:
                        other[k] = y
                        j += 1
            late, other = other, late
            width *= 2
        k, kept = end - 1, kept - 1
        for j in range(m - 1, -1, -1):
            i = late[j]
            while kept >= begin and (t[kept] > time[i] or (t[kept] == time[i] and q[kept] > seq[i])):
                order[k], t[k], q[k] = order[kept], t[kept], q[kept]
                kept -= 1
                k -= 1
            order[k], t[k], q[k] = i, time[i], seq[i]
            k -= 1
    return order, name, t, q


@kernel
def advance(stream, time, seq, run_stream, runs, step):
    """Take ``n`` records in order of arrival into the runs, all but the late ones: those not above the last run of their stream.

    Return (the ``m`` late ones: their indices int64, streams, times, numbers; the runs: streams (r',) int32, runs (r', 4), and begin
    int64 (s + 1,), where each stream's runs begin). ``step``: int64 by stream, for all ``s`` streams. O(n + r + s), nothing is sorted.
    """
    n, r, streams = len(stream), len(runs), len(step)
    first = np.full((streams, 2), LOWEST, np.int64)
    # Of each stream, in one line of the cache: its last time, and the number that follows if it counts (LOWEST: it does not).
    ahead = np.full((streams, 2), LOWEST, np.int64)
    last = np.full(streams, LOWEST, np.int64)
    far = np.full(streams, UNBEGUN, np.int64)
    begin = np.zeros(streams + 1, np.int64)
    for j in range(r):
        s = run_stream[j]
        first[s, 0], first[s, 1], ahead[s, 0], last[s] = runs[j, 0], runs[j, 1], runs[j, 2], runs[j, 3]
        far[s] = step[s]
        ahead[s, 1] = runs[j, 3] + 1 if far[s] == COUNTER else LOWEST
        begin[s + 1] += 1
    late, late_stream = np.empty(n, np.int64), np.empty(n, np.int32)
    late_time, late_seq = np.empty(n, np.int64), np.empty(n, np.int64)
    ended, ended_stream = np.empty((n, 4), np.int64), np.empty(n, np.int32)
    m, c = 0, 0
    i = -1
    while True:
        i += 1
        # What counts on: a loop of its own, or its few values would not stay in registers.
        while i < n:
            s, t, q = np.uint32(stream[i]), time[i], seq[i]
            if (q != ahead[s, 1]) | (t < ahead[s, 0]) | (q == LOWEST):
                break
            ahead[s, 0], ahead[s, 1] = t, q + 1
            i += 1
        if i == n:
            break
        s, t, q = np.uint32(stream[i]), time[i], seq[i]
        longest = far[s]
        a, b = ahead[s, 0], ahead[s, 1] - 1 if longest == COUNTER else last[s]
        if t < a or (t == a and q <= b):
            late[m], late_stream[m], late_time[m], late_seq[m] = i, s, t, q
            m += 1
            continue
        if not (longest == ANY or (longest > 0 and t - a <= longest)):
            if longest == UNBEGUN:
                far[s] = step[s]
            else:
                ended[c, 0], ended[c, 1], ended[c, 2], ended[c, 3] = first[s, 0], first[s, 1], a, b
                ended_stream[c] = s
                c += 1
            first[s, 0], first[s, 1] = t, q
            begin[s + 1] += 1
        ahead[s, 0], ahead[s, 1], last[s] = t, q + 1 if far[s] == COUNTER else LOWEST, q
    for s in range(streams):
        begin[s + 1] += begin[s]
    out, out_stream, place = np.empty((begin[streams], 4), np.int64), np.empty(begin[streams], np.int32), begin[:streams].copy()
    # A stream's last run may have grown: it comes at the end, with those that ended and the one that lasts.
    for j in range(r + c):
        s = run_stream[j] if j < r else ended_stream[j - r]
        if j < r and (j + 1 == r or run_stream[j + 1] != s):
            continue
        k = place[s]
        for e in range(4):
            out[k, e] = runs[j, e] if j < r else ended[j - r, e]
        place[s] = k + 1
    for s in range(streams):
        for k in range(begin[s], begin[s + 1]):
            out_stream[k] = s
        if begin[s] < begin[s + 1]:
            k = begin[s + 1] - 1
            number = ahead[s, 1] - 1 if far[s] == COUNTER else last[s]
            out[k, 0], out[k, 1], out[k, 2], out[k, 3] = first[s, 0], first[s, 1], ahead[s, 0], number
    return late[:m], late_stream[:m], late_time[:m], late_seq[:m], out_stream, out, begin


@kernel
def covered(stream, time, seq, begin, runs):
    """Return for each of ``n`` records, in any order, the index of the run whose span holds it, or -1; O(n log r).

    ``begin``: int64 (s + 1,), where each stream's runs begin.
    """
    out = np.full(len(time), -1, np.int64)
    for i in range(len(time)):
        s, t, q = stream[i], time[i], seq[i]
        j, count = begin[s], begin[s + 1] - begin[s]
        if count == 0:
            continue
        # The last run that does not begin above the key is the only one that may hold it; a step without a branch.
        while count > 1:
            half = count >> 1
            k = j + half
            below = (runs[k, 0] < t) | ((runs[k, 0] == t) & (runs[k, 1] <= q))
            j = k if below else j
            count -= half
        if (runs[j, 0] < t or (runs[j, 0] == t and runs[j, 1] <= q)) and (runs[j, 2] > t or (runs[j, 2] == t and runs[j, 3] >= q)):
            out[i] = j
    return out


@kernel
def merge_runs(stream, time, seq, run_stream, runs, step):
    """Return (streams (r',) int32, runs (r', 4)) after adding ``n`` new records that lie in no run; ``step`` int64 by stream."""
    n, r = len(time), len(runs)
    out, out_stream = np.empty((n + r, 4), np.int64), np.empty(n + r, np.int32)
    m, i, j = 0, 0, 0
    while i < n or j < r:
        first = j == r
        if i < n and not first:
            if stream[i] != run_stream[j]:
                first = stream[i] < run_stream[j]
            else:
                first = time[i] < runs[j, 0] or (time[i] == runs[j, 0] and seq[i] < runs[j, 1])
        if i < n and first:
            s, a, b, c, d = stream[i], time[i], seq[i], time[i], seq[i]
            i += 1
        else:
            s, a, b, c, d = run_stream[j], runs[j, 0], runs[j, 1], runs[j, 2], runs[j, 3]
            j += 1
        joined = False
        if m > 0 and out_stream[m - 1] == s:
            far = step[s]
            joined = (far == COUNTER and b == out[m - 1, 3] + 1) or far == ANY or (far > 0 and a - out[m - 1, 2] <= far)
        if joined:
            out[m - 1, 2] = c
            out[m - 1, 3] = d
        else:
            out[m, 0], out[m, 1], out[m, 2], out[m, 3] = a, b, c, d
            out_stream[m] = s
            m += 1
    return out_stream[:m].copy(), out[:m].copy()


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
