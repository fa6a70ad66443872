"""Pages of values: which encoding suits which sensors of a piece, and their bytes before compression (parquet-format, Encodings.md).

One call does a whole piece: Python is asked for its lock once, not for each page and step.
"""

from __future__ import annotations

import math

import numpy as np

from kernels.jit import inline, kernel
from kernels.pages import split_bytes

DICTIONARY_MAX = 4096
SLOTS = 4 * DICTIONARY_MAX
"""Entries of a dictionary, and places of the hash table that finds them."""

HASH_SHIFT = 32 - (SLOTS.bit_length() - 1)
TRIAL = 256
"""New entries that values may bring before they must repeat."""

STREAM_BYTES, TABLE_BYTES_A_SYMBOL, TABLE_BYTES_MAX = 4.0, 0.5, 128.0
"""What a compressed stream needs beside its bytes: a head, and a table of its symbols."""

REPEATS = 16
"""Values take a dictionary where each entry stands for as many of them."""

SAMPLE, SAMPLED = 1_024, 16
"""A trial takes so many values, or one in so many where those are more."""

ENTRIES_UNTRIED, ENTRY_BYTES = 128, 3
"""So many new entries need no trial; each takes so many bytes."""

LOOKED_AT = 256
"""So many values tell whether a sensor's were float32."""

FLOAT32_REST = (1 << 29) - 1
"""The bits of a double that are 0 where it was a float32."""

HEAD_BYTES = 16
"""In front of codes: room for their bits and the head of their run, so that they stand where their type may."""

_MIX = 0x9E37_79B1
"""Knuth's multiplier for 32 bits: the product fits into 64, so that plain Python agrees."""

_WORDS = 0x0000_0000_FFFF_FFFF


@inline
def number_values(bits, entries, slot_of, table, held, limit, codes):
    """Write the codes (int32 (n,)) of ``bits`` in a dictionary that grows into ``codes``, and return its new length.

    ``bits``: uint64 (n,). ``entries``: uint64 (DICTIONARY_MAX,), the dictionary, of which ``held`` are set; ``slot_of``: int64, beside it,
    where ``table`` (int16 (SLOTS,), -1 where free) holds each. Where more than ``limit`` entries would be new, or the values hardly
    repeat, the dictionary stays as it was and -1 returns.
    """
    size = held
    for i in range(len(bits)):
        value = bits[i]
        folded = (value ^ (value >> np.uint64(32))) & np.uint64(_WORDS)
        slot = np.int64((folded * np.uint64(_MIX)) >> np.uint64(HASH_SHIFT)) & (SLOTS - 1)
        code = np.int64(table[slot])
        while code >= 0 and entries[code] != value:
            slot = (slot + 1) & (SLOTS - 1)
            code = np.int64(table[slot])
        if code < 0:
            if size == DICTIONARY_MAX or size - held >= min(limit, TRIAL + i // 2):
                while size > held:  # the newest first, so that no chain of slots breaks
                    size -= 1
                    table[slot_of[size]] = -1
                return -1
            code = size
            entries[code] = value
            slot_of[code] = slot
            table[slot] = code
            size += 1
        codes[i] = code
    return size


@inline
def coded_size(data, planes):
    """Return about how many bytes zstd's entropy coder makes of ``data`` (uint8 (n,)) with a table for each of ``planes`` streams of bytes.

    Byte ``i`` belongs to stream ``i % planes``. What matches would save is not looked for. Source of the tables' sizes: RFC 8878, measured.
    """
    n = len(data) // planes
    counts = np.zeros((planes, 256), np.int64)
    for i in range(n):
        for plane in range(planes):
            counts[plane, data[i * planes + plane]] += 1
    whole = 0.0
    for plane in range(planes):
        used, rest = 0, 0.0
        for value in range(256):
            count = counts[plane, value]
            if count > 0:
                used += 1
                rest += count * math.log2(count)
        coded = (n * math.log2(max(1, n)) - rest) / 8 + min(used * TABLE_BYTES_A_SYMBOL, TABLE_BYTES_MAX)
        whole += STREAM_BYTES + (min(coded, 1.0 * n) if used > 1 else 0.0)
    return whole


def middle(n: int) -> tuple[int, int]:
    """Return where a trial's sample of ``n`` values begins and ends."""
    size = max(SAMPLE, n // SAMPLED)
    first = max(0, n - size) // 2
    return first, min(n, first + size)


_middle = inline(middle)


@inline
def repay(bits, codes, new):
    """Tell whether ``codes`` (int32 (n,)) and ``new`` entries are no larger than the byte streams of ``bits`` (uint64 (n,)).

    The entropy of a sample's bytes tells.
    """
    first, stop = _middle(len(bits))
    sample = bits[first:stop]
    words = codes[first:stop].astype(np.uint16)
    entries = new * ENTRY_BYTES * len(sample) // len(bits)
    return entries + coded_size(words.view(np.uint8), 1) <= coded_size(sample.view(np.uint8), 8)


@inline
def judge(bits, entries, slot_of, table, held, codes):
    """Return the dictionary's new length, with ``codes`` as :func:`number_values` fills them, or -1 where it does not pay."""
    size = number_values(bits, entries, slot_of, table, held, len(bits) // REPEATS, codes)
    if size <= 0:
        return -1
    if size - held > ENTRIES_UNTRIED and not repay(bits, codes, size - held):
        while size > held:  # the newest first, so that no chain of slots breaks
            size -= 1
            table[slot_of[size]] = -1
        return -1
    return size


@inline
def put_codes(codes, body):
    """Write ``codes`` (int32 (n,)) into ``body``, behind their bits, as a bit-packed run of whole bytes; return its place."""
    n = len(codes)
    if n == 0:
        body[0] = 8
        return 0, 1
    most = np.int32(0)
    for i in range(n):
        most = max(most, codes[i])
    groups = (n + 7) // 8
    width = 8 if most < 1 << 8 else 16
    stop = HEAD_BYTES + width * groups
    if width == 8:
        narrow = body[HEAD_BYTES:stop]
        for i in range(n):
            narrow[i] = codes[i]
        narrow[n:] = 0
    else:
        wide = body[HEAD_BYTES:stop].view(np.uint16)
        for i in range(n):
            wide[i] = codes[i]
        wide[n:] = 0
    run = groups << 1 | 1
    length = 1
    while run >> (7 * length):
        length += 1
    start = HEAD_BYTES - length - 1
    body[start] = width
    for i in range(length):
        body[start + 1 + i] = (run >> (7 * i)) & 127 | (128 if i < length - 1 else 0)
    return start, stop


@inline
def were_float32(bits):
    """Tell whether the first values of a sample of ``bits`` (uint64 (n,)) were."""
    first, stop = _middle(len(bits))
    rest = np.uint64(0)
    for i in range(first, min(stop, first + LOOKED_AT)):
        rest |= bits[i]
    return not rest & np.uint64(FLOAT32_REST)


def room(values: int, runs: int) -> int:
    """Return the bytes that :func:`encode_values` may need for so many values in so many runs."""
    return 8 * values + 2 * HEAD_BYTES * (runs + 1)


@kernel
def encode_values(bits, edges, rows, most, entries, slot_of, table, held, codes, body, pages):
    """Fill ``body`` with the pages of runs of values and return the dictionary's new length and the number of pages.

    ``bits``: uint64 (n,), run ``i`` at ``edges[i]`` up to ``edges[i + 1]`` (int64 (r + 1,)); ``rows``: beside it, where it begins with its
    nulls. A run is judged as a whole; a page takes further runs up to ``most`` rows, if they are encoded alike. ``entries``, ``slot_of``,
    ``table``, ``held``: the dictionary, as :func:`number_values` has it. ``codes``: int32 (n,), room. ``body``: uint8, as :func:`room`
    says. ``pages``: int64 (r, 5), a page's first run and the one behind its last, where in ``body`` it begins and ends, and 1 where it
    holds codes, behind their bits; the others are byte streams. One of doubles that were no float32 ends where it begins: the caller
    judges it.
    """
    count = first = at = 0
    size, coded = held, False
    for run in range(len(edges)):
        pays = False
        last = run == len(edges) - 1
        if not last:
            begin, end = edges[run], edges[run + 1]
            grown = judge(bits[begin:end], entries, slot_of, table, size, codes[begin:end])
            pays = grown >= 0
            if pays:
                size = grown
        if run > first and (last or pays != coded or rows[run + 1] - rows[first] > most):
            begin, end = edges[first], edges[run]
            start = stop = 0
            if coded:
                start, stop = put_codes(codes[begin:end], body[at:])
            elif were_float32(bits[begin:end]):
                stop = 8 * (end - begin)
                split_bytes(bits[begin:end], body[at : at + stop])
            pages[count, 0], pages[count, 1], pages[count, 2], pages[count, 3], pages[count, 4] = first, run, at + start, at + stop, coded
            at += 8 * (end - begin) + 2 * HEAD_BYTES
            at -= at % HEAD_BYTES
            first = run
            count += 1
        coded = pays
    return size, count
