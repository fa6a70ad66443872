"""The twin of ``kernels.secs``: one whole payload, byte strings and exceptions, no cleverness.

It knows no buffers, no cuts, no credit: where it and the kernel agree, those change nothing.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from kernels import secs_items as codes

FORMATS = {code: (kind, width) for code, kind, width in codes.FORMATS}
LETTERS = {
    (codes.SIGNED, 1): "b",
    (codes.SIGNED, 2): "h",
    (codes.SIGNED, 4): "i",
    (codes.SIGNED, 8): "q",
    (codes.UNSIGNED, 1): "B",
    (codes.UNSIGNED, 2): "H",
    (codes.UNSIGNED, 4): "I",
    (codes.UNSIGNED, 8): "Q",
    (codes.FLOAT, 4): "f",
    (codes.FLOAT, 8): "d",
}
NUMBER = re.compile(rb"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
INTEGER = re.compile(rb"[+-]?[0-9]+")
BLANKS = b" \t\n\v\f\r\0"
EPOCH = datetime(1970, 1, 1)


class Fault(Exception):
    """A body that isn't sound, or not of the right shape; ``code`` as in ``kernels.secs_items``."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class Item:
    """A node of the tree: its kind, and children or raw bytes."""

    kind: int
    width: int
    children: list[Item]
    raw: bytes

    @property
    def numbers(self) -> list[Any]:
        """The elements as Python numbers."""
        if self.kind in (codes.BINARY, codes.BOOLEAN):
            return [int(b != 0) if self.kind == codes.BOOLEAN else b for b in self.raw]
        return list(struct.unpack(f">{len(self.raw) // self.width}{LETTERS[self.kind, self.width]}", self.raw))


def read_item(body: bytes, p: int, depth: int, max_depth: int, max_children: int) -> tuple[Item, int]:
    """Return the item at ``p`` and the offset after it; raise :class:`Fault`."""
    left = len(body) - p
    if left < 2:
        raise Fault(codes.PAST_END)
    form = body[p]
    if form >> 2 not in FORMATS:
        raise Fault(codes.UNDEFINED_FORMAT)
    kind, width = FORMATS[form >> 2]
    count = form & 3
    if count == 0:
        raise Fault(codes.NO_LENGTH_BYTES)
    if left < 1 + count:
        raise Fault(codes.PAST_END)
    length = int.from_bytes(body[p + 1 : p + 1 + count], "big")
    p += 1 + count
    left = len(body) - p
    if kind != codes.LIST:
        if length > left:
            raise Fault(codes.PAST_END)
        if length % width or (kind == codes.LOCALIZED and length == 1):
            raise Fault(codes.NOT_MULTIPLE)
        return Item(kind, width, [], body[p : p + length]), p + length
    if 2 * length > left:
        raise Fault(codes.TOO_MANY_CHILDREN)
    if length > max_children:
        raise Fault(codes.CHILDREN_OVER_LIMIT)
    if depth >= max_depth:
        raise Fault(codes.TOO_DEEP)
    children = []
    for _ in range(length):
        child, p = read_item(body, p, depth + 1, max_depth, max_children)
        children.append(child)
    return Item(kind, width, children, b""), p


def read_body(body: bytes, max_depth: int, max_children: int) -> Item:
    """Return the tree of a body that is exactly one sound item; raise :class:`Fault`."""
    item, end = read_item(body, 0, 0, max_depth, max_children)
    if end != len(body):
        raise Fault(codes.TRAILING_BYTES)
    return item


def integer_of(text: bytes) -> int | None:
    """Return the integer of [+-]digits that fit int64 (its smallest value only with a sign), else None."""
    if not INTEGER.fullmatch(text):
        return None
    value = int(text)
    return value if -(1 << 63) <= value < 1 << 63 else None


def id_of(item: Item) -> bytes | None:
    """Return the canonical text of an id, None where the item can be none."""
    if item.kind in (codes.SIGNED, codes.UNSIGNED):
        return str(item.numbers[0]).encode() if len(item.raw) == item.width else None
    if item.kind in (codes.TEXT, codes.JIS):
        text = item.raw.strip(BLANKS)
        if not 0 < len(text) <= 1024:
            return None
        value = integer_of(text)
        return text if value is None else str(value).encode()
    return None


def parse_time(raw: bytes) -> tuple[str, int]:
    """Return (empty, local, utc or unreadable; microseconds since 1970) of an STIME."""
    text = raw.strip(BLANKS).decode("latin-1")
    if not text:
        return "empty", 0
    if len(text) > 32:
        return "unreadable", 0
    plain = re.fullmatch(rf"([0-9]{{{2 if len(text) == 12 else 4}}})" + "([0-9]{2})" * 5 + "([0-9]{2})?", text)
    shape = r"([0-9]{4})-([0-9]{2})-([0-9]{2})[T ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:[.,]([0-9]+))?(Z|[+-][0-9]{2}:?[0-9]{2})?"
    extended = re.fullmatch(shape, text)
    zone = None
    try:
        if len(text) in (12, 14, 16):
            if plain is None:
                return "unreadable", 0
            year = int(plain[1]) + (0 if len(text) != 12 else 1900 if int(plain[1]) >= 69 else 2000)
            micros = int(plain[7] or 0) * 10_000
            fields = plain
        elif extended is not None:
            year, micros, zone = int(extended[1]), int(((extended[7] or "") + "000000")[:6]), extended[8]
            fields = extended
        else:
            return "unreadable", 0
        moment = datetime(year, *(int(fields[i]) for i in range(2, 7)), micros)  # type: ignore[call-arg, arg-type]
    except ValueError:
        return "unreadable", 0
    us = (moment - EPOCH) // timedelta(microseconds=1)
    if zone is None:
        return "local", us
    if zone != "Z":
        hours, minutes = int(zone[1:3]), int(zone[-2:])
        if hours > 23 or minutes > 59:
            return "unreadable", 0
        us -= (1 if zone[0] == "+" else -1) * (hours * 3600 + minutes * 60) * 1_000_000
    return "utc", us


def is_text_number(raw: bytes) -> float | None:
    """Return the number that a text is, or None."""
    text = raw.strip(BLANKS)
    return float(text) if NUMBER.fullmatch(text) else None


def flatten(item: Item) -> list[Any]:
    """Return the positions: a number (exact), None for NULL, or (kind, raw bytes) of a text."""
    if item.kind == codes.LIST:
        return [v for child in item.children for v in flatten(child)] if item.children else [None]
    if not item.raw:
        return [None]
    if item.kind in (codes.TEXT, codes.JIS, codes.LOCALIZED):
        return [(item.kind, item.raw)]
    return [math.nan if isinstance(v, float) and math.isnan(v) else v for v in item.numbers]


def s6f1(item: Item) -> tuple[bytes, int, bytes, list[Any]]:
    """Return (TRID text, SMPLN, STIME bytes, positions) of an S6F1; raise :class:`Fault`."""
    if item.kind != codes.LIST or len(item.children) != 4:
        raise Fault(codes.BAD_SHAPE)
    trid, smpln, stime, values = item.children
    name = id_of(trid)
    number = integer_of(id_of(smpln) or b"")
    if name is None or number is None:
        raise Fault(codes.BAD_SHAPE)
    if (stime.children or stime.raw) and stime.kind not in (codes.TEXT, codes.JIS):
        raise Fault(codes.BAD_SHAPE)
    if not values.children and not values.raw:
        return name, number, stime.raw, []
    if values.kind in (codes.TEXT, codes.JIS, codes.LOCALIZED):
        raise Fault(codes.BAD_SHAPE)
    return name, number, stime.raw, flatten(values)


def check_s6f11(item: Item) -> None:
    """Raise :class:`Fault` where the item is not L[3] DATAID, CEID, L[a] of L[2] RPTID, L[b] V."""
    good = item.kind == codes.LIST and len(item.children) == 3
    if good:
        dataid, ceid, reports = item.children
        empty = not dataid.raw and not dataid.children
        good = (empty or id_of(dataid) is not None) and id_of(ceid) is not None and reports.kind == codes.LIST
        for report in reports.children if good else []:
            good = good and report.kind == codes.LIST and len(report.children) == 2
            good = good and id_of(report.children[0]) is not None and report.children[1].kind == codes.LIST
    if not good:
        raise Fault(codes.BAD_SHAPE)


def check_s5f1(item: Item) -> None:
    """Raise :class:`Fault` where the item is not L[3] ALCD (one byte), ALID, ALTX."""
    good = item.kind == codes.LIST and len(item.children) == 3
    if good:
        alcd, alid, altx = item.children
        one = len(alcd.raw) == 1 and alcd.kind in (codes.BINARY, codes.UNSIGNED)
        text = altx.kind in (codes.TEXT, codes.JIS, codes.LOCALIZED) or not (altx.raw or altx.children)
        good = one and id_of(alid) is not None and text
    if not good:
        raise Fault(codes.BAD_SHAPE)


CHECKS = {(6, 1): s6f1, (6, 11): check_s6f11, (5, 1): check_s5f1}
"""The messages of which a shape is asked."""
