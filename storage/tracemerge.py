"""The rows of many small files of one tool's traces, as pieces in the order in which the ingest writes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from kernels.missing import NULL_BITS
from storage.pieces import Float64, Int32, Int64, Names, Piece, SharedColumns
from storage.points import reached

TEXTS = ("tool", "chamber", "trace", "stream", "sensor", "payload_id")
RECORD = ("place", "stream", "seq", "ts", "window", "payload", "byte_start")
"""What all samples of a record share, as numbers."""

KEY = 4
"""So many of ``RECORD`` make a record's key."""


class NotMergeable(Exception):
    """The files hold something that the ingest does not write; they are left as they are."""


class _Codes:
    """Numbers for names, the same over all files."""

    def __init__(self) -> None:
        self.names: dict[str | None, int] = {}

    def of(self, column: pa.ChunkedArray) -> Int64:
        """Return the numbers of a dictionary column."""
        chunk = column.combine_chunks()
        codes = np.asarray(chunk.indices.fill_null(len(chunk.dictionary)), np.int64)
        listed = [*chunk.dictionary.to_pylist(), None]
        if chunk.null_count == 0:
            listed.pop()
        table = np.asarray([self.names.setdefault(name, len(self.names)) for name in listed], np.int64)
        return table[codes] if len(table) else codes

    def ranks(self) -> Int64:
        """Return number -> place in the order of names; no name comes first, as an empty one does."""
        order = sorted(self.names, key=lambda name: name or "")
        ranks = np.empty(len(order), np.int64)
        ranks[[self.names[name] for name in order]] = np.arange(len(order))
        return ranks

    def listed(self) -> list[str | None]:
        """Return the names by number."""
        return list(self.names)


@dataclass(slots=True)
class _Layout:
    """``n`` records of one place whose samples have the same ``k`` positions and sensors: rows (n, k) of the gathered samples."""

    place: int
    records: Int64
    rows: Int64
    positions: Int64
    sensors: Int64


class Merge:
    """Gathers files row group by row group; what it holds grows with their samples (20 bytes each, 60 while they are put in order)."""

    def __init__(self) -> None:
        self._codes = {name: _Codes() for name in TEXTS}
        self._places: dict[tuple[int, int], int] = {}
        self._records: list[tuple[Int64, ...]] = []
        self._count = 0
        self._rows: list[tuple[Int32, Int32, Int32, Float64]] = []
        self._nulls = False

    def add(self, path: Path) -> None:
        """Take in a file, its pages' checksums proven."""
        with pq.ParquetFile(path, read_dictionary=list(TEXTS), page_checksum_verification=True) as file:
            reached("files_read")
            for number in range(file.num_row_groups):
                self._add(file.read_row_group(number))

    def _add(self, rows: pa.Table) -> None:
        if rows.num_rows == 0:
            return
        code = {name: self._codes[name].of(rows.column(name)) for name in TEXTS}
        if len(self._codes["tool"].names) > 1:
            raise NotMergeable("rows of several tools")
        window = rows.column("window_id")
        shared = {
            "place": self._place(code["chamber"], code["trace"]),
            "stream": code["stream"],
            "seq": rows.column("seq").to_numpy(),
            "ts": rows.column("ts").cast(pa.int64()).to_numpy(),
            "window": (window.fill_null(0) if window.null_count else window).to_numpy(),
            "payload": code["payload_id"],
            "byte_start": rows.column("byte_start").to_numpy(),
        }
        first, record = _distinct([shared[name] for name in RECORD[:KEY]])
        for name in RECORD[KEY:]:
            if (shared[name][first][record] != shared[name]).any():
                raise NotMergeable(f"a record with more than one {name}")
        self._records.append(tuple(shared[name][first] for name in RECORD))
        self._rows.append(
            (
                (record + self._count).astype(np.int32),
                rows.column("position").to_numpy(),
                code["sensor"].astype(np.int32),
                self._values(rows.column("value")),
            )
        )
        self._count += len(first)

    def _place(self, chamber: Int64, trace: Int64) -> Int64:
        both = chamber << 32 | trace
        found, inverse = np.unique(both, return_inverse=True)
        table = [self._places.setdefault((value >> 32, value & 0xFFFFFFFF), len(self._places)) for value in found.tolist()]
        return np.asarray(table, np.int64)[inverse]

    def _values(self, column: pa.ChunkedArray) -> Float64:
        if column.null_count == 0:
            return np.asarray(column.to_numpy(), np.float64)
        self._nulls = True
        bits = np.asarray(column.fill_null(0.0).to_numpy()).view(np.int64).copy()
        bits[np.asarray(column.is_null())] = NULL_BITS
        return bits.view(np.float64)

    # --- out

    def optional(self) -> set[str]:
        """Return the columns that hold nulls."""
        found = {"chamber"} if None in self._codes["chamber"].names else set()
        if any((record[RECORD.index("window")] == 0).any() for record in self._records):
            found.add("window_id")
        return found | ({"value"} if self._nulls else set())

    def sample(self) -> Float64:
        """Return some of the values, from all files."""
        every = max(1, sum(len(rows[-1]) for rows in self._rows) >> 16)
        return np.concatenate([rows[-1][::every] for rows in self._rows])

    def pieces(self, rows: int) -> Iterator[Piece]:
        """Yield all rows in order, in pieces of at most ``rows`` rows; afterwards nothing is held."""
        self._unite()
        layouts = sorted(self._layouts(), key=lambda layout: (self._order[layout.place], len(layout.positions), layout.records[0]))
        sensors = self._codes["sensor"].listed()
        for layout in layouts:
            names = [str(sensors[i]) for i in layout.sensors.tolist()]
            order = np.asarray(sorted(range(len(names)), key=lambda i: (names[i], layout.positions[i])), np.int64)
            for a in range(0, len(layout.records), rows):
                at = slice(a, a + rows)
                shared = self._shared(layout.place, layout.records[at])
                together = max(1, rows // len(shared.seq))
                for j in range(0, len(order), together):
                    some = order[j : j + together]
                    values = self._value[layout.rows[at][:, some]].T
                    yield Piece(shared, [names[i] for i in some], layout.positions[some].astype(np.int32), np.ascontiguousarray(values))

    def _unite(self) -> None:
        """Put the records in order, place by place and stream by stream, streams as they begin, each in order of (time, seq).

        Records that row groups cut in two become whole, and their samples follow.
        """
        columns = [np.concatenate(column) for column in zip(*self._records, strict=True)]
        self._records.clear()
        chambers, traces = self._codes["chamber"].ranks(), self._codes["trace"].ranks()
        pairs = np.asarray([(chambers[chamber], traces[trace]) for chamber, trace in self._places])
        self._order = np.empty(len(pairs), np.int64)
        self._order[np.lexsort((pairs[:, 1], pairs[:, 0]))] = np.arange(len(pairs))
        place, stream, seq, ts = columns[:KEY]
        _, of = _distinct([place, stream])
        begin = np.full(int(of.max()) + 1, np.iinfo(np.int64).max)
        np.minimum.at(begin, of, ts)
        first, record = _distinct([self._order[place], begin[of], self._codes["stream"].ranks()[stream], ts, seq])
        for name, column in zip(RECORD[KEY:], columns[KEY:], strict=True):
            if (column[first][record] != column).any():
                raise NotMergeable(f"a record with more than one {name}")
        self._record = dict(zip(RECORD, (column[first] for column in columns), strict=True))
        owner, position, sensor, value = (np.concatenate(column) for column in zip(*self._rows, strict=True))
        self._rows.clear()
        rank = record[owner]
        order = np.argsort(rank << 32 | position, kind="stable")
        self._count_of = np.bincount(rank, minlength=len(first))
        self._column = position[order].astype(np.int64) << 32 | sensor[order]
        self._value = value[order]

    def _layouts(self) -> Iterator[_Layout]:
        start = np.cumsum(self._count_of) - self._count_of
        kinds = self._count_of << 32 | self._record["place"]
        for kind in np.unique(kinds).tolist():
            left = np.flatnonzero(kinds == kind)
            while len(left):
                rows = start[left][:, None] + np.arange(kind >> 32)
                columns = self._column[rows]
                same = (columns == columns[0]).all(axis=1)
                positions = columns[0] >> 32
                if (np.diff(positions) <= 0).any():
                    raise NotMergeable("a record with two samples at one position")
                yield _Layout(kind & 0xFFFFFFFF, left[same], rows[same], positions, columns[0] & 0xFFFFFFFF)
                left = left[~same]

    def _shared(self, place: int, records: Int64) -> SharedColumns:
        chamber, trace = list(self._places)[place]
        found = self._record
        streams, stream = self._named("stream", found["stream"][records])
        payloads, payload = self._named("payload_id", found["payload"][records])
        return SharedColumns(
            tool=str(self._codes["tool"].listed()[0]),
            chamber=self._codes["chamber"].listed()[chamber],
            trace=str(self._codes["trace"].listed()[trace]),
            streams=streams,
            stream=stream,
            payloads=payloads,
            payload=payload,
            seq=found["seq"][records],
            ts=found["ts"][records],
            window_id=found["window"][records],
            byte_start=found["byte_start"][records],
        )

    def _named(self, column: str, codes: Int64) -> tuple[Names, Int32]:
        used, inverse = np.unique(codes, return_inverse=True)
        names = self._codes[column].listed()
        return tuple(str(names[i]) for i in used.tolist()), inverse.astype(np.int32)


def _distinct(keys: list[Int64]) -> tuple[npt.NDArray[np.intp], Int64]:
    """Return (where each distinct key stands first, the number of each row's key), numbered in order of ``keys``, first key first."""
    order = np.lexsort(keys[::-1])
    new = np.zeros(len(order), bool)
    new[:1] = True
    for key in keys:
        column = key[order]
        new[1:] |= column[1:] != column[:-1]
    number = np.empty(len(order), np.int64)
    number[order] = np.cumsum(new) - 1
    return order[new], number


def gather(paths: Iterable[Path]) -> Merge:
    """Return the rows of ``paths``, gathered."""
    merge = Merge()
    for path in paths:
        merge.add(path)
    return merge
