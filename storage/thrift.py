"""Thrift's compact protocol, as far as Parquet's page headers and footer need it."""

from __future__ import annotations

from collections.abc import Iterable

from kernels.pages import varint, zigzag

TRUE, FALSE, I16, I32, I64, BINARY, LIST, STRUCT = 1, 2, 4, 5, 6, 8, 9, 12
"""Types as the protocol numbers them."""

Field = tuple[int, bytes]
"""A value: (type, encoded)."""

SHORT_LIST = 15
STOP = b"\0"

NEXT_I32 = bytes((1 << 4 | I32,))
NEXT_I64 = bytes((1 << 4 | I64,))
NEXT_BUT_ONE_I64 = bytes((2 << 4 | I64,))
"""Heads of fields whose number is one, or two, higher than that of the field in front."""


def i16(value: int) -> Field:
    """Return an i16."""
    return I16, zigzag(value)


def i32(value: int) -> Field:
    """Return an i32, also for an enumeration."""
    return I32, zigzag(value)


def i64(value: int) -> Field:
    """Return an i64."""
    return I64, zigzag(value)


def binary(value: bytes) -> Field:
    """Return a binary, also for a string."""
    return BINARY, varint(len(value)) + value


def boolean(value: bool) -> Field:
    """Return a bool as the field of a struct: its type is its value."""
    return (TRUE if value else FALSE), b""


def members(fields: dict[int, Field], before: int = 0) -> bytes:
    """Return fields of a struct by their number, rising by at most 15 at a time; ``before`` is the number of the field in front."""
    out = bytearray()
    for number, (kind, encoded) in fields.items():
        out.append((number - before) << 4 | kind)
        out += encoded
        before = number
    return bytes(out)


def struct(fields: dict[int, Field]) -> Field:
    """Return a struct."""
    return STRUCT, members(fields) + STOP


def array(kind: int, values: Iterable[Field]) -> Field:
    """Return a list of values that are all of ``kind`` (no bools: Parquet has no list of them)."""
    encoded = [value for _, value in values]
    count = len(encoded)
    head = bytes((count << 4 | kind,)) if count < SHORT_LIST else bytes((SHORT_LIST << 4 | kind,)) + varint(count)
    return LIST, head + b"".join(encoded)
