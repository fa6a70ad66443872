"""TRIDs seen so far, numbered: a hash table of byte strings that lives in arrays between calls.

An integer TRID is its decimal text, so 7 as U1, as I4 and as "007" are one trace.
"""

from __future__ import annotations

import numpy as np

from kernels.jit import inlined, leaf, lean_kernel
from kernels.secs_shapes import MAX_ID, TRID, TRID_STOP, TRID_TEXT

SMALL = 1024
"""TRIDs below are found without hashing."""
SCRATCH = MAX_ID + 32


@leaf
def decimal_text(value, is_unsigned, scratch):
    """Write ``value`` (with ``is_unsigned``: of the uint64 with these bits) as decimal digits; return how many bytes."""
    rest = np.uint64(value) if is_unsigned or value >= 0 else np.uint64(-(value + 1)) + np.uint64(1)
    count = 0
    while True:
        quotient = rest // np.uint64(10)
        scratch[count] = np.uint8(rest - quotient * np.uint64(10) + np.uint64(48))
        count += 1
        rest = quotient
        if rest == np.uint64(0):
            break
    if value < 0 and not is_unsigned:
        scratch[count] = np.uint8(45)
        count += 1
    for i in range(count // 2):
        scratch[i], scratch[count - 1 - i] = scratch[count - 1 - i], scratch[i]
    return count


@leaf
def text_hash(text, start, stop):
    """Return a 31-bit hash (polynomial modulo a prime, which needs no wrapping arithmetic)."""
    value = np.int64(stop - start)
    for i in range(start, stop):
        value = (value * 1_000_003 + np.int64(text[i])) % 2_147_483_647
    return value


@leaf
def intern(text, length, count, pool, starts, slots):
    """Return the number of ``text[:length]``, a new one (= ``count``) where it's unseen, or -1 where the arrays are full."""
    mask = len(slots) - 1
    slot = text_hash(text, 0, length) & mask
    while slots[slot] >= 0:
        known = slots[slot]
        if starts[known + 1] - starts[known] == length:
            same = True
            for i in range(length):
                if pool[starts[known] + i] != text[i]:
                    same = False
                    break
            if same:
                return np.int64(known)
        slot = (slot + 1) & mask
    if 2 * (count + 1) > len(slots) or count + 2 > len(starts) or starts[count] + length > len(pool):
        return np.int64(-1)
    for i in range(length):
        pool[starts[count] + i] = text[i]
    starts[count + 1] = starts[count] + length
    slots[slot] = count
    return np.int64(count)


@inlined
def trace_number(buf, head, count, pool, starts, slots, small, scratch):
    """Return the number of the TRID in ``head``; see ``intern``."""
    kind = head[TRID_TEXT]
    value = head[TRID]
    if kind == 0 and 0 <= value < SMALL:
        if small[value] < 0:
            small[value] = intern(scratch, decimal_text(value, False, scratch), count, pool, starts, slots)
        return np.int64(small[value])
    if kind != 1:
        return intern(scratch, decimal_text(value, kind == 2, scratch), count, pool, starts, slots)
    length = head[TRID_STOP] - value
    for i in range(length):
        scratch[i] = buf[value + i]
    return intern(scratch, length, count, pool, starts, slots)


@lean_kernel
def rehash(count, pool, starts, slots):
    """Enter ``count`` known traces into empty ``slots`` (-1, a power of two of them)."""
    mask = len(slots) - 1
    for i in range(count):
        slot = text_hash(pool, starts[i], starts[i + 1]) & mask
        while slots[slot] >= 0:
            slot = (slot + 1) & mask
        slots[slot] = i
