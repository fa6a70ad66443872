"""Payloads leave a lake as if they had never come: their rows go, and what followed from them is derived anew by the batch at hand.

Rows in data files are left out of new files that stand in for the old ones; rows that the catalog holds are deleted. A conflict against
a withdrawn record takes its place: of several the one that was committed first. What a later delivery repeated was never stored: it is
gone with the record that it repeated, unless that delivery is decoded anew too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingest.batch import Batch, Written
from ingest.keys import StreamState
from ingest.records import Int64, StreamKey
from ingest.windowbook import CONTEXT
from kernels import sequence
from storage.errors import IntegrityError
from storage.history import StagedTraces
from storage.index import Window
from storage.mirrorbase import INLINED
from storage.rewriting import prove
from storage.schema import COLUMNS, arrow_schema
from storage.verify import entries, files_of

TABLES = ("traces", "conflicts", "texts", "events", "quarantine_log")
ORDER = [(name, "ascending") for name in ("chamber", "trace", "position", "ts", "seq")]
_KEY = ("tool", "chamber", "trace", "stream", "ts", "seq")
_RECORD = (*_KEY, "payload_id", "byte_start", "content")


@dataclass(slots=True)
class Withdrawal:
    """The payloads that a batch takes back, and what that changes beside rows in data files.

    ``state``: what their accounts say from now on: retracted, superseded, or purged (their keys stay known, and what old revisions, gaps
    and runs say of them goes with them). ``parts``: payloads of several tools, of which ``part_tool`` alone goes.
    ``deleted``: table -> predicate of rows that the catalog holds. ``promoted``: payload -> samples that took a withdrawn record's place.
    ``chambers``: (tool, chamber) that nothing else has named.
    """

    payloads: list[str]
    state: str
    tools: set[str] = field(default_factory=set)
    parts: list[str] = field(default_factory=list)
    part_tool: str = ""
    removed: dict[str, list[Path]] = field(default_factory=dict)
    deleted: dict[str, str] = field(default_factory=dict)
    promoted: dict[str, int] = field(default_factory=dict)
    chambers: set[tuple[str, str]] = field(default_factory=set)
    reopened: list[str] = field(default_factory=list)
    known: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What the ledger keeps of data files: none is written anew that is not what was committed."""

    rebooked: list[str] = field(default_factory=list)
    """Payloads that stay, of which more or fewer rows are stored than their accounts said."""

    accounts: pa.Table = field(default_factory=lambda: arrow_schema("payloads").empty_table())
    """The accounts that the commit writes anew: of the payloads themselves, and of those whose conflicts took a place."""

    def document(self) -> dict[str, Any]:
        """Return what the ledger keeps of it."""
        chambers = [list(pair) for pair in sorted(self.chambers)]
        return ({"withdrawn_of": self.part_tool, "withdrawn_parts": self.parts} if self.parts else {}) | {
            "withdrawn": self.payloads,
            "promoted": self.promoted,
            "rebooked": self.rebooked,
            "reopened": self.reopened,
            "chambers_removed": chambers,
        }

    @property
    def accounts_of(self) -> str:
        """The predicate of the accounts that are written anew."""
        return _listed("payload_id", [*self.payloads, *self.promoted, *self.rebooked])

    @property
    def paths(self) -> list[str]:
        """The files that new ones stand in for."""
        return [str(path) for paths in self.removed.values() for path in paths]

    @property
    def those(self) -> str:
        """The predicate of the payloads' rows."""
        return self._rows("payload_id")

    @property
    def against(self) -> str:
        """The predicate of conflicts against the payloads' rows."""
        return self._rows("kept_payload_id")

    @property
    def purges(self) -> bool:
        """Tell whether nothing is to be left of the payloads but their accounts."""
        return self.state == "purged"

    def _rows(self, column: str) -> str:
        if not self.parts:
            return _listed(column, self.payloads)
        return f"({_listed(column, self.payloads)} OR (tool = {_literal(self.part_tool)} AND {_listed(column, self.parts)}))"

    def gone(self, table: pa.Table) -> pa.Array:
        """Tell for each row of a lake's table if it is one of the payloads'."""
        owner = table.column("payload_id").cast(pa.string())
        whole = pc.is_in(owner, value_set=pa.array(self.payloads, pa.string()))
        if not self.parts:
            return whole
        part = pc.and_(pc.is_in(owner, value_set=pa.array(self.parts)), pc.equal(table.column("tool").cast(pa.string()), self.part_tool))
        return pc.or_(whole, pc.fill_null(part, False))


def withdraw(batch: Batch, withdrawal: Withdrawal) -> None:
    """Take the payloads' rows out of the lake as ``batch``, which is empty, sees it; the caller holds the writer lock."""
    store, those = batch.store, withdrawal.those
    withdrawal.known = files_of(list(entries(store)))[0]
    batch.withdrawal = withdrawal
    spans = "tool, chamber, trace, stream, epoch_us(min(ts)), epoch_us(max(ts))"
    query = f"SELECT {spans} FROM lake.main.traces WHERE {those} GROUP BY ALL ORDER BY ALL"
    streams = [(StreamKey(*row[:4]), int(row[4]), int(row[5])) for row in store.rows(query)]
    windows = [row[0] for row in store.rows(f"SELECT DISTINCT window_id FROM lake.main.traces WHERE {those} AND window_id > 0")]
    spoken = store.rows(f"SELECT DISTINCT tool, chamber, ts IS NOT NULL FROM lake.main.events WHERE {those}")
    walled = store.rows(f"SELECT DISTINCT tool FROM lake.main.quarantine_log WHERE {those} AND tool IS NOT NULL")
    against = store.rows(f"SELECT DISTINCT tool FROM lake.main.conflicts WHERE {those}")
    withdrawal.tools |= {key.tool for key, _, _ in streams} | {row[0] for row in [*spoken, *walled, *against]}
    windows += _move_conflicts(batch, withdrawal)
    for table in TABLES:
        for path in _files(batch, table, those):
            _leave_out(batch, withdrawal, table, Path(path))
    touched = [*withdrawal.payloads, *withdrawal.parts]  # of parts one tool goes, and no other is looked at
    batch.history.withdrawn(touched, withdrawal.paths)
    batch.events.withdrawn = touched
    _settle_streams(batch, streams)
    _settle_windows(batch, windows)
    withdrawal.accounts = _accounts(batch, withdrawal)
    named = {(key.tool, key.chamber or "") for key, _, _ in streams} | {(row[0], row[1] or "") for row in spoken}
    withdrawal.chambers = _unnamed(batch, withdrawal, named)
    for tool in sorted({row[0] for row in spoken if row[2]} | {tool for tool, _ in withdrawal.chambers}):
        batch.windows.forget(tool, touched, {chamber for of, chamber in withdrawal.chambers if of == tool})


def _files(batch: Batch, table: str, predicate: str) -> list[str]:
    """Return the data files with such rows; rows that the catalog itself holds are noted to be deleted."""
    found = batch.store.rows(f"SELECT DISTINCT filename FROM lake.main.{table} WHERE {predicate}")
    withdrawal = batch.withdrawal
    assert withdrawal is not None
    if any(row[0].startswith(INLINED) for row in found):
        withdrawal.deleted[table] = withdrawal.those
    known = {str(path) for path in withdrawal.removed.get(table, ())}
    return sorted(row[0] for row in found if not row[0].startswith(INLINED) and row[0] not in known)


def _leave_out(batch: Batch, withdrawal: Withdrawal, name: str, path: Path) -> None:
    """Let a new file without the payloads' rows stand in for ``path``."""
    prove(batch.store, withdrawal.known, path)
    try:
        table = pq.ParquetFile(path, page_checksum_verification=True).read()
    except (pa.ArrowException, OSError) as error:
        raise IntegrityError(f"{path}: can't be read ({error}); nothing was changed. 'loadlock audit verify' says what it holds") from error
    withdrawal.removed.setdefault(name, []).append(path)
    _stage(batch, name, table.filter(pc.invert(withdrawal.gone(table))))


def _stage(batch: Batch, name: str, table: pa.Table) -> None:
    """Write rows of the lake's table ``name``, and let the batch know where rows of traces are."""
    if table.num_rows == 0:
        return
    if name not in ("traces", "texts", "conflicts"):
        batch.stager.write(name, table)
        return
    tools = table.column("tool").cast(pa.string())
    for tool in tools.unique().to_pylist():
        own = table.filter(pc.equal(tools, tool))
        staged = batch.stager.write(name, own)
        times = own.column("ts").cast(pa.int64()).to_numpy()
        lo, hi = int(times.min()), int(times.max())
        place = StagedTraces(name, tool, staged.path, lo, hi)
        batch.history.staged.append(place)
        if name == "traces":
            chambers = {chamber or "" for chamber in own.column("chamber").cast(pa.string()).unique().to_pylist()}
            batch.written.append(Written(staged, place, {chamber: batch.windows.windows(tool, chamber, lo, hi) for chamber in chambers}))
        elif name == "conflicts":
            batch.written.append(Written(staged, place, {}))


# --- conflicts


def _move_conflicts(batch: Batch, withdrawal: Withdrawal) -> list[int]:
    """Let conflicts against the payloads' records take their place, and drop the payloads' own; return the windows that gain samples."""
    those = withdrawal.those
    against = withdrawal.against
    paths = _files(batch, "conflicts", f"{those} OR {against}")
    if not paths:
        return []
    for path in paths:
        prove(batch.store, withdrawal.known, Path(path))
    match = " AND ".join(f"c.{name} IS NOT DISTINCT FROM r.{name}" for name in _RECORD)
    listed = ", ".join(_literal(path) for path in paths)
    names = ", ".join(f"c.{name}" for name in COLUMNS["conflicts"] if name != "kept_payload_id")
    order = "p.ledger_seq, k.payload_id, k.byte_start, k.content"
    key = ", ".join(f"k.{name}" for name in _KEY)
    table = batch.store.arrow(
        f"WITH c AS (SELECT * FROM lake.main.conflicts WHERE filename IN ({listed}) AND NOT {those}), "
        f"k AS (SELECT DISTINCT {', '.join(_RECORD)} FROM c WHERE {against}), "
        f"r AS (SELECT k.*, row_number() OVER w AS rank, first_value(k.payload_id) OVER w AS heir FROM k "
        f"JOIN lake.main.payloads p USING (payload_id) WINDOW w AS (PARTITION BY {key} ORDER BY {order})) "
        f"SELECT {names}, coalesce(r.heir, c.kept_payload_id) AS kept_payload_id, coalesce(r.rank, 0) = 1 AS heir "
        f"FROM c LEFT JOIN r ON {match}"
    )
    withdrawal.removed.setdefault("conflicts", []).extend(Path(path) for path in paths)
    heirs = table.filter(table.column("heir")).sort_by(ORDER)
    _stage(
        batch,
        "conflicts",
        _of("conflicts", table.filter(pc.invert(table.column("heir")))).sort_by([("trace", "ascending"), ("ts", "ascending")]),
    )
    _stage(batch, "traces", _of("traces", heirs))
    texts = heirs.filter(pc.is_valid(heirs.column("text")))
    if texts.num_rows:
        batch.tables["texts"].append(_of("texts", texts))
    for name in heirs.column("payload_id").to_pylist():
        withdrawal.promoted[name] = withdrawal.promoted.get(name, 0) + 1
    return [window_id for window_id in heirs.column("window_id").unique().to_pylist() if window_id]


def _of(name: str, table: pa.Table) -> pa.Table:
    schema = arrow_schema(name)
    return table.select(schema.names).cast(schema)


# --- what followed from the rows


def _settle_streams(batch: Batch, streams: Sequence[tuple[StreamKey, int, int]]) -> None:
    """Give every stream the runs that the records left behind make."""
    index = batch.store.index
    periods = {
        row[:4]: row[5] if row[4] else sequence.COUNTER for tool in {key.tool for key, _, _ in streams} for row in index.streams(tool)
    }
    for key, lo, hi in streams:
        place = (key.tool, key.chamber or "", key.trace, key.stream)
        number = batch.registry.stream(key, periods[place])
        state = batch.keys.state(number)
        batch.keys.states[number] = StreamState(key, state.period_us, state.before, _runs_without(batch, state, lo, hi))


def _runs_without(batch: Batch, state: StreamState, lo: int, hi: int) -> Int64:
    """Return the runs of a stream after the keys within [lo, hi] were looked up anew."""
    runs = state.before
    hit = (runs[:, 0] <= hi) & (runs[:, 2] >= lo)
    if not hit.any():
        return runs
    times, seqs = batch.history.keys(*state.key, int(runs[hit, 0].min()), int(runs[hit, 2].max()))
    rest = np.ascontiguousarray(runs[~hit])
    begin = np.asarray([0, len(rest)], np.int64)
    outside = sequence.covered(np.zeros(len(times), np.int32), times, seqs, begin, rest) < 0
    times, seqs = np.ascontiguousarray(times[outside]), np.ascontiguousarray(seqs[outside])
    none = np.zeros(len(times), np.int32)
    ordered = none, times, seqs, np.zeros(len(rest), np.int32), rest
    merged: Int64 = sequence.merge_runs(*ordered, np.asarray([state.step], np.int64))[1]
    return merged


def _settle_windows(batch: Batch, window_ids: Iterable[int]) -> None:
    """Reduce the windows again that lost samples; a window that context columns made ends with its last sample."""
    for window_id in dict.fromkeys(window_ids):
        window = batch.store.index.window(window_id)
        if window is None:
            continue
        if window.source == CONTEXT:
            span = _span(batch, window)
            batch.windows.shrink(window, span)
            if span is None:
                continue
        batch.touched[window_id] = window.tool


def _span(batch: Batch, window: Window) -> tuple[int, int] | None:
    """Return the times of the first and last sample that are left of ``window``."""
    assert window.ended_us is not None
    rows = batch.history.windows(window.tool, [window.window_id], window.started_us, window.ended_us, batch.history.without)
    times = rows.column("time_us").to_numpy()
    return (int(times.min()), int(times.max())) if len(times) else None


def _accounts(batch: Batch, withdrawal: Withdrawal) -> pa.Table:
    """Return the accounts that change: the payloads' own get their new state, others hold more samples; what was booked stays as it was."""
    rows = batch.store.arrow(f"FROM lake.main.payloads WHERE {withdrawal.accounts_of}").select(COLUMNS["payloads"])
    ids = rows.column("payload_id").to_pylist()
    states = [
        withdrawal.state if name in withdrawal.payloads else state
        for name, state in zip(ids, rows.column("state").to_pylist(), strict=True)
    ]
    rows = rows.set_column(rows.column_names.index("state"), "state", pa.array(states, pa.string()))
    for figure, table in (("samples", "traces"), ("events", "events")):
        gained = withdrawal.promoted if figure == "samples" else {}
        counts = f"SELECT payload_id, count(*) FROM lake.main.{table} WHERE {withdrawal.those} GROUP BY 1"
        lost = dict(batch.store.rows(counts)) if withdrawal.parts else {}
        more = [gained.get(name, 0) - (lost.get(name, 0) if name in withdrawal.parts else 0) for name in ids]
        rows = rows.set_column(rows.column_names.index(figure), figure, pc.add(rows.column(figure), pa.array(more, pa.int64())))
    return rows.cast(arrow_schema("payloads"))


def _unnamed(batch: Batch, withdrawal: Withdrawal, named: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return those of the chambers ``named`` by the payloads that no other row names; '' is none."""
    known = {pair for pair in named if pair[1] and pair[1] in batch.store.index.chambers(pair[0])}
    return {
        (tool, chamber)
        for tool, chamber in known
        if not batch.store.rows(
            f"SELECT 1 FROM lake.main.traces WHERE tool = $1 AND chamber = $2 AND NOT {withdrawal.those} UNION ALL "
            f"SELECT 1 FROM lake.main.events WHERE tool = $1 AND chamber = $2 AND ts IS NOT NULL AND NOT {withdrawal.those} UNION ALL "
            f"SELECT 1 FROM lake.main.conflicts WHERE tool = $1 AND chamber = $2 AND NOT {withdrawal.those} LIMIT 1",
            [tool, chamber],
        )
    }


def _listed(column: str, names: Iterable[str]) -> str:
    listed = ", ".join(_literal(name) for name in names)
    return f"{column} IN ({listed})" if listed else "false"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
