"""Rows of the lake's own logs, made anew from the working index, which knows the state that they led to."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa

from ingest.gaps import gap_id, gaps_of
from ingest.intake import Settings
from ingest.keys import StreamState
from ingest.records import StreamKey
from kernels import sequence
from storage.files import Stager
from storage.index import IndexDelta
from storage.ledger import Entry
from storage.schema import rows_table
from storage.store import Change, Store
from storage.upkeep import swept

TABLES = ("gaps_log", "superseded", "streams_log")
"""The tables whose rows are made anew; those of windows and features follow from the windows that the repair derives anew."""

INLINE_ROWS = 512


def rederive(store: Store, tables: Sequence[str], settings: Settings) -> Entry:
    """Commit what ``tables`` lack of the state that the index knows."""
    lake = settings.config.lake
    stager = Stager(store.data, settings.new_id, level=lake.compression_level, row_group_rows=lake.row_group_rows)
    with store.locked(settings.wait_s):
        with swept(stager):
            with store.reading():
                seq = store.index.head().seq + 1
                rows = {table: _MAKERS[table](store, seq) for table in tables}
            body: dict[str, Any] = {"software": settings.software, "rederived": {table: found.num_rows for table, found in rows.items()}}
            for table in [table for table, found in rows.items() if found.num_rows > INLINE_ROWS]:
                stager.write(table, rows.pop(table))
            body |= {"files": [staged.entry(store.path) for staged in stager.files]}
        try:
            return store.commit(
                lambda _seq: Change("repair", settings.actor, settings.new_id(), body, IndexDelta(0, ""), list(stager.files), rows=rows)
            )
        finally:
            stager.release()


def _states(store: Store) -> list[StreamState]:
    found = []
    for tool, chamber, trace, stream, timed, period_us in store.index.streams():
        runs = np.asarray(store.index.runs(tool, chamber, trace, stream), np.int64).reshape(-1, 4)
        found.append(StreamState(StreamKey(tool, chamber or None, trace, stream), period_us if timed else sequence.COUNTER, runs, runs))
    return found


def _gaps(store: Store, seq: int) -> pa.Table:
    """Return the gaps that the table lacks."""
    known = {
        row[0]
        for row in store.rows(
            "SELECT gap_id FROM lake.main.gaps_log g ANTI JOIN (SELECT id, by_revision FROM lake.main.superseded WHERE subject = 'gap') s "
            "ON g.gap_id = s.id AND g.revision < s.by_revision"
        )
    }
    rows: list[tuple[object, ...]] = []
    for state in _states(store):
        for gap in sorted(gaps_of(state.now, state.period_us)):
            name = gap_id(state, gap)
            if name not in known:
                rows.append((name, *state.key, *gap, seq))
    return rows_table("gaps_log", rows)


def _superseded(store: Store, seq: int) -> pa.Table:
    """Return what replaces each revision that is not the one of today.

    A window's own revision is named as the one that replaced the others: the index takes a later one for a window that is gone.
    """
    rows: list[tuple[object, ...]] = []
    query = (
        "SELECT DISTINCT window_id, revision FROM (SELECT window_id, revision FROM lake.main.windows_log UNION ALL "
        "SELECT window_id, revision FROM lake.main.features_log) l "
        "ANTI JOIN (FROM lake.main.superseded WHERE subject = 'window') s USING (window_id, revision) ORDER BY ALL"
    )
    for window_id, revision in store.rows(query):
        window = store.index.window(window_id)
        if window is None or window.revision != revision:
            rows.append(("window", "", window_id, revision, seq if window is None else window.revision))
    current: set[str] = {gap_id(state, gap) for state in _states(store) for gap in gaps_of(state.now, state.period_us)}
    gaps = store.rows(
        "SELECT gap_id, revision FROM lake.main.gaps_log g ANTI JOIN (FROM lake.main.superseded WHERE subject = 'gap') s "
        "ON g.gap_id = s.id AND g.revision < s.by_revision ORDER BY ALL"
    )
    for name, members in groupby(gaps, key=lambda row: row[0]):
        revisions = [row[1] for row in members]
        if name not in current:
            rows.append(("gap", name, None, None, seq))
        elif len(revisions) > 1:  # it closed and opened again
            rows.append(("gap", name, None, None, revisions[-1]))
    return rows_table("superseded", rows)


def _streams(store: Store, seq: int) -> pa.Table:
    """Return the runs that the table lacks, and the end of those that are no more."""
    columns = "tool, chamber, trace, stream, timed, period_us, time_lo, seq_lo, time_hi, seq_hi"
    logged = {
        (row[0], row[1] or "", *row[2:]): row
        for row in store.rows(f"SELECT {columns} FROM lake.main.streams_log GROUP BY ALL HAVING arg_max(op, revision * 2 + op) > 0")
    }
    rows: list[tuple[object, ...]] = []
    current = set()
    for tool, chamber, trace, stream, timed, period_us in store.index.streams():
        for run in store.index.runs(tool, chamber, trace, stream):
            place = (tool, chamber, trace, stream, timed, period_us, *run)
            current.add(place)
            if place not in logged:
                rows.append((tool, chamber or None, trace, stream, timed, period_us, 1, *run, seq))
    rows += [(*row[:6], -1, *row[6:], seq) for place, row in logged.items() if place not in current]
    return rows_table("streams_log", rows)


_MAKERS = {"gaps_log": _gaps, "superseded": _superseded, "streams_log": _streams}
