"""Parquet and Arrow IPC: the bytes are gathered, proved readable from end to end, and decoded batch by batch when the payload ends.

The whole file is one frame; it counts as a whole, and its bad rows are told by row number. An unreadable file is one rejected span.
"""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc
import pyarrow.parquet as pq

from ingest.config import Limits
from ingest.formats.arrow_json import is_number, is_text, plain_type, row_json, show, value_at
from ingest.formats.clock import Clock, Times
from ingest.formats.fields import Coded, Fields, Integers, Numbers
from ingest.mapping import Bound, TableMapping
from ingest.records import Decoded, Int64, Rejected
from kernels.missing import NAN_BITS, NULL_BITS
from kernels.text_time import READ, UNREAD, VOID

PARQUET, ARROW_FILE, ARROW_STREAM = b"PAR1", b"ARROW1", b"\xff\xff\xff\xff"
REASONS = {PARQUET: "bad_parquet", ARROW_FILE: "bad_arrow", ARROW_STREAM: "bad_arrow"}

MEMORY_BYTES = 64 << 20
"""Beyond this the gathered bytes go to a temporary file, and an unreadable file is rejected in pieces of this size."""

BATCH_ROWS = 1 << 18
EXACT_INTEGER = 1 << 53
INT32_MAX = (1 << 31) - 1
JUDGED_ROWS = 100

_UNREADABLE = (pa.ArrowException, OSError, ValueError, KeyError, IndexError, OverflowError, MemoryError, NotImplementedError)
"""What pyarrow raises over bytes that are no sound file."""

Batches = Callable[[], Iterator[pa.RecordBatch]]


def parquet_batches(file: Any) -> tuple[pa.Schema, Batches]:
    """Open a Parquet file; the second value reads its batches, with page checksums verified."""
    source = pq.ParquetFile(file, page_checksum_verification=True)
    return source.schema_arrow, lambda: source.iter_batches(batch_size=BATCH_ROWS)


def arrow_file_batches(file: Any) -> tuple[pa.Schema, Batches]:
    """Open an Arrow IPC file."""
    source = pa.ipc.open_file(file)

    def read() -> Iterator[pa.RecordBatch]:
        for index in range(source.num_record_batches):
            yield source.get_batch(index)

    return source.schema, read


def arrow_stream_batches(file: Any) -> tuple[pa.Schema, Batches]:
    """Open an Arrow IPC stream."""

    def read() -> Iterator[pa.RecordBatch]:
        file.seek(0)
        yield from pa.ipc.open_stream(file)

    return pa.ipc.open_stream(file).schema, read


READERS = {PARQUET: parquet_batches, ARROW_FILE: arrow_file_batches, ARROW_STREAM: arrow_stream_batches}


class ColumnarDecoder:
    """Decodes one Parquet or Arrow payload: ``feed`` bytes, then ``finish``."""

    def __init__(self, mapping: TableMapping, limits: Limits, container: bytes) -> None:
        self.mapping = mapping
        self.limits = limits
        self.container = container
        self._size = 0
        self._schema: pa.Schema | None = None
        self._numeric: list[int] | None = None
        self._file = tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES)  # noqa: SIM115  (closed by finish)

    @property
    def dialect(self) -> dict[str, Any] | None:
        """What was settled about the file, fit for JSON; None before. ``numeric`` is None where nothing had to be judged."""
        if self._schema is None:
            return None
        return {"schema": base64.b64encode(self._schema.remove_metadata().serialize()).decode(), "numeric": self._numeric}

    def feed(self, data: bytes) -> Iterator[Decoded]:
        """Gather the next bytes."""
        self._file.write(data)
        self._size += len(data)
        return iter(())

    def finish(self) -> Iterator[Decoded]:
        """Decode the file."""
        with closing(self._file):
            try:
                self._file.seek(0)
                schema, batches = READERS[self.container](self._file)
                names = list(schema.names)
                for batch in batches():
                    _validate(batch)
            except _UNREADABLE as error:
                yield from self._unreadable(error)
                return
            yield from self._rows(schema, names, batches)

    def _unreadable(self, error: Exception) -> Iterator[Decoded]:
        detail = " ".join(str(error).split())[:500] or type(error).__name__
        self._file.seek(0)
        start = 0
        while start < self._size:
            data = self._file.read(MEMORY_BYTES)
            none = np.zeros(0, np.int64)
            span = Rejected(start, start + len(data), REASONS[self.container], detail, data, self._constant())
            yield Decoded(none, none, None, None, [span], 0, 0)
            start += len(data)

    def _constant(self) -> str | None:
        tool = self.mapping.table.tool
        return self.mapping.tool or (tool if isinstance(tool, str) else None)

    def _rows(self, schema: pa.Schema, names: list[str], batches: Batches) -> Iterator[Decoded]:
        if len(names) > self.limits.columns:
            self.mapping.fail(f"{len(names)} columns, the limit is {self.limits.columns} (limits.columns)")
        bound = self._bind(schema, names, batches)
        self._schema = schema
        first_row, told = 0, False
        none = np.zeros(0, np.int64)
        for whole in batches():
            for begin in range(0, whole.num_rows, BATCH_ROWS):
                batch = whole.slice(begin, BATCH_ROWS)
                records, _, refused = self.mapping.records(ArrowRows(batch, self.mapping), bound)
                rejected = [
                    Rejected(first_row + row, first_row + row + 1, reason, detail, row_json(batch, row), tool, True)
                    for row, reason, detail, tool in refused
                ]
                first_row += batch.num_rows
                frame = none, none
                if records is not None:
                    records.frame[:] = -1 if told else 0
                    frame = (none, none) if told else (np.zeros(1, np.int64), np.array([self._size], np.int64))
                    told = True
                yield Decoded(*frame, records, None, rejected, 0, 0)
        if not told:  # understood, and no record in it
            yield Decoded(none, none, None, None, [], self._size, 1)

    def _bind(self, schema: pa.Schema, names: list[str], batches: Batches) -> Bound:
        bound = bind(self.mapping, schema)
        if self.mapping.table.sensors != "*":
            return bound
        heads = []
        rows = 0
        for batch in batches():
            heads.append(ArrowRows(batch.slice(0, JUDGED_ROWS - rows), self.mapping))
            rows += heads[-1].n
            if rows >= JUDGED_ROWS:
                break
        self._numeric = [
            index
            for index, field in enumerate(schema)
            if is_number(kind := plain_type(field.type))
            or pa.types.is_null(kind)
            or (is_text(kind) and all(head.fields(index).numeric(_FIRST).all() for head in heads))
        ]
        return self.mapping.with_sensors(bound, np.array(self._numeric, np.int64), names)


def bind(mapping: TableMapping, schema: pa.Schema) -> Bound:
    """Bind a mapping to a file's columns, without its sensors where they are ``*``."""
    bound = mapping.bind(schema.names)
    if is_number(plain_type(schema.field(bound.time).type)) and not mapping.clock.elapsed:
        mapping.fail(f"column '{schema.names[bound.time]}' (time) holds numbers; set time.unit")
    return bound


_FIRST = np.zeros(1, np.int64)
_NO_BYTES = np.frombuffer(b"\0", np.uint8)


def _validate(batch: pa.RecordBatch) -> None:
    """Prove every offset and index of a batch; text that is no UTF-8 is no fault of the file but of its row."""
    for column in batch.columns:
        plain = column.view(pa.binary()) if pa.types.is_string(column.type) else column
        plain = column.view(pa.large_binary()) if pa.types.is_large_string(column.type) else plain
        plain.validate(full=True)


class ArrowRows:
    """The rows of one record batch, read as ``ingest.mapping.Rows``."""

    def __init__(self, batch: pa.RecordBatch, mapping: TableMapping) -> None:
        self.n = batch.num_rows
        self.batch = batch
        self.mapping = mapping

    def _array(self, column: int) -> Any:
        array = self.batch.column(column)
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        return array.cast(pa.float32()) if pa.types.is_float16(array.type) else array

    def fields(self, column: int) -> Fields:
        """Return a column's values as text fields; a null is an empty one."""
        array = _as_text(self._array(column))
        offsets = np.frombuffer(array.buffers()[1], np.int64)[array.offset : array.offset + self.n + 1]
        held = array.buffers()[2]
        buffer = np.frombuffer(held, np.uint8)[offsets[0] : offsets[-1]] if held is not None and held.size else _NO_BYTES[:]
        buffer.flags.writeable = False  # as a file's bytes, and with offsets of 32 bits: kernels are compiled once
        offsets = offsets - offsets[0] if len(buffer) > INT32_MAX else (offsets - offsets[0]).astype(np.int32)
        starts, stops = offsets[:-1].copy(), offsets[1:].copy()
        if array.null_count:
            stops[array.is_null().to_numpy(zero_copy_only=False)] = 0
            starts[stops == 0] = 0
        table = self.mapping.table
        return Fields(buffer, starts, stops, 1, self.n, table.decimal, table.missing)

    def codes(self, column: int) -> Coded:
        """Give numbers to the distinct texts of one column."""
        if self.n == 0:
            return Coded(np.zeros(0, np.int64), [])
        return self.fields(column).codes(0)

    def show(self, row: int, column: int) -> str:
        """Return one field for a message."""
        return f"'{show(value_at(self._array(column), row))[:80]}'"

    def numbers(self, columns: Int64) -> Numbers:
        """Read columns as doubles."""
        values = np.empty((self.n, len(columns)), np.float64)
        rows, places, texts = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [pa.array([], pa.string())]
        for place, column in enumerate(columns.tolist()):
            array = self._array(column)
            kind = array.type
            if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
                values[:, place], wide = _doubles(array)
                if len(wide):
                    rows.append(wide)
                    places.append(np.full(len(wide), place, np.int64))
                    texts.append(array.take(pa.array(wide)).cast(pa.string()))
                continue
            found = self.fields(column).numbers(_FIRST)
            values[:, place] = found.values[:, 0]
            rows.append(found.row)
            places.append(np.full(len(found.row), place, np.int64))
            texts.append(found.texts)
        row, where = np.concatenate(rows), np.concatenate(places)
        order = np.lexsort((where, row))
        return Numbers(values, row[order], where[order], pa.concat_arrays(texts).take(pa.array(order)))

    def integers(self, column: int) -> Integers:
        """Read one column as 64-bit integers."""
        array = self._array(column)
        if pa.types.is_integer(array.type):
            sound = array.is_valid().to_numpy(zero_copy_only=False)
            plain = pc.fill_null(array, 0).to_numpy(zero_copy_only=False)
            if plain.dtype == np.uint64:
                sound = sound & (plain <= np.uint64(np.iinfo(np.int64).max))
            return Integers(plain.astype(np.int64), sound)
        if pa.types.is_floating(array.type):
            plain = _doubles(array)[0]
            sound = (np.floor(plain) == plain) & (np.abs(plain) < 2.0**63)
            return Integers(np.where(sound, plain, 0).astype(np.int64), sound)
        return self.fields(column).integers(0)

    def times(self, column: int, clock: Clock) -> Times:
        """Read one column as times: timestamps as they are, numbers by the clock's unit, text as in a text file."""
        array = self._array(column)
        kind = array.type
        types = pa.types
        if types.is_date(kind):
            array, kind = array.cast(pa.timestamp("us")), pa.timestamp("us")
        if types.is_timestamp(kind):
            return clock.bounded(_timestamps(array))
        if types.is_integer(kind) and clock.elapsed:
            return self.fields(column).times(0, clock)
        if types.is_floating(kind):
            return clock.bounded(_elapsed(array, clock))
        return self.fields(column).times(0, clock)


def _as_text(array: Any) -> Any:
    """Cast to large_binary: text as it is, integers without decimal point, floats by repr, all else by its Python text."""
    kind = array.type
    if is_text(kind):
        return array.cast(pa.large_binary())
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_decimal(kind):
        return array.cast(pa.large_string()).cast(pa.large_binary())
    if pa.types.is_floating(kind):
        coded = array.cast(pa.float64()).dictionary_encode()
        texts = pa.array([None if value is None else repr(value) for value in coded.dictionary.to_pylist()], pa.large_binary())
        return texts.take(coded.indices)
    return pa.array([None if value is None else show(value) for value in array.to_pylist()], pa.large_binary())


def _doubles(array: Any) -> tuple[np.ndarray, Int64]:
    """Return float64[n] of a numeric or boolean array, NULL for null, and the rows of integers beyond 2**53."""
    valid = array.is_valid().to_numpy(zero_copy_only=False) if array.null_count else None
    wide = np.zeros(0, np.int64)
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.int8())
    plain = array.to_numpy(zero_copy_only=False) if valid is None else pc.fill_null(array, _zero(array.type)).to_numpy(zero_copy_only=False)
    if pa.types.is_integer(array.type) and array.type.bit_width == 64:
        beyond = plain > EXACT_INTEGER if plain.dtype == np.uint64 else (plain > EXACT_INTEGER) | (plain < -EXACT_INTEGER)
        wide = np.flatnonzero(beyond)
    with np.errstate(invalid="ignore"):  # a signalling NaN
        values = plain.astype(np.float64)
    bits = values.view(np.int64)
    bits[np.isnan(values)] = NAN_BITS
    if valid is not None:
        bits[~valid] = NULL_BITS
    return values, wide


def _zero(kind: Any) -> Any:
    return pa.scalar(0, pa.int8()).cast(kind)


def _timestamps(array: Any) -> Times:
    zoned = array.type.tz is not None
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    counts = pc.fill_null(array.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    unit = array.type.unit
    kinds = np.where(valid, READ, VOID).astype(np.uint8)
    if unit == "ns":
        time_us = _half_even(counts, 1000)
    else:
        factor = {"s": 1_000_000, "ms": 1000, "us": 1}[unit]
        most = np.iinfo(np.int64).max // factor
        kinds[(counts > most) | (counts < -most)] = UNREAD
        time_us = np.where(kinds == READ, counts, 0) * factor
    return Times(time_us, np.full(len(array), zoned), kinds)


def _half_even(counts: Int64, divisor: int) -> Int64:
    whole, rest = counts // divisor, counts % divisor
    up = (rest * 2 > divisor) | ((rest * 2 == divisor) & (whole % 2 == 1))
    return np.asarray(whole + up)


def _elapsed(array: Any, clock: Clock) -> Times:
    """Return floats of a unit as the nearest microseconds; whole and fraction apart, so that large counts keep their digits."""
    values = _doubles(array)[0]
    coefficient, power = clock.units()
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    scale = coefficient * 10.0**power
    sound = np.isfinite(values) & (np.abs(values) < 2.0**62 / scale)
    plain = np.where(sound, values, 0.0)
    if power < 0:
        time_us = np.rint(plain / 10.0**-power).astype(np.int64)
    else:
        whole = np.floor(plain)
        time_us = whole.astype(np.int64) * int(scale) + np.rint((plain - whole) * scale).astype(np.int64)
    kinds = np.where(sound, READ, UNREAD)
    kinds[~valid | np.isnan(values)] = VOID
    return Times(time_us, np.zeros(len(values), np.bool_), kinds.astype(np.uint8), True)
