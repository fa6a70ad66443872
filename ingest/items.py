"""SECS-II bodies as trees, for the few messages that are read one by one: dictionary messages and events.

The kernels have proven the body to be one sound item; nothing here checks bounds.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

INTEGER = re.compile(r"[+-]?[0-9]+")
NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
BLANKS = " \t\n\v\f\r\0"

LIST, BINARY, BOOLEAN, ASCII, JIS8, LOCALIZED = 0o00, 0o10, 0o11, 0o20, 0o21, 0o22
TEXTS = (ASCII, JIS8, LOCALIZED)
ELEMENTS = {  # format code: (struct letter, width)
    0o30: ("q", 8),
    0o31: ("b", 1),
    0o32: ("h", 2),
    0o34: ("i", 4),
    0o40: ("d", 8),
    0o44: ("f", 4),
    0o50: ("Q", 8),
    0o51: ("B", 1),
    0o52: ("H", 2),
    0o54: ("I", 4),
}
INTEGERS = (0o30, 0o31, 0o32, 0o34, 0o50, 0o51, 0o52, 0o54)

ENCODINGS = {1: "utf-16-be", 2: "utf-8", 3: "ascii", 4: "latin-1", 5: "iso8859-11", 6: "tis-620", 7: "iscii"} | {
    8: "shift_jis",
    9: "euc_jp",
    10: "euc_kr",
    11: "gb18030",
    12: "euc_tw",
    13: "big5",
}
"""Localized strings by their 2-byte code (E5); an encoding that Python lacks is read as UTF-8."""


class Item(NamedTuple):
    """``value``: children of a list, else a tuple of numbers, bytes of a binary, or decoded text. ``code``: the format code."""

    code: int
    value: Any


def plain_text(raw: bytes) -> str:
    """Return ASCII as sent by tools: UTF-8 where it is that, else Latin-1, so that no two texts become one."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def jis_text(raw: bytes) -> str:
    """Return JIS-8 (JIS X 0201): half-width katakana above, yen and overline in place of backslash and tilde."""
    return "".join(
        {0x5C: "¥", 0x7E: "‾"}.get(b) or (chr(b) if b < 0x80 else chr(b - 0xA1 + 0xFF61) if 0xA1 <= b <= 0xDF else "�") for b in raw
    )


def localized_text(raw: bytes) -> str:
    """Return a localized string: a 2-byte code of its encoding, then the text."""
    name = ENCODINGS.get(int.from_bytes(raw[:2], "big"), "utf-8")
    try:
        return raw[2:].decode(name, "replace")
    except LookupError:
        return raw[2:].decode("utf-8", "replace")


DECODE: dict[int, Callable[[bytes], str]] = {ASCII: plain_text, JIS8: jis_text, LOCALIZED: localized_text}


def read_at(body: bytes, p: int) -> tuple[Item, int]:
    """Return the tree of the sound item at ``p``, and the offset after it."""
    form = body[p]
    code, count = form >> 2, form & 3
    start = p + 1 + count
    length = int.from_bytes(body[p + 1 : start], "big")
    if code == LIST:
        children = []
        for _ in range(length):
            child, start = read_at(body, start)
            children.append(child)
        return Item(code, children), start
    stop = start + length
    raw = body[start:stop]
    if code in DECODE:
        return Item(code, DECODE[code](raw)), stop
    if code == BINARY:
        return Item(code, raw), stop
    if code == BOOLEAN:
        return Item(code, tuple(b != 0 for b in raw)), stop
    letter, width = ELEMENTS[code]
    return Item(code, struct.unpack(f">{length // width}{letter}", raw)), stop


def read(body: bytes) -> Item:
    """Return the tree of a body that is exactly one sound item."""
    return read_at(body, 0)[0]


def id_of(item: Item) -> str | None:
    """Return an id as text: an integer of any width or digits in decimal, other text stripped; None where it is none."""
    if item.code in INTEGERS and len(item.value) == 1:
        return str(item.value[0])
    if item.code in (ASCII, JIS8):
        text = item.value.strip(BLANKS)
        return canonical_id(text) if text else None
    return None


def canonical_id(text: str) -> str:
    """Return digits as the decimal text of their integer where int64 holds it, other text as it is."""
    if INTEGER.fullmatch(text) and len(text) <= 1024 and -(1 << 63) <= (value := int(text)) < 1 << 63:
        return str(value)
    return text


def json_value(item: Item) -> Any:
    """Return what ``json.dumps`` writes: single elements bare, arrays and lists as lists, binary as integers, empty items null."""
    if len(item.value) == 0:
        return None
    if item.code == LIST:
        return [json_value(child) for child in item.value]
    if item.code in TEXTS:
        return item.value
    if item.code == BINARY:
        return list(item.value)
    values = [None if isinstance(v, float) and not math.isfinite(v) else v for v in item.value]
    return values[0] if len(values) == 1 else values


def json_text(value: Any) -> str:
    """Return canonical JSON: no spaces, keys in the order given, UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def context_text(item: Item) -> str:
    """Return a value that names something: text stripped, an integer in decimal, '' for an empty item."""
    if len(item.value) == 0:
        return ""
    if item.code in TEXTS:
        return str(item.value).strip(BLANKS)
    value = json_value(item)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else json_text(value)
