"""Files of the ``traces`` table, page by page: what all sensors of a piece share is encoded and compressed once.

A sorted narrow table repeats itself: tool, chamber and trace are one value, sensor and position are runs, and stream, seq, ts, window,
payload and byte_start are the same for every sensor of a group. These are pages of whole bytes, a page a piece, in which zstd finds that
every sensor repeats the first one's; only values need work for every row.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import Any

import numpy as np

from kernels.pages import delta_bytes, rle_hybrid, same_runs
from kernels.runs import numbered
from storage.pages import (
    DELTA_BINARY_PACKED,
    PHYSICAL,
    RLE_DICTIONARY,
    Chunk,
    Column,
    Compressor,
    Dictionary,
    Page,
    ParquetFile,
    Statistics,
    code_width,
    levels,
    same_level,
    whole_width,
)
from storage.pieces import Int64, Names, Piece, SharedColumns
from storage.schema import COLUMNS
from storage.valuepages import ValuePages

CONSTANT = ("tool", "chamber", "trace")
CODED = ("stream", "payload_id")
NUMBERS = ("seq", "ts", "window_id", "byte_start")


class SharedPages:
    """Pages of one :class:`SharedColumns`, each made once."""

    def __init__(self, shared: SharedColumns, compressor: Compressor, optional: Set[str]) -> None:
        self.shared = shared
        self.rows = len(shared.seq)
        self._compressor = compressor
        self._optional = optional
        self._pages: dict[tuple[object, ...], Page] = {}
        self._used: dict[str, tuple[Names, Int64]] = {}
        for column in CODED:
            names, codes = shared.coded(column)
            used, inverse = numbered(codes)
            self._used[column] = tuple(names[i] for i in used.tolist()), inverse
        self._held = {column: self._numbers(column) for column in NUMBERS}
        self.bounds = self._bounds()

    def constant(self, column: str, rows: int, code: int | None) -> Page:
        """Return a page of ``rows`` times one entry, or nothing."""
        key = (column, rows, code)
        if key not in self._pages:
            front = same_level(code is not None, rows) if column in self._optional else b""
            width = code_width(code or 0)
            body = b"\0" if code is None else bytes((width,)) + same_runs((code,), rows, width)
            self._pages[key] = self._compressor.page(front + body, encoding=RLE_DICTIONARY, values=rows)
        return self._pages[key]

    def coded(self, column: str, sensors: int, dictionary: Dictionary) -> Page:
        """Return the page of one of ``CODED`` for a number of sensors."""
        names, inverse = self._used[column]
        codes = dictionary.of(names)
        if len(codes) == 1:
            return self.constant(column, sensors * self.rows, codes[0])
        key = (column, sensors, codes)
        if key not in self._pages:
            width = whole_width(max(codes))
            body = bytes((width,)) + rle_hybrid(np.asarray(codes)[inverse], width, sensors)
            self._pages[key] = self._compressor.far_page(body, encoding=RLE_DICTIONARY, values=sensors * self.rows)
        return self._pages[key]

    def numbers(self, column: str, sensors: int) -> Page:
        """Return the page of one of ``NUMBERS`` for a number of sensors."""
        key = (column, sensors)
        if key not in self._pages:
            front = levels(self.shared.window_id != 0, sensors) if column in self._optional else b""
            body = front + delta_bytes(self._held[column], sensors)
            self._pages[key] = self._compressor.far_page(body, encoding=DELTA_BINARY_PACKED, values=sensors * self.rows)
        return self._pages[key]

    def _numbers(self, column: str) -> Int64:
        numbers: Int64 = getattr(self.shared, column)
        return numbers[numbers != 0] if column in self._optional else numbers

    def _bounds(self) -> dict[str, tuple[Any, Any, int]]:
        """Return column -> (minimum, maximum, nulls a sensor)."""
        shared = self.shared
        out: dict[str, tuple[Any, Any, int]] = {"tool": (shared.tool, shared.tool, 0), "trace": (shared.trace, shared.trace, 0)}
        out["chamber"] = (shared.chamber, shared.chamber, self.rows if shared.chamber is None else 0)
        for column, (names, _) in self._used.items():
            out[column] = min(names), max(names), 0
        for column, held in self._held.items():
            nulls = self.rows - len(held)
            out[column] = (int(held.min()), int(held.max()), nulls) if len(held) else (None, None, nulls)
        return out


class TracePages:
    """Gathers pieces into row groups of at most ``row_group_rows`` rows (one piece may be larger) and those into a file."""

    def __init__(self, *, level: int, row_group_rows: int, optional: Set[str], thorough: bool) -> None:
        columns = COLUMNS["traces"].items()
        self.file = ParquetFile(
            [Column(name, PHYSICAL[kind], name in optional, text=kind == "VARCHAR", time=kind == "TIMESTAMP") for name, kind in columns]
        )
        self._row_group_rows = row_group_rows
        self._optional = optional
        self._compressor = Compressor(level, thorough=thorough)
        self._values = ValuePages(self._compressor, optional="value" in optional)
        self._shared: SharedPages | None = None
        self._made: dict[tuple[Any, ...], Page] = {}
        self._begin()

    def add(self, piece: Piece) -> None:
        """Append a piece; its values may change afterwards."""
        if piece.rows == 0:
            return
        if self._rows and self._rows + piece.rows > self._row_group_rows:
            self._end()
        if self._shared is None or self._shared.shared is not piece.shared:
            self._shared = SharedPages(piece.shared, self._compressor, self._optional)
        self._add_shared(self._shared, len(piece.names))
        self._add_runs("sensor", piece.names, self._shared.rows)
        self._add_runs("position", piece.positions.tolist(), self._shared.rows)
        self._values.add(piece.values)
        self._rows += piece.rows

    def finish(self) -> ParquetFile:
        """Return the whole file."""
        if self._rows:
            self._end()
        self.file.finish()
        return self.file

    def _begin(self) -> None:
        self._rows = 0
        self._chunks = {column.name: Chunk(column, None if column.name == "value" else Statistics()) for column in self.file.columns}
        self._dictionaries = {name: Dictionary(self._chunks[name].column.physical) for name in (*CONSTANT, *CODED, "sensor", "position")}

    def _end(self) -> None:
        for name, dictionary in self._dictionaries.items():
            self._chunks[name].pages.insert(0, self._dictionary_page(name, dictionary))
        self._chunks["value"].pages = self._values.take()
        self.file.add(list(self._chunks.values()), self._rows)
        self._begin()

    def _dictionary_page(self, name: str, dictionary: Dictionary) -> Page:
        """Return the dictionary's page, that of a row group before where it holds the same entries."""
        key = (name, *dictionary.codes)
        if key not in self._made:
            self._made[key] = dictionary.page(self._compressor)
        return self._made[key]

    def _add_shared(self, shared: SharedPages, sensors: int) -> None:
        chunks = self._chunks
        for name in CONSTANT:
            value = getattr(shared.shared, name)
            code = None if value is None else self._dictionaries[name].of([value])[0]
            chunks[name].pages.append(shared.constant(name, sensors * shared.rows, code))
        for name in CODED:
            chunks[name].pages.append(shared.coded(name, sensors, self._dictionaries[name]))
        for name in NUMBERS:
            chunks[name].pages.append(shared.numbers(name, sensors))
        for name, (least, most, nulls) in shared.bounds.items():
            statistics = chunks[name].statistics
            assert statistics is not None
            statistics.add(least, most, sensors * nulls)

    def _add_runs(self, name: str, values: list[Any], records: int) -> None:
        """Append a page in which each of ``values`` stands ``records`` times."""
        chunk = self._chunks[name]
        assert chunk.statistics is not None
        chunk.statistics.add(min(values), max(values), 0)
        codes = self._dictionaries[name].of(values)
        key = (codes, records)
        if key not in self._made:
            width = code_width(max(codes))
            few = records * width < 32
            body = rle_hybrid(np.repeat(codes, records), width) if few else same_runs(codes, records, width)
            self._made[key] = self._compressor.page(bytes((width,)) + body, encoding=RLE_DICTIONARY, values=records * len(values))
        chunk.pages.append(self._made[key])


def encode_traces(pieces: Iterable[Piece], *, level: int, row_group_rows: int, optional: Set[str], thorough: bool = False) -> ParquetFile:
    """Return the Parquet file of ``pieces``; ``optional`` names the columns that hold nulls; ``thorough`` as :class:`Compressor` has it.

    ``chamber``, ``window_id`` and ``value`` can; a null in a column that is not named is the caller's fault.
    """
    writer = TracePages(level=level, row_group_rows=row_group_rows, optional=optional, thorough=thorough)
    for piece in pieces:
        writer.add(piece)
    return writer.finish()
