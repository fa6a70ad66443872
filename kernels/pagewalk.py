"""Where the pages of a Parquet file lie: a walk over the page headers (Thrift's compact protocol), without decoding a page."""

from __future__ import annotations

from kernels.jit import kernel, leaf

BROKEN = -1
"""A header that is none, or a page that ends beyond the end."""

NO_CHECKSUM = -1
SIZE, CHECKSUM = 3, 4
"""Fields of a page header (parquet.thrift): the size of the page as stored, and its CRC-32."""

DEEPEST = 8


@leaf
def _varint(data, at, end):
    """Return (value, where it ends, or BROKEN)."""
    value, shift = 0, 0
    while at < end and shift < 64:
        byte = int(data[at])
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at
    return 0, BROKEN


@leaf
def _header(data, at, end):
    """Return (size of the page, its CRC-32 or NO_CHECKSUM, where the header ends or BROKEN). A page header holds no list."""
    size, checksum, depth, number = -1, NO_CHECKSUM, 1, 0
    while at < end:
        byte = int(data[at])
        at += 1
        if byte == 0:
            depth -= 1
            if depth == 0:
                return size, checksum, at if size >= 0 else BROKEN
            continue
        delta, kind = byte >> 4, byte & 15
        if delta == 0:  # the long form of a field's number: Parquet has no use for it
            break
        if depth == 1:
            number += delta
        if kind in (1, 2):
            continue
        if kind == 12:
            depth += 1
            if depth > DEEPEST:
                break
        elif kind == 3:
            at += 1
        elif kind == 7:
            at += 8
        elif 4 <= kind <= 6 or kind == 8:
            value, at = _varint(data, at, end)
            if at == BROKEN:
                break
            if kind == 8:
                if value < 0 or value > end - at:
                    break
                at += value
            elif depth == 1 and number == SIZE:
                size = value >> 1 if value & 1 == 0 else -1
            elif depth == 1 and number == CHECKSUM:
                checksum = (value >> 1 ^ -(value & 1)) & 0xFFFFFFFF
        else:
            break
    return -1, NO_CHECKSUM, BROKEN


@kernel
def walk_pages(data, at, end, pages):
    """Fill ``pages`` (p, 3) int64 with (start, stop, CRC-32 or NO_CHECKSUM) of the pages that lie on end in ``data`` [at, end).

    Return (number of pages, where the walk ended): ``end`` when all is well; less when ``pages`` is full or no header begins there.
    """
    count = 0
    while at < end and count < len(pages):
        size, checksum, body = _header(data, at, end)
        if body == BROKEN or size > end - body:
            break
        pages[count, 0], pages[count, 1], pages[count, 2] = body, body + size, checksum
        count += 1
        at = body + size
    return count, at
