"""What the lake (and the batch's own staged files) already holds: the records of given streams, times and windows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kernels.missing import NULL_BITS
from kernels.sequence import find_keys
from storage.points import reached
from storage.store import Store
from storage.texts import NO_TEXTS, Texts, texts_of
from storage.whereabouts import Whereabouts

Int64 = npt.NDArray[np.int64]


@dataclass(slots=True)
class StagedTraces:
    """A staged file of trace rows (``table``: traces, texts or conflicts) of one tool, and the times that it spans."""

    table: str
    tool: str
    path: Path
    time_lo: int
    time_hi: int


@dataclass(slots=True)
class Contents:
    """``n`` records of history sorted by (stream, time, seq), with the bits of their ``m`` values."""

    stream: list[str]
    time_us: Int64
    seq: Int64
    start: Int64
    count: Int64
    bits: Int64
    payload: list[str]
    texts: Texts


def _paths(staged: Iterable[StagedTraces], table: str, tool: str, ranges: Sequence[tuple[int, int]]) -> list[str]:
    return [
        str(file.path)
        for file in staged
        if file.table == table and file.tool == tool and any(file.time_lo <= hi and file.time_hi >= lo for lo, hi in ranges)
    ]


def source(table: str, columns: str, where: str, paths: Sequence[str], stored: str = "") -> str:
    """Return a query over the lake's ``table`` and the staged files at ``paths``; ``stored``: what holds for the lake's rows only."""
    query = f"SELECT {columns} FROM lake.main.{table} WHERE {where}{stored}"
    return f"{query} UNION ALL SELECT {columns} FROM {_files(paths)} WHERE {where}" if paths else query


def _files(paths: Sequence[str]) -> str:
    exact = [re.sub(r"([*?[])", r"[\1]", path) for path in paths]  # a path is no pattern
    return f"read_parquet([{_quoted(exact)}], hive_partitioning = false)"


def _outside(paths: Sequence[str]) -> str:
    return f" AND filename NOT IN ({_quoted(paths)})" if paths else ""


def _quoted(names: Sequence[str]) -> str:
    return ", ".join("'" + name.replace("'", "''") + "'" for name in names)


def _where(chamber: str | None, ranges: Sequence[tuple[int, int]]) -> str:
    """Return the condition for rows of one (tool, chamber, trace), given streams and time ranges (parameters $tool, ...)."""
    times = " OR ".join(f"ts BETWEEN make_timestamp({lo}) AND make_timestamp({hi})" for lo, hi in ranges)
    if len(ranges) > 1:  # DuckLake prunes no file by a disjunction: the range around all of them does
        times = f"ts BETWEEN make_timestamp({min(lo for lo, _ in ranges)}) AND make_timestamp({max(hi for _, hi in ranges)}) AND ({times})"
    place = "chamber IS NULL" if chamber is None else "chamber = $chamber"
    return f"tool = $tool AND {place} AND trace = $trace AND ({times}) AND list_contains($streams, stream)"


def merge_ranges(times: Int64, most: int = 32) -> list[tuple[int, int]]:
    """Return at most ``most`` closed ranges that cover the sorted ``times``, cut where they are furthest apart."""
    if len(times) == 0:
        return []
    steps = np.diff(times)
    cuts = np.sort(np.argsort(steps, kind="stable")[::-1][: most - 1])
    cuts = cuts[steps[cuts] > 60_000_000]
    starts = np.concatenate(([0], cuts + 1))
    stops = np.concatenate((cuts, [len(times) - 1]))
    return [(int(times[a]), int(times[b])) for a, b in zip(starts, stops, strict=True)]


class History:
    """Reads back what is kept; ``staged`` grows while a batch is being written."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.staged: list[StagedTraces] = []
        self.without: list[str] = []
        """Committed files that staged ones stand in for."""
        self._withdrawn = ""
        self._stored = ""
        self._whereabouts: Whereabouts | None = None

    def withdrawn(self, payloads: Sequence[str], paths: Sequence[str]) -> None:
        """Leave out the lake's rows of ``payloads``, and the committed files at ``paths``: staged ones stand in for them."""
        self.without = list(paths)
        self._withdrawn = f" AND payload_id NOT IN ({_quoted(payloads)})"
        self._stored = self._withdrawn + _outside(paths)

    def _traces(
        self, columns: str, where: str, tool: str, ranges: Sequence[tuple[int, int]], withdrawn: str, without: Sequence[str]
    ) -> str:
        """Return a query over the traces of ``tool`` that are stored or staged.

        Of the stored ones those that ``withdrawn`` (a condition, or '') and the committed files at ``without`` leave.
        """
        staged = _paths(self.staged, "traces", tool, ranges)
        if self._whereabouts is None:
            self._whereabouts = Whereabouts(self._store, "traces")
        files = self._whereabouts.of(tool, ranges)
        if files is None:
            return source("traces", columns, where, staged, withdrawn + _outside(without))
        left_out = set(without)
        files = [path for path in files if path not in left_out]
        parts = [f"SELECT {columns} FROM {_files(files)} WHERE {where}{withdrawn}"] if files else []
        parts += [f"SELECT {columns} FROM {_files(staged)} WHERE {where}"] if staged else []
        return " UNION ALL ".join(parts) or source("traces", columns, f"{where} AND false", ())

    def _parameters(self, tool: str, chamber: str | None, trace: str, streams: Sequence[str]) -> dict[str, object]:
        parameters: dict[str, object] = {"tool": tool, "trace": trace, "streams": list(streams)}
        return parameters if chamber is None else parameters | {"chamber": chamber}

    def _query(self, query: str, parameters: dict[str, object]) -> pa.Table:
        reached("history_asked")
        return self._store.connection.execute(query, parameters).to_arrow_table()

    def contents(self, tool: str, chamber: str | None, trace: str, streams: Sequence[str], ranges: Sequence[tuple[int, int]]) -> Contents:
        """Return the kept records of ``streams`` within ``ranges``."""
        where = _where(chamber, ranges)
        parameters = self._parameters(tool, chamber, trace, streams)
        columns = "stream, epoch_us(ts) AS time_us, seq, position, value, payload_id, byte_start"
        query = self._traces(columns, where, tool, ranges, self._withdrawn, self.without)
        rows = self._query(f"SELECT * FROM ({query}) ORDER BY stream, time_us, seq, payload_id, byte_start, position", parameters)
        contents = _contents(rows)
        if len(contents.stream) and self._has_texts(tool):
            query = source(
                "texts",
                "stream, epoch_us(ts) AS time_us, seq, position, text",
                where,
                _paths(self.staged, "texts", tool, ranges),
                self._stored,
            )
            contents.texts = _texts(self._query(f"SELECT * FROM ({query}) ORDER BY stream, time_us, seq", parameters), contents)
        return contents

    def unstored_texts(self, texts: pa.Table) -> pa.Table:
        """Return the rows of ``texts`` that the lake does not hold yet."""
        names = ("tool", "chamber", "trace", "stream", "seq", "ts", "position", "payload_id")
        match = " AND ".join(f"s.{name} IS NOT DISTINCT FROM t.{name}" for name in names)
        connection = self._store.connection
        connection.register("some_texts", texts)
        try:
            found = connection.execute(f"SELECT t.* FROM some_texts t ANTI JOIN lake.main.texts s ON {match}").to_arrow_table()
        finally:
            connection.unregister("some_texts")
        return found.cast(texts.schema)

    def has_conflicts(self, tool: str) -> bool:
        """Tell whether any conflict of ``tool`` is stored."""
        return self._store.index.facts(tool).has_conflicts or any(p.table == "conflicts" and p.tool == tool for p in self.staged)

    def _has_texts(self, tool: str) -> bool:
        return self._store.index.facts(tool).has_texts or any(place.table == "texts" and place.tool == tool for place in self.staged)

    def conflicts(
        self, tool: str, chamber: str | None, trace: str, streams: Sequence[str], ranges: Sequence[tuple[int, int]]
    ) -> list[tuple[str, int, int, str]]:
        """Return (stream, time, seq, digest of the content) of the conflicting records that are stored."""
        columns = "stream, epoch_us(ts) AS time_us, seq, content"
        query = source("conflicts", columns, _where(chamber, ranges), _paths(self.staged, "conflicts", tool, ranges), self._stored)
        return self._store.connection.execute(
            f"SELECT DISTINCT * FROM ({query})", self._parameters(tool, chamber, trace, streams)
        ).fetchall()

    def keys(self, tool: str, chamber: str | None, trace: str, stream: str, lo: int, hi: int) -> tuple[Int64, Int64]:
        """Return (time_us, seq) of every kept record of one stream within [lo, hi], sorted."""
        ranges = [(lo, hi)]
        where = _where(chamber, ranges) + " AND position = 1"
        query = self._traces("epoch_us(ts) AS time_us, seq", where, tool, ranges, self._withdrawn, self.without)
        rows = self._query(f"SELECT * FROM ({query}) ORDER BY time_us, seq", self._parameters(tool, chamber, trace, [stream]))
        return rows.column(0).to_numpy(), rows.column(1).to_numpy()

    def windows(self, tool: str, window_ids: Sequence[int], lo: int, hi: int, without: Sequence[str]) -> pa.Table:
        """Return the samples of ``window_ids``, sorted by (window_id, trace, position, ts, seq, stream).

        Rows of the committed files named in ``without`` are left out (staged files stand in for them).
        """
        where = "tool = $tool AND ts BETWEEN make_timestamp($lo) AND make_timestamp($hi) AND list_contains($ids, window_id)"
        columns = "window_id, trace, position, sensor, epoch_us(ts) AS time_us, seq, stream, value"
        query = self._traces(columns, where, tool, [(lo, hi)], "", without)
        parameters = {"tool": tool, "lo": lo, "hi": hi, "ids": list(window_ids)}
        return self._query(f"SELECT * FROM ({query}) ORDER BY window_id, trace, position, time_us, seq, stream", parameters)

    def files_with(self, table: str, tool: str, chamber: str | None, lo: int, hi: int) -> list[str]:
        """Return the committed files of ``table`` that hold rows of a chamber within [lo, hi)."""
        place = "chamber IS NULL" if chamber is None else "chamber = $chamber"
        parameters = {"tool": tool, "lo": lo, "hi": hi} | ({} if chamber is None else {"chamber": chamber})
        query = (
            f"SELECT DISTINCT filename FROM lake.main.{table} "
            f"WHERE tool = $tool AND {place} AND ts >= make_timestamp($lo) AND ts < make_timestamp($hi)"
        )
        return [row[0] for row in self._store.connection.execute(query, parameters).fetchall()]


def spans_of(names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Return name -> [begin, end) of sorted ``names``."""
    spans: dict[str, tuple[int, int]] = {}
    for i, name in enumerate(names):
        spans[name] = (spans.get(name, (i, i))[0], i + 1)
    return spans


def _texts(rows: pa.Table, contents: Contents) -> Texts:
    """Give the texts in ``rows``, sorted by (stream, time, seq), to the records of ``contents``."""
    rows = rows.combine_chunks()
    if not rows.num_rows:
        return NO_TEXTS
    streams = rows.column("stream").combine_chunks().dictionary_encode()
    code, time_us, seq = streams.indices.to_numpy(), rows.column("time_us").to_numpy(), rows.column("seq").to_numpy()
    record = np.full(rows.num_rows, -1, np.int64)
    begin = spans_of(contents.stream)
    for number, name in enumerate(streams.dictionary.to_pylist()):
        (lo, hi), own = begin.get(name, (0, 0)), code == number
        found = find_keys(time_us[own], seq[own], contents.time_us[lo:hi], contents.seq[lo:hi])
        record[own] = np.where(found >= 0, found + lo, -1)
    known = np.flatnonzero(record >= 0)
    position = rows.column("position").to_numpy()[known] - 1
    return texts_of(record[known], position, rows.column("text").combine_chunks().take(pa.array(known)))


def _contents(rows: pa.Table) -> Contents:
    """Cut sorted narrow rows into records."""
    n = rows.num_rows
    if n == 0:
        empty = np.empty(0, np.int64)
        return Contents([], empty, empty, empty, empty, empty, [], NO_TEXTS)
    rows = rows.combine_chunks()
    stream = rows.column("stream").combine_chunks().dictionary_encode()
    payload = rows.column("payload_id").combine_chunks().dictionary_encode()
    code = stream.indices.to_numpy()
    owner = payload.indices.to_numpy()
    time_us, seq = rows.column("time_us").to_numpy(), rows.column("seq").to_numpy()
    byte_start = rows.column("byte_start").to_numpy()
    first = np.ones(n, bool)
    first[1:] = (np.diff(code) != 0) | (np.diff(time_us) != 0) | (np.diff(seq) != 0) | (np.diff(owner) != 0) | (np.diff(byte_start) != 0)
    start = np.flatnonzero(first)
    count = np.diff(np.append(start, n))
    value = rows.column("value").combine_chunks()
    bits = np.asarray(value.fill_null(0.0).to_numpy(zero_copy_only=False)).view(np.int64).copy()
    if value.null_count:
        bits[value.is_null().to_numpy(zero_copy_only=False)] = NULL_BITS
    names, owners = stream.dictionary.to_pylist(), payload.dictionary.to_pylist()
    return Contents(
        [names[i] for i in code[start]], time_us[start], seq[start], start, count, bits, [owners[i] for i in owner[start]], NO_TEXTS
    )
