"""Pieces: how rows of the ``traces`` table travel to a file, and the same rows as Arrow tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kernels.gather import valid_bits
from storage.schema import arrow_schema

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
Names = tuple[str, ...]

TEXT = pa.dictionary(pa.int32(), pa.string())


@dataclass(slots=True, frozen=True)
class SharedColumns:
    """What ``n`` records of one group give every sensor: int32 codes of names, int64 numbers, all (n,); ``ts`` in us, window 0 is none."""

    tool: str
    chamber: str | None
    trace: str
    streams: Names
    stream: Int32
    payloads: Names
    payload: Int32
    seq: Int64
    ts: Int64
    window_id: Int64
    byte_start: Int64

    def coded(self, column: str) -> tuple[Names, Int32]:
        """Return (names, codes (n,)) of ``stream`` or ``payload_id``."""
        return (self.streams, self.stream) if column == "stream" else (self.payloads, self.payload)


@dataclass(slots=True, frozen=True)
class Piece:
    """``k`` sensors of ``n`` records in the file's order: names, positions (int32 (k,)), values (k, n); NULL as :mod:`kernels.missing`.

    ``values`` may be a view of memory that is used again: it holds until the next piece is asked for.
    """

    shared: SharedColumns
    names: list[str]
    positions: Int32
    values: Float64

    @property
    def rows(self) -> int:
        """Return k * n."""
        return self.values.size


def traces_schema(optional: Set[str]) -> pa.Schema:
    """Return the schema of a file of traces: dictionary columns, and required where nothing is null."""
    fields = arrow_schema("traces")
    return pa.schema([pa.field(f.name, TEXT if f.type == pa.string() else f.type, nullable=f.name in optional) for f in fields])


def tables(pieces: Iterable[Piece], schema: pa.Schema) -> Iterator[pa.Table]:
    """Yield each of ``pieces`` as a table; what neighbours share is built once."""
    shared: SharedColumns | None = None
    tiled: dict[int, dict[str, pa.Array]] = {}
    for piece in pieces:
        if piece.shared is not shared:
            shared, tiled = piece.shared, {}
        k, n = piece.values.shape
        if k not in tiled:
            tiled[k] = _shared(shared, k)
        columns = tiled[k] | {
            "sensor": pa.DictionaryArray.from_arrays(
                pa.array(np.repeat(np.arange(k, dtype=np.int32), n)), pa.array(piece.names, pa.string())
            ),
            "position": pa.array(np.repeat(piece.positions, n)),
            "value": numbers(np.array(piece.values, order="C").reshape(-1)),
        }
        yield pa.table([columns[name] for name in schema.names], schema=schema)


def constant(value: str | None, rows: int) -> pa.DictionaryArray:
    """Return a column that holds one text, or nothing, ``rows`` times."""
    if value is None:
        return pa.DictionaryArray.from_arrays(pa.nulls(rows, pa.int32()), pa.array([], pa.string()))
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([value]))


def numbers(values: Float64) -> pa.Array:
    """Return float64 values as an Arrow array in which the NULL pattern is null."""
    bitmap, nulls = valid_bits(values.view(np.int64))
    return pa.Array.from_buffers(pa.float64(), len(values), [pa.py_buffer(bitmap) if nulls else None, pa.py_buffer(values)], nulls)


def window_ids(window: Int64) -> pa.Array:
    """Return window ids as an Arrow array in which 0 is null."""
    absent = window == 0
    return pa.array(window, mask=absent) if absent.any() else pa.array(window)


def _shared(shared: SharedColumns, k: int) -> dict[str, pa.Array]:
    """Return the columns that are the same for every run of ``k`` sensors."""
    rows = k * len(shared.seq)
    names = {column: shared.coded(column) for column in ("stream", "payload_id")}
    coded = {
        column: pa.DictionaryArray.from_arrays(pa.array(np.tile(codes, k)), pa.array(texts, pa.string()))
        for column, (texts, codes) in names.items()
    }
    return coded | {
        "tool": constant(shared.tool, rows),
        "chamber": constant(shared.chamber, rows),
        "trace": constant(shared.trace, rows),
        "seq": pa.array(np.tile(shared.seq, k)),
        "ts": pa.array(np.tile(shared.ts, k)).cast(pa.timestamp("us")),
        "window_id": window_ids(np.tile(shared.window_id, k)),
        "byte_start": pa.array(np.tile(shared.byte_start, k)),
    }
