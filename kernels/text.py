"""Rows and fields of delimited text: the scanner, and dictionary encoding of fields.

Shapes: ``n`` rows, ``w`` fields in a row (the width), ``o`` odd rows. Fields are half-open byte ranges ``[starts, stops)`` into a uint8
buffer, stored row after row: field ``c`` of row ``r`` is entry ``r * w + c``. Quoting follows RFC 4180: a field that begins with the quote
character ends at the next lone one; a doubled one stands for itself; delimiters and line ends inside are text.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.jit import inline, kernel

UInt8 = npt.NDArray[np.uint8]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

BLANK, WRONG_COUNT, BAD_QUOTE, TOO_LONG, TAIL = 1, 2, 3, 4, 5
"""Kinds of odd rows: nothing but blanks; not ``w`` fields; broken quoting; over the limit; cut off by the payload's end."""

RUNS = -2
"""``delimiter`` of a table whose fields are parted by runs of spaces and tabs."""

COUNT = -1
"""``width`` of a scan that only counts: every row is reported as odd, with its number of fields."""

_LF, _CR, _SPACE, _TAB = 10, 13, 32, 9


@inline
def _find(buffer: UInt8, begin: int, stop: int, byte: int) -> int:
    """Return the first position of ``byte`` in ``[begin, stop)``, or ``stop``."""
    while begin < stop and buffer[begin] != byte:
        begin += 1
    return begin


@inline
def _close_quote(buffer: UInt8, begin: int, stop: int, quote: int) -> tuple[int, bool]:
    """Return where the quoted text from ``begin`` is closed (``stop`` if it is not), and whether a doubled quote was met."""
    doubled = False
    while begin < stop:
        if buffer[begin] == quote:
            if begin + 1 < stop and buffer[begin + 1] == quote:
                doubled = True
                begin += 2
                continue
            return begin, doubled
        begin += 1
    return stop, doubled


@kernel
def scan_rows(
    buffer: UInt8,
    begin: int,
    stop: int,
    final: bool,
    inside: bool,
    delimiter: int,
    quote: int,
    line_end: int,
    width: int,
    limit: int,
    starts: Int32,
    stops: Int32,
    row_start: Int32,
    row_stop: Int32,
    odd: Int32,
) -> tuple[int, int, int, bool, bool]:
    """Cut ``buffer[begin:stop]`` into rows and fields; stop at a row that needs more bytes or when an output is full.

    Sound rows go to ``starts``, ``stops`` (both ``n * w``) and ``row_start``, ``row_stop`` (``n``; a row includes its line end), all others
    to ``odd`` (``o`` x 4: kind, start, stop, fields found). ``final``: the payload ends at ``stop``. ``inside``: ``begin`` lies within a
    line over the limit. ``quote`` is -1 for none. A line over ``limit`` bytes is cut into TOO_LONG pieces of ``limit``.
    Broken quoting condemns the first physical line only, so a stray quote never swallows its neighbours.

    Returns (sound rows, odd rows, position reached, inside, whether any field holds a doubled quote).
    """
    n = 0
    m = 0
    at = begin
    escaped = False
    runs = delimiter == RUNS
    first = _SPACE if runs else delimiter
    second = _TAB if runs else delimiter
    blank = _SPACE if delimiter == _TAB else _TAB
    while at < stop and n < row_start.shape[0] and m < odd.shape[0]:
        if inside:
            i = _find(buffer, at, min(stop, at + limit), line_end)
            if i == stop and not final and stop - at < limit:
                break
            inside = i == min(stop, at + limit)
            i += 0 if inside else 1
            odd[m, 0], odd[m, 1], odd[m, 2], odd[m, 3] = TOO_LONG, at, i, 0
            m += 1
            at = i
            continue
        horizon = min(stop, at + limit)
        cell = n * max(width, 0)
        fields = 0
        inner_end = -1  # the first line end inside quotes
        broken = False
        ended = False  # the row's own line end was met, at i
        quoted = False
        i = at
        while True:
            if runs:
                while i < horizon and (buffer[i] == _SPACE or buffer[i] == _TAB or (buffer[i] == _CR and line_end == _LF)):
                    i += 1
                if i == horizon:
                    break
                if buffer[i] == line_end:
                    ended = True
                    break
            begun = i
            if quote >= 0 and i < horizon and (buffer[i] == quote or buffer[i] == _SPACE):
                j = i
                while j < horizon and buffer[j] == _SPACE and not runs:
                    j += 1
                if j < horizon and buffer[j] == quote:
                    quoted = True
                    begun = j + 1
                    i, doubled = _close_quote(buffer, begun, horizon, quote)
                    if inner_end < 0:
                        j = _find(buffer, begun, i, line_end)
                        inner_end = j if j < i else -1
                    if i == horizon or (i + 1 == horizon and not (final and horizon == stop)):
                        broken = True
                        i = horizon
                        break
                    escaped = escaped or doubled
                    closed = i
                    i += 1
                    while i < horizon and not runs and (buffer[i] == _SPACE or buffer[i] == _CR) and buffer[i] != line_end:
                        i += 1
                    if runs and i < horizon and buffer[i] == _CR and line_end == _LF:
                        i += 1
                    if i < horizon and buffer[i] != first and buffer[i] != second and buffer[i] != line_end:
                        broken = True
                        break
                    if fields < width:
                        starts[cell + fields] = begun
                        stops[cell + fields] = closed
                    fields += 1
                    if i == horizon:
                        break
                    if buffer[i] == line_end:
                        ended = True
                        break
                    i += 1
                    continue
            while i < horizon:
                byte = buffer[i]
                if byte == line_end or (byte == first) | (byte == second):
                    break
                i += 1
            if fields < width:
                starts[cell + fields] = begun
                stops[cell + fields] = i
            fields += 1
            if i == horizon:
                break
            if buffer[i] == line_end:
                ended = True
                break
            i += 1

        if broken and i < horizon:  # text after a closing quote: the verdict stands, look for the physical line's end
            if inner_end < 0:
                i = _find(buffer, i, horizon, line_end)
                inner_end = i if i < horizon else -1
        elif broken and not final and stop - at <= limit:
            break
        if inner_end >= 0 and (broken or (not ended and stop - at > limit)):
            odd[m, 0], odd[m, 1], odd[m, 2], odd[m, 3] = BAD_QUOTE, at, inner_end + 1, fields
            m += 1
            at = inner_end + 1
            continue
        if not ended or broken:
            if stop - at > limit:
                inside = True
                odd[m, 0], odd[m, 1], odd[m, 2], odd[m, 3] = TOO_LONG, at, at + limit, fields
                m += 1
                at += limit
                continue
            if not final:
                break
        row_end = i + 1 if ended else i
        if fields <= 1 and not quoted:
            j = at
            while j < i and (buffer[j] == _SPACE or buffer[j] == blank or buffer[j] == _CR or buffer[j] == _LF):
                j += 1
            if j == i:
                odd[m, 0], odd[m, 1], odd[m, 2], odd[m, 3] = BLANK, at, row_end, 0
                m += 1
                at = row_end
                continue
        if fields == width and not broken:
            row_start[n] = at
            row_stop[n] = row_end
            n += 1
            at = row_end
            continue
        kind = WRONG_COUNT if ended or width == COUNT else TAIL
        if width != COUNT and inner_end >= 0:
            kind = BAD_QUOTE
            row_end = inner_end + 1
        odd[m, 0], odd[m, 1], odd[m, 2], odd[m, 3] = kind, at, row_end, fields
        m += 1
        at = row_end
    return n, m, at, inside, escaped


@kernel
def unescape(buffer: UInt8, starts: Int32, stops: Int32, cells: int, quote: int) -> None:
    """Replace, in place, doubled quotes by one in the first ``cells`` fields that are quoted, and shorten them."""
    for cell in range(cells):
        begin = starts[cell]
        if begin == 0 or buffer[begin - 1] != quote:
            continue
        out = begin
        i = begin
        while i < stops[cell]:
            buffer[out] = buffer[i]
            i += 2 if buffer[i] == quote else 1
            out += 1
        stops[cell] = out


@kernel
def equal_rows(buffer: UInt8, row_start: Int32, row_stop: Int32, n: int, line: UInt8, out: npt.NDArray[np.bool_]) -> int:
    """Mark the rows whose bytes before the line end are ``line``; return how many there are."""
    found = 0
    for row in range(n):
        begin = row_start[row]
        stop = row_stop[row]
        while stop > begin and (buffer[stop - 1] == _LF or buffer[stop - 1] == _CR):
            stop -= 1
        same = stop - begin == line.shape[0]
        i = 0
        while same and i < line.shape[0]:
            same = buffer[begin + i] == line[i]
            i += 1
        out[row] = same
        found += same
    return found


@inline
def strip(buffer: UInt8, begin: int, stop: int) -> tuple[int, int]:
    """Return ``[begin, stop)`` without bytes up to 32 (space) at either side."""
    while begin < stop and buffer[begin] <= _SPACE:
        begin += 1
    while stop > begin and buffer[stop - 1] <= _SPACE:
        stop -= 1
    return int(begin), int(stop)


@inline
def same(buffer: UInt8, one: int, one_stop: int, other: int, other_stop: int) -> bool:
    """Tell whether two fields hold the same bytes."""
    equal = one_stop - one == other_stop - other
    while equal and one < one_stop:
        equal = buffer[one] == buffer[other]
        one += 1
        other += 1
    return equal


@kernel
def encode(buffer: UInt8, starts: Any, stops: Any, width: int, column: int, codes: Int64, firsts: Int64) -> int:
    """Give numbers to the distinct stripped texts of one column in order of appearance; return how many there are.

    ``codes`` (``n``) receives each row's number, ``firsts`` (room for ``n``) the row in which each number appears first.
    """
    n = codes.shape[0]
    size = 16
    while size < 2 * n:
        size *= 2
    slots = np.full(size, -1, np.int64)
    count = 0
    last = -1
    last_begin = 0
    last_stop = 0
    for row in range(n):
        begin, stop = strip(buffer, starts[row * width + column], stops[row * width + column])
        if last >= 0 and same(buffer, begin, stop, last_begin, last_stop):
            codes[row] = last
            continue
        mixed = 0x811C9DC5
        for i in range(begin, stop):
            mixed = ((mixed ^ int(buffer[i])) * 0x01000193) & 0xFFFFFFFF
        slot = (mixed ^ (mixed >> 15)) & (size - 1)
        while True:
            code = slots[slot]
            if code < 0:
                slots[slot] = count
                firsts[count] = row
                code = count
                count += 1
                break
            held = firsts[code] * width + column
            held_begin, held_stop = strip(buffer, starts[held], stops[held])
            if same(buffer, begin, stop, held_begin, held_stop):
                break
            slot = (slot + 1) & (size - 1)
        codes[row] = code
        last, last_begin, last_stop = code, begin, stop
    return count


@kernel
def densify(keys: Int64, codes: Int64, firsts: Int64) -> int:
    """Give numbers to the distinct ``keys`` (``n``) in order of appearance, as ``encode`` does; return how many there are."""
    n = keys.shape[0]
    size = 16
    while size < 2 * n:
        size *= 2
    slots = np.full(size, -1, np.int64)
    count = 0
    for row in range(n):
        if row > 0 and keys[row] == keys[row - 1]:
            codes[row] = codes[row - 1]
            continue
        mixed = int(keys[row])
        mixed = ((mixed ^ (mixed >> 30)) & 0x3FFFFFFF) * 0x9E3779B1
        slot = ((mixed >> 30) ^ mixed) & (size - 1)
        while slots[slot] >= 0 and keys[firsts[slots[slot]]] != keys[row]:
            slot = (slot + 1) & (size - 1)
        if slots[slot] < 0:
            slots[slot] = count
            firsts[count] = row
            count += 1
        codes[row] = slots[slot]
    return count
