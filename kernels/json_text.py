"""SECS-II values as canonical JSON: single elements bare, arrays and lists as lists, binary as integers, what is empty as null.

Numbers come out as Python's ``json`` writes them. A float whose shortest text is no plain decimal of few digits comes from a table
that the caller made. ``out`` must have 8 bytes of room per byte of the item; nothing here checks that.
"""

from __future__ import annotations

import numpy as np

from kernels.jit import leaf
from kernels.loads import be32, be64, float_of_32, float_of_64
from kernels.secs_items import BINARY, BOOLEAN, FLOAT, JIS, KIND, LIST, SIGNED, TEXT, UNSIGNED, WIDTH, item_header
from kernels.secs_shapes import signed_at, unsigned_at
from kernels.secs_text import POWERS

ODD = -1
"""In place of an offset: a text whose characters aren't its bytes, which the caller reads."""

PLACES = 8
"""Most decimals of a number that is written here."""

PLAIN_MIN, PLAIN_MAX = 1e-4, 1e15
"""Below and above (16 digits at 1e15), the shortest text has an exponent or more digits than a double says exactly."""

_TEN, _ZERO, _ONE, _DIGIT = np.uint64(10), np.uint64(0), np.uint64(1), np.uint64(48)
_ESCAPES = np.zeros(256, np.uint8)
"""Byte to the letter that follows its backslash; 117 (u): four hexadecimal digits."""
_ESCAPES[:32] = 117
for _byte, _letter in zip(b'\b\t\n\f\r"\\', b'btnfr"\\', strict=True):
    _ESCAPES[_byte] = _letter
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)
_NULL, _TRUE, _FALSE = (np.frombuffer(word, np.uint8) for word in (b"null", b"true", b"false"))


@leaf
def put(out, at, word):
    """Write the bytes of ``word``; return where they end."""
    for i in range(len(word)):
        out[at + i] = word[i]
    return at + len(word)


@leaf
def put_unsigned(out, at, value):
    """Write a uint64 in decimal; return where it ends."""
    count = 1
    rest = value // _TEN
    while rest > _ZERO:
        count += 1
        rest //= _TEN
    for i in range(count):
        out[at + count - 1 - i] = np.uint8(_DIGIT + value % _TEN)
        value //= _TEN
    return at + count


@leaf
def put_signed(out, at, value):
    """Write an int64 in decimal; return where it ends."""
    if value < 0:
        out[at] = 45
        return put_unsigned(out, at + 1, np.uint64(-(value + 1)) + _ONE)
    return put_unsigned(out, at, np.uint64(value))


@leaf
def put_text(out, at, buf, start, stop):
    """Write the bytes as a JSON string; return where it ends."""
    out[at] = 34
    at += 1
    for i in range(start, stop):
        byte = buf[i]
        letter = _ESCAPES[byte]
        if letter == 0:
            out[at] = byte
            at += 1
            continue
        out[at] = 92
        out[at + 1] = letter
        at += 2
        if letter == 117:
            out[at] = 48
            out[at + 1] = 48
            out[at + 2] = _HEX[byte >> 4]
            out[at + 3] = _HEX[byte & 15]
            at += 4
    out[at] = 34
    return at + 1


@leaf
def plain_decimal(value):
    """Return (decimals, digits) of a finite double whose shortest text they are, else (-1, 0).

    A decimal of at most 15 digits that rounds to the double is the only one of its length, so the first found is the shortest.
    """
    size = abs(value)
    if size == 0.0:
        return 0, np.int64(0)
    if size < PLAIN_MIN or size >= PLAIN_MAX:
        return -1, np.int64(0)
    for places in range(PLACES + 1):
        scaled = np.rint(size * POWERS[places])
        if scaled >= PLAIN_MAX:
            break
        if scaled / POWERS[places] == size:
            return places, np.int64(scaled)
    return -1, np.int64(0)


@leaf
def put_decimal(out, at, negative, places, number):
    """Write ``number`` / 10**``places`` with a point and at least one digit on both sides; return where it ends."""
    if negative:
        out[at] = 45
        at += 1
    if places == 0:
        at = put_unsigned(out, at, np.uint64(number))
        out[at] = 46
        out[at + 1] = 48
        return at + 2
    whole = number // np.int64(POWERS[places])
    number -= whole * np.int64(POWERS[places])
    at = put_unsigned(out, at, np.uint64(whole))
    out[at] = 46
    for i in range(places):
        out[at + places - i] = np.uint8(48 + number % 10)
        number //= 10
    return at + 1 + places


@leaf
def float_at(buf, p, width):
    """Return the double of the F4 or F8 element at ``p``."""
    if width == 4:
        return np.float64(float_of_32(be32(buf, p)))
    return np.float64(float_of_64(be64(buf, p)))


@leaf
def is_long(value):
    """Tell whether a double's text must come from the table."""
    return np.isfinite(value) and plain_decimal(value)[0] < 0


@leaf
def _put_float(out, at, value, texts, text_at, nth):
    """Write a double; return (where it ends, how many texts of the table are used)."""
    if not np.isfinite(value):
        return put(out, at, _NULL), nth
    places, number = plain_decimal(value)
    if places >= 0:
        return put_decimal(out, at, np.signbit(value), places, number), nth
    for i in range(text_at[nth], text_at[nth + 1]):
        out[at] = texts[i]
        at += 1
    return at, nth + 1


@leaf
def _put_elements(buf, p, content, length, out, at, texts, text_at, nth):
    """Write the elements of a number item that isn't empty; return (where they end, texts used)."""
    kind = KIND[buf[p]]
    width = np.int64(WIDTH[buf[p]])
    if length > width:
        out[at] = 91
        at += 1
    for q in range(content, content + length, width):
        if q > content:
            out[at] = 44
            at += 1
        if kind == FLOAT:
            at, nth = _put_float(out, at, float_at(buf, q, width), texts, text_at, nth)
        elif kind == BOOLEAN:
            at = put(out, at, _TRUE) if buf[q] != 0 else put(out, at, _FALSE)
        elif kind == SIGNED:
            at = put_signed(out, at, signed_at(buf, q, width))
        else:
            at = put_unsigned(out, at, np.uint64(unsigned_at(buf, q, width)))
    if length > width:
        out[at] = 93
        at += 1
    return at, nth


@leaf
def same_as_ascii(buf, kind, start, stop):
    """Tell whether a text's bytes are its characters, those above 127 of an ASCII item aside (taken as UTF-8)."""
    if kind == TEXT:
        return True
    if kind != JIS:
        return start == stop
    foreign = 0
    for i in range(start, stop):
        foreign += buf[i] == 92 or buf[i] == 126 or buf[i] > 127
    return foreign == 0


@leaf
def _put_leaf(buf, p, content, length, out, at, texts, text_at, nth):
    """Write an item without children; return (where it ends or ODD, texts used)."""
    if length == 0:
        return put(out, at, _NULL), nth
    kind = KIND[buf[p]]
    if kind == BINARY:
        out[at] = 91
        for i in range(content, content + length):
            at = put_unsigned(out, at + 1, np.uint64(buf[i]))
            out[at] = 44
        out[at] = 93
        return at + 1, nth
    if kind in (BOOLEAN, FLOAT, SIGNED, UNSIGNED):
        return _put_elements(buf, p, content, length, out, at, texts, text_at, nth)
    if not same_as_ascii(buf, kind, content, content + length):
        return np.int64(ODD), nth
    return put_text(out, at, buf, content, content + length), nth


@leaf
def put_item(buf, p, stop, stack, out, at, texts, text_at, nth):
    """Write the sound item at ``p`` as JSON; return (offset after the item, where its text ends or ODD, texts used).

    ``stack`` has room for the deepest nesting; ``texts[text_at[k] : text_at[k + 1]]`` is that of the nth ``is_long`` double.
    """
    depth = 0
    while True:
        _, content, length = item_header(buf, p, stop)
        if KIND[buf[p]] == LIST and length > 0:
            out[at] = 91
            at += 1
            stack[depth] = length
            depth += 1
            p = content
            continue
        at, nth = _put_leaf(buf, p, content, length, out, at, texts, text_at, nth)
        if at == ODD:
            return p, at, nth
        p = content if KIND[buf[p]] == LIST else content + length
        while depth > 0:
            stack[depth - 1] -= 1
            if stack[depth - 1] > 0:
                out[at] = 44
                at += 1
                break
            out[at] = 93
            at += 1
            depth -= 1
        if depth == 0:
            return p, at, nth
