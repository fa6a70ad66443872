"""The values of one S6F1, flattened into float64 in a single pass.

Depth first; each element of an array item is one position; an empty item or list is one NULL. What a double can't say exactly
stands beside in ``sides``: (message, position, kind of side, offset or bits, length).
"""

from __future__ import annotations

import numpy as np

from kernels.jit import inlined, leaf
from kernels.loads import BLOCK, F4_ITEM, be16, be32, be64, f4_block, f4_narrow_block, float_of_32, float_of_64, sbe64
from kernels.missing import NAN_BITS, NULL_BITS
from kernels.secs_items import (
    BINARY,
    BOOLEAN,
    FLOAT,
    JIS,
    KIND,
    LIST,
    LOCALIZED,
    NO_SPACE,
    OK,
    SIGNED,
    TEXT,
    TOO_DEEP,
    TRAILING_BYTES,
    UNSIGNED,
    WIDTH,
    content_fault,
    item_header,
)
from kernels.secs_shapes import signed_at, unsigned_at
from kernels.secs_text import NOT_NUMBER, NUMBER, parse_number

SIDE_TEXT, SIDE_JIS, SIDE_LOCALIZED, SIDE_SIGNED, SIDE_UNSIGNED, SIDE_NUMBER = 1, 2, 3, 4, 5, 6
"""Kinds of side: text as sent, a 64-bit integer beyond 2**53 (its bits), a number whose text needs correct rounding."""

SIDE = 5
EXACT = 1 << 53
F4_HEADER = 0x9104

F8_HEADER, U4_HEADER, I4_HEADER, U2_HEADER, I2_HEADER, U1_HEADER = 0x8108, 0xB104, 0x7104, 0xA902, 0x6902, 0xA501

NULL_VALUE = np.array([NULL_BITS], np.int64).view(np.float64)[0]
NAN_VALUE = np.array([NAN_BITS], np.int64).view(np.float64)[0]


@inlined
def f4_run(buf, p, count, values, at):
    """Convert F4 items of one element from ``p`` on, at most ``count``; return how many. Their bytes are within the buffer."""
    done = np.int64(0)
    while done + BLOCK <= count and f4_block(buf, p, values, at):
        p += F4_ITEM * BLOCK
        at += BLOCK
        done += BLOCK
    while done < count and be16(buf, p) == F4_HEADER:
        value = np.float64(float_of_32(be32(buf, p + 2)))
        values[at] = NAN_VALUE if np.isnan(value) else value
        p += 6
        at += 1
        done += 1
    return done


@inlined
def number_at(buf, p, kind, width):
    """Return the element at ``p`` as float64 (canonical NaN)."""
    if kind == FLOAT:
        value = np.float64(float_of_32(be32(buf, p))) if width == 4 else float_of_64(be64(buf, p))
        return NAN_VALUE if np.isnan(value) else value
    if kind == SIGNED:
        return np.float64(signed_at(buf, p, width))
    if width == 8:
        return np.float64(be64(buf, p))
    bits = unsigned_at(buf, p, width)
    if kind == BOOLEAN:
        return 1.0 if bits != 0 else 0.0
    return np.float64(bits)


@inlined
def f4_list(buf, start, stop, narrow, at):
    """Convert the list at ``start``, whose header is sound, if it is of single F4 items to ``stop``; return how many, -1 if it isn't.

    ``narrow`` (float32) has room for as many items as there are; a NaN becomes the canonical one.
    """
    _, p, count = item_header(buf, start, stop)
    if KIND[buf[start]] != LIST or F4_ITEM * count != stop - p:
        return np.int64(-1)
    done = np.int64(0)
    while done + BLOCK <= count:
        if not f4_narrow_block(buf, p + F4_ITEM * done, narrow, at + done):
            return np.int64(-1)
        done += BLOCK
    if done < count and count >= BLOCK:  # once more the last block, with what lies before it
        done = count - BLOCK
        return count if f4_narrow_block(buf, p + F4_ITEM * done, narrow, at + done) else np.int64(-1)
    while done < count:
        if be16(buf, p + F4_ITEM * done) != F4_HEADER:
            return np.int64(-1)
        narrow[at + done] = number_at(buf, p + F4_ITEM * done + 2, FLOAT, 4)
        done += 1
    return count


@leaf
def _add_side(sides, count, message, position, kind, a, b):
    sides[0, count] = message
    sides[1, count] = position
    sides[2, count] = kind
    sides[3, count] = a
    sides[4, count] = b


@leaf
def beyond_exact(bits, kind):
    """Tell whether a 64-bit integer lies beyond what every double says exactly."""
    return bits > EXACT or (bits < -EXACT if kind == SIGNED else bits < 0)


@inlined
def decode_values(buf, start, stop, limits, stack, message, values, at, sides, side):
    """Flatten the item at ``start``, which must end at ``stop``; return (code, values end, sides end).

    ``values`` has room for ``stop - start`` more: no item yields more positions than it has bytes. ``limits`` are (frame bytes,
    depth, children); the item stands at depth 1.
    """
    max_depth = limits[1]
    max_children = limits[2]
    first = at
    p = start
    depth = np.int64(1)
    pending = np.int64(1)
    while True:
        while pending == 0 and depth > 1:
            depth -= 1
            pending = stack[depth]
        if pending == 0:
            break
        if p + 12 <= stop and be16(buf, p) == F4_HEADER and be16(buf, p + F4_ITEM) == F4_HEADER:
            done = f4_run(buf, p, min(pending, (stop - p) // F4_ITEM), values, at)
            p += F4_ITEM * done
            at += done
            pending -= done
            continue
        if p + 10 <= stop:
            # Each branch moves on by a constant: a predicted branch, not a table of widths, tells where the next item begins.
            header = be16(buf, p)
            moved = np.int64(0)
            if header == F4_HEADER:
                values[at] = number_at(buf, p + 2, FLOAT, 4)
                moved = np.int64(6)
            elif header == F8_HEADER:
                values[at] = number_at(buf, p + 2, FLOAT, 8)
                moved = np.int64(10)
            elif header == U4_HEADER:
                values[at] = number_at(buf, p + 2, UNSIGNED, 4)
                moved = np.int64(6)
            elif header == I4_HEADER:
                values[at] = number_at(buf, p + 2, SIGNED, 4)
                moved = np.int64(6)
            elif header == U2_HEADER:
                values[at] = number_at(buf, p + 2, UNSIGNED, 2)
                moved = np.int64(4)
            elif header == I2_HEADER:
                values[at] = number_at(buf, p + 2, SIGNED, 2)
                moved = np.int64(4)
            elif header == U1_HEADER:
                values[at] = number_at(buf, p + 2, UNSIGNED, 1)
                moved = np.int64(3)
            if moved != 0:
                p += moved
                at += 1
                pending -= 1
                continue
        code, content, length = item_header(buf, p, stop)
        if code != OK:
            return code, at, side
        form = np.int64(buf[p])
        code = content_fault(form, content, length, stop, max_children)
        if code != OK:
            return code, at, side
        kind = KIND[form]
        pending -= 1
        width = WIDTH[form]
        if length == width and kind >= BINARY:
            value = number_at(buf, content, kind, width)
            values[at] = value
            p = content + width
            at += 1
            if width == 8 and kind != FLOAT and beyond_exact(sbe64(buf, content), kind):
                if side >= sides.shape[1]:
                    return NO_SPACE, at, side
                _add_side(sides, side, message, at - 1 - first, SIDE_SIGNED if kind == SIGNED else SIDE_UNSIGNED, sbe64(buf, content), 0)
                side += 1
            continue
        if kind == LIST:
            if length == 0:
                values[at] = NULL_VALUE
                at += 1
                p = content
                continue
            if depth >= max_depth:
                return TOO_DEEP, at, side
            stack[depth] = pending
            depth += 1
            pending = length
            p = content
            continue
        p = content + length
        if length == 0:
            values[at] = NULL_VALUE
            at += 1
            continue
        if kind in (TEXT, JIS, LOCALIZED):
            if side >= sides.shape[1]:
                return NO_SPACE, at, side
            found, value = parse_number(buf, content, p) if kind != LOCALIZED else (NOT_NUMBER, 0.0)
            values[at] = value if found == NUMBER else NULL_VALUE
            if found != NUMBER:
                what = SIDE_LOCALIZED if kind == LOCALIZED else SIDE_TEXT if kind == TEXT else SIDE_JIS
                what = what if found == NOT_NUMBER else SIDE_NUMBER
                _add_side(sides, side, message, at - first, what, content, length)
                side += 1
            at += 1
            continue
        for q in range(content, p, width):
            value = number_at(buf, q, kind, width)
            values[at] = value
            if width == 8 and kind != FLOAT and beyond_exact(sbe64(buf, q), kind):
                if side >= sides.shape[1]:
                    return NO_SPACE, at, side
                _add_side(sides, side, message, at - first, SIDE_SIGNED if kind == SIGNED else SIDE_UNSIGNED, sbe64(buf, q), 0)
                side += 1
            at += 1
    if p != stop:
        return TRAILING_BYTES, at, side
    return OK, at, side
