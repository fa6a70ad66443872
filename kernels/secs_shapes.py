"""The shapes of the data messages: where TRID, SMPLN, STIME and the values of an S6F1 lie, and what an S6F11 or S5F1 must look like.

The event shapes trust that the body is one sound item (``check_item``); the S6F1 head doesn't, for it runs before that is known.
"""

from __future__ import annotations

import numpy as np

from kernels.jit import leaf
from kernels.loads import be16, be32, sbe64
from kernels.secs_items import (
    BAD_SHAPE,
    BINARY,
    JIS,
    KIND,
    LIST,
    LOCALIZED,
    NO_VALUES,
    OK,
    SIGNED,
    TEXT,
    UNSIGNED,
    WIDTH,
    content_fault,
    item_header,
)
from kernels.secs_text import parse_int, strip

MAX_ID = 1024
"""Longest text that serves as an id, in bytes."""

HEAD = 8
TRID_TEXT, TRID, TRID_STOP, SMPLN, STIME, STIME_STOP, VALUES, VALUES_LENGTH = range(HEAD)
"""Fields of a head: TRID_TEXT is 1 where TRID is a byte range of text, 2 where TRID holds the bits of a U8, 0 where it's a number."""


@leaf
def signed_at(buf, p, width):
    """Return the two's complement integer of ``width`` bytes at ``p``."""
    if width == 1:
        value = np.int64(buf[p])
        return value - 256 if value > 127 else value
    if width == 2:
        value = np.int64(be16(buf, p))
        return value - 65536 if value > 32767 else value
    if width == 4:
        value = np.int64(be32(buf, p))
        return value - 4294967296 if value > 2147483647 else value
    return sbe64(buf, p)


@leaf
def unsigned_at(buf, p, width):
    """Return the unsigned integer of ``width`` bytes at ``p`` as the int64 with the same bits."""
    if width == 1:
        return np.int64(buf[p])
    if width == 2:
        return np.int64(be16(buf, p))
    if width == 4:
        return np.int64(be32(buf, p))
    return sbe64(buf, p)


@leaf
def _item(buf, p, stop, max_children):
    """Return (OK or BAD_SHAPE, content, length) of the sound item at ``p``."""
    code, content, length = item_header(buf, p, stop)
    if code != OK or content_fault(np.int64(buf[p]), content, length, stop, max_children) != OK:
        return BAD_SHAPE, p, np.int64(0)
    return OK, content, length


@leaf
def s6f1_head(buf, start, stop, max_children, head):
    """Fill ``head`` from L[4] TRID, SMPLN, STIME, SVs; return OK, NO_VALUES or BAD_SHAPE (the SVs themselves are not walked)."""
    code, p, length = _item(buf, start, stop, max_children)
    if code != OK or KIND[buf[start]] != LIST or length != 4:
        return BAD_SHAPE
    code, content, length = _item(buf, p, stop, max_children)
    if code != OK:
        return BAD_SHAPE
    form = np.int64(buf[p])
    kind = KIND[form]
    head[TRID_TEXT] = 0
    if (kind in (UNSIGNED, SIGNED)) and length == WIDTH[form]:
        head[TRID] = signed_at(buf, content, length) if kind == SIGNED else unsigned_at(buf, content, length)
        head[TRID_TEXT] = 2 if kind == UNSIGNED and head[TRID] < 0 else 0
    elif kind in (TEXT, JIS):
        first, last = strip(buf, content, content + length)
        good, value = parse_int(buf, first, last)
        if first == last or last - first > MAX_ID:
            return BAD_SHAPE
        head[TRID_TEXT] = 0 if good else 1
        head[TRID] = value if good else first
        head[TRID_STOP] = last
    else:
        return BAD_SHAPE
    p = content + length
    code, content, length = _item(buf, p, stop, max_children)
    if code != OK:
        return BAD_SHAPE
    form = np.int64(buf[p])
    kind = KIND[form]
    if (kind in (UNSIGNED, SIGNED)) and length == WIDTH[form]:
        head[SMPLN] = signed_at(buf, content, length) if kind == SIGNED else unsigned_at(buf, content, length)
        if kind == UNSIGNED and head[SMPLN] < 0:
            return BAD_SHAPE
    elif kind in (TEXT, JIS):
        first, last = strip(buf, content, content + length)
        good, value = parse_int(buf, first, last)
        if not good or last - first > MAX_ID:
            return BAD_SHAPE
        head[SMPLN] = value
    else:
        return BAD_SHAPE
    p = content + length
    code, content, length = _item(buf, p, stop, max_children)
    if code != OK or (length != 0 and KIND[buf[p]] != TEXT and KIND[buf[p]] != JIS):
        return BAD_SHAPE
    head[STIME] = content
    head[STIME_STOP] = content + length
    p = content + length
    code, content, length = _item(buf, p, stop, max_children)
    if code != OK:
        return BAD_SHAPE
    head[VALUES] = p
    head[VALUES_LENGTH] = length
    if length == 0:
        return NO_VALUES if content == stop else BAD_SHAPE
    kind = KIND[buf[p]]
    return BAD_SHAPE if kind in (TEXT, JIS, LOCALIZED) else OK


@leaf
def _is_id(buf, p, content, length):
    """Tell whether the item can be an id: one integer, or text with something in it."""
    kind = KIND[buf[p]]
    if kind in (UNSIGNED, SIGNED):
        return length == WIDTH[buf[p]]
    if kind in (TEXT, JIS):
        first, last = strip(buf, content, content + length)
        return first < last and last - first <= MAX_ID
    return False


@leaf
def skip_item(buf, start, stop):
    """Return the offset after the sound item at ``start``."""
    p = start
    pending = np.int64(1)
    while pending > 0:
        _, content, length = item_header(buf, p, stop)
        pending -= 1
        if KIND[buf[p]] == LIST:
            pending += length
            p = content
        else:
            p = content + length
    return p


@leaf
def s6f11_shape(buf, start, stop):
    """Return OK where the sound item is L[3] DATAID, CEID, L[a] of L[2] RPTID, L[b] V, else BAD_SHAPE."""
    _, p, length = item_header(buf, start, stop)
    if KIND[buf[start]] != LIST or length != 3:
        return BAD_SHAPE
    _, content, length = item_header(buf, p, stop)
    if length != 0 and not _is_id(buf, p, content, length):
        return BAD_SHAPE
    p = skip_item(buf, p, stop)
    _, content, length = item_header(buf, p, stop)
    if not _is_id(buf, p, content, length):
        return BAD_SHAPE
    p = content + length
    _, content, reports = item_header(buf, p, stop)
    if KIND[buf[p]] != LIST:
        return BAD_SHAPE
    p = content
    for _ in range(reports):
        _, content, length = item_header(buf, p, stop)
        if KIND[buf[p]] != LIST or length != 2:
            return BAD_SHAPE
        p = content
        _, content, length = item_header(buf, p, stop)
        if not _is_id(buf, p, content, length):
            return BAD_SHAPE
        p = content + length
        if KIND[buf[p]] != LIST:
            return BAD_SHAPE
        p = skip_item(buf, p, stop)
    return OK


@leaf
def s5f1_shape(buf, start, stop):
    """Return OK where the sound item is L[3] ALCD (one byte), ALID (an id), ALTX (text), else BAD_SHAPE."""
    _, p, length = item_header(buf, start, stop)
    if KIND[buf[start]] != LIST or length != 3:
        return BAD_SHAPE
    _, content, length = item_header(buf, p, stop)
    kind = KIND[buf[p]]
    if length != 1 or not (kind == BINARY or (kind == UNSIGNED and WIDTH[buf[p]] == 1)):
        return BAD_SHAPE
    p = content + length
    _, content, length = item_header(buf, p, stop)
    if not _is_id(buf, p, content, length):
        return BAD_SHAPE
    p = content + length
    kind = KIND[buf[p]]
    _, content, length = item_header(buf, p, stop)
    return OK if kind in (TEXT, JIS, LOCALIZED) or length == 0 else BAD_SHAPE
