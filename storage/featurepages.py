"""Files of the ``features_log`` table, page by page, whole but for the revision: the commit's number, which only the lock's holder knows.

A column that all sensors of a window share is a run for each window; statistics are byte streams.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.pages import byte_streams, delta_bytes, rle_hybrid, runs
from kernels.reduce import COLUMNS as STATISTICS
from kernels.runs import begins, numbered
from storage.featurerows import COUNTS, REVISION, FeatureRows
from storage.pages import (
    BOOLEAN,
    DELTA_BINARY_PACKED,
    PHYSICAL,
    PLAIN,
    RLE_DICTIONARY,
    Chunk,
    Column,
    Compressor,
    Dictionary,
    ParquetFile,
    Statistics,
    code_width,
    levels,
    same_level,
    whole_width,
)
from storage.schema import COLUMNS

Int64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

REPEATS = 8
"""Counts take a dictionary where each entry stands for as many rows."""


class FeaturePages:
    """The row groups of a file, each of the rows of one :meth:`add`. Every column is optional, as pyarrow writes the table."""

    def __init__(self, *, level: int) -> None:
        kinds = COLUMNS["features_log"].items()
        self._columns = {name: Column(name, PHYSICAL[kind], True, text=kind == "VARCHAR", time=kind == "TIMESTAMP") for name, kind in kinds}
        self._compressor = Compressor(level)
        self._groups: list[tuple[dict[str, Chunk], int]] = []

    def add(self, rows: FeatureRows) -> None:
        """Append a row group; each (window, trace) has a sensor at least."""
        lengths = rows.lengths
        chunks = {name: self._runs(name, values, lengths) for name, values in rows.shared.items()}
        chunks["sensor"] = self._listed("sensor", rows.sensors)
        chunks["position"] = self._listed("position", rows.positions)
        for i, name in enumerate(STATISTICS):
            values = rows.statistics[:, i]
            chunks[name] = self._counts(name, values.astype(np.int64)) if name in COUNTS else self._doubles(name, values)
        self._groups.append((chunks, int(lengths.sum())))

    def finish(self, revision: int | None) -> ParquetFile:
        """Return the file; ``revision`` is that of all rows, None where they came with their own."""
        file = ParquetFile(list(self._columns.values()))
        for chunks, rows in self._groups:
            own = {} if revision is None else {REVISION: self._runs(REVISION, [revision], np.array([rows]))}
            whole = chunks | own
            file.add([whole[name] for name in self._columns], rows)
        file.finish()
        return file

    def _runs(self, name: str, values: Sequence[Any], lengths: Int64) -> Chunk:
        """Return the chunk in which each of ``values`` stands so many times; None is null."""
        column = self._columns[name]
        held = [value for value in values if value is not None]
        present = np.fromiter((value is not None for value in values), np.bool_, len(values))
        total = int(lengths.sum())
        nulls = total - int(lengths[present].sum())
        front = levels(np.repeat(present, lengths))
        chunk = Chunk(column, Statistics(min(held, default=None), max(held, default=None), nulls))
        if column.physical == BOOLEAN:
            packed = np.packbits(np.repeat(np.array(held, np.bool_), lengths[present]), bitorder="little")
            chunk.pages.append(self._compressor.page(front + packed.tobytes(), encoding=PLAIN, values=total))
            return chunk
        dictionary = Dictionary(column.physical)
        codes = np.array(dictionary.of(held), np.int64)
        edges = begins(codes)
        repeats = np.add.reduceat(lengths[present], edges) if held else codes
        width = code_width(len(dictionary.codes) - 1)
        body = front + bytes((width,)) + runs(codes[edges], repeats, width)
        return self._coded(chunk, dictionary, body, total)

    def _listed(self, name: str, lists: Sequence[list[Any]]) -> Chunk:
        """Return the chunk of one of ``lists`` after the other; windows of one trace mostly have the same."""
        dictionary = Dictionary(self._columns[name].physical)
        known: dict[int, Int64] = {}
        for values in lists:
            if id(values) not in known:
                known[id(values)] = np.array(dictionary.of(values), np.int64)
        codes = np.concatenate([known[id(values)] for values in lists])
        chunk = Chunk(self._columns[name], Statistics(min(dictionary.codes), max(dictionary.codes), 0))
        return self._coded(chunk, dictionary, self._numbered(codes, len(dictionary.codes)), len(codes))

    def _counts(self, name: str, values: Int64) -> Chunk:
        chunk = Chunk(self._columns[name], Statistics(int(values.min()), int(values.max()), 0))
        used, codes = numbered(values)
        if len(used) * REPEATS > len(values):
            body = same_level(True, len(values)) + delta_bytes(values)
            chunk.pages.append(self._compressor.page(body, encoding=DELTA_BINARY_PACKED, values=len(values)))
            return chunk
        dictionary = Dictionary(self._columns[name].physical)
        dictionary.of(used.tolist())
        return self._coded(chunk, dictionary, self._numbered(codes, len(used)), len(values))

    def _doubles(self, name: str, values: npt.NDArray[np.float64]) -> Chunk:
        """Return the chunk of a statistic: no minimum and no maximum, which NaN would make untrue for readers that have it."""
        chunk = Chunk(self._columns[name], None)
        present = ~np.isnan(values)
        bits = values[present].view(np.uint64)
        chunk.pages.append(self._compressor.streams(levels(present), byte_streams(bits), values=len(values)))
        return chunk

    def _numbered(self, codes: Int64, entries: int) -> bytes:
        """Return the body of a page of ``codes`` without null, in whole bytes where they are no runs."""
        width = whole_width(entries - 1)
        return same_level(True, len(codes)) + bytes((width,)) + rle_hybrid(codes, width)

    def _coded(self, chunk: Chunk, dictionary: Dictionary, body: bytes, rows: int) -> Chunk:
        page = self._compressor.page(body, encoding=RLE_DICTIONARY, values=rows)
        chunk.pages += [dictionary.page(self._compressor), page]
        return chunk
