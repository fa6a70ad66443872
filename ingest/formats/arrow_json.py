"""Rows of Parquet and Arrow files as JSON, which is how a rejected row is kept, and JSON as the row that it was."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa


def plain_type(kind: Any) -> Any:
    """Return the type of a column's values, dictionaries resolved."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def is_number(kind: Any) -> bool:
    """Tell whether values of this type are numbers."""
    types = pa.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind))


def is_text(kind: Any) -> bool:
    """Tell whether values of this type are text or bytes."""
    types = pa.types
    names = ("is_string", "is_large_string", "is_string_view", "is_binary", "is_large_binary", "is_binary_view", "is_fixed_size_binary")
    return any(getattr(types, name)(kind) for name in names)


def show(value: Any) -> str:
    """Return a value as text; bytes that are no UTF-8 with backslashes."""
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return value if isinstance(value, str) else str(value)


def value_at(array: Any, row: int) -> Any:
    """Return one value as Python sees it; text as bytes, and an object naming the type for what Python has no word for."""
    one = array.slice(row, 1)
    try:
        one = one.dictionary_decode() if pa.types.is_dictionary(array.type) else one
        return one.cast(pa.large_binary())[0].as_py() if is_text(one.type) else one[0].as_py()
    except (UnicodeDecodeError, ValueError, OverflowError):
        return {"unreadable": str(array.type)}


def row_json(batch: pa.RecordBatch, row: int) -> bytes:
    """Return one row as JSON bytes; what JSON has no word for is text, and bytes that are no UTF-8 are ``{"hex": "..."}``."""
    values = {name: value_at(column, row) for name, column in zip(batch.schema.names, batch.columns, strict=True)}
    return json.dumps(values, ensure_ascii=False, default=_plain).encode(errors="backslashreplace")


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"hex": value.hex()}
    return str(value)


def read_row(line: bytes, schema: pa.Schema, used: Sequence[int]) -> list[Any] | None:
    """Return a JSON row's values of the columns ``used``, fit for ``batch_of``; None where JSON does not hold them."""
    try:
        found = json.loads(line)
        return [_cell(found[schema.names[column]], plain_type(schema.field(column).type)) for column in used]
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError, pa.ArrowException):
        return None


def batch_of(rows: Sequence[list[Any]], schema: pa.Schema, used: Sequence[int]) -> pa.RecordBatch:
    """Return rows of ``read_row`` as a batch of the schema's columns; those that are not used are null."""
    columns = [pa.nulls(len(rows)) for _ in schema]
    for place, column in enumerate(used):
        columns[column] = pa.array([row[place] for row in rows], _type_of(plain_type(schema.field(column).type)))
    return pa.RecordBatch.from_arrays(columns, names=schema.names)


def _type_of(kind: Any) -> Any:
    """Return the type in which a column of ``kind`` comes back: it reads as the original does."""
    types = pa.types
    if types.is_timestamp(kind):
        return pa.timestamp("ns" if kind.unit == "ns" else "us", kind.tz)
    if types.is_date(kind):
        return pa.date32()
    if types.is_floating(kind):
        return pa.float64()
    if types.is_integer(kind) or types.is_boolean(kind) or types.is_null(kind):
        return kind
    return pa.large_binary()


def _cell(value: Any, kind: Any) -> Any:
    """Return one value of a column of ``kind``; raise where JSON does not hold it."""
    types = pa.types
    if value is None:
        return None
    if is_text(kind) and isinstance(value, dict):
        return bytes.fromhex(value["hex"])
    if types.is_nested(kind) or isinstance(value, dict | list):
        raise TypeError(f"{kind} has no cell")
    if types.is_timestamp(kind) or types.is_date(kind):
        return pa.scalar(value, pa.string()).cast(_type_of(kind))
    whole = _type_of(kind)
    return value.encode() if whole == pa.large_binary() else pa.scalar(value, whole)
