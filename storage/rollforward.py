"""Brings the working index to the ledger's head from the lake's own tables, or rebuilds it from nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import duckdb

from storage import circuits
from storage.catalog import rows
from storage.index import Facts, Index, IndexDelta, Window, window_of

SNAPSHOT = "SELECT max(snapshot_id) FROM __ducklake_metadata_lake.ducklake_snapshot"
"""The catalog's newest snapshot: while it stands, so does the ledger."""

_WINDOWS = (
    "SELECT window_id, tool, chamber, lot, wafer, recipe, step, occurrence, epoch_us(started_at), epoch_us(ended_at), complete, source, "
    "ordinal, revision FROM lake.main.windows_log WHERE revision > ? ORDER BY revision"
)


def roll_forward(connection: duckdb.DuckDBPyConnection, index: Index) -> None:
    """Apply to ``index`` what the ledger holds beyond it; the caller holds the writer lock."""
    snapshot = int(rows(connection, SNAPSHOT)[0][0])
    if index.head().snapshot == snapshot:
        return
    newest = rows(connection, "SELECT seq, hash FROM lake.main.ledger ORDER BY seq DESC LIMIT 1")
    if not newest:
        return
    seq, digest = newest[0]
    if seq == 1:
        index.apply(IndexDelta(1, digest))
        index.stand_at(snapshot)
        return
    stood, known = index.head()[:2]
    if (stood, known) == (seq, digest):
        index.stand_at(snapshot)
        return
    same = stood and rows(connection, "SELECT hash FROM lake.main.ledger WHERE seq = ?", [stood]) == [(known,)]
    if stood and (not same or _settled_after(connection, stood)):
        index.clear()
        stood = 0
    index.apply(_delta(connection, stood, int(seq), str(digest)))
    index.stand_at(snapshot)


def _settled_after(connection: duckdb.DuckDBPyConnection, stood: int) -> bool:
    """Tell whether a compaction or a purge dropped revisions that an index at ledger entry ``stood`` has yet to hear of."""
    bodies = rows(connection, "SELECT body FROM lake.main.ledger WHERE seq > ? AND action IN ('compact', 'purge')", [stood])
    return any(json.loads(body).get("settled", 0) > stood for (body,) in bodies)


def _delta(connection: duckdb.DuckDBPyConnection, stood: int, seq: int, digest: str) -> IndexDelta:
    payloads = rows(
        connection,
        "SELECT key, payload_id, sha256, size, ledger_seq FROM lake.main.payloads "
        "WHERE state IN ('committed', 'purged') AND ledger_seq > ?",
        [stood],
    )
    retracted = rows(connection, "SELECT payload_id FROM lake.main.payloads WHERE state NOT IN ('committed', 'purged')")
    log = rows(
        connection,
        "SELECT tool, chamber, trace, stream, timed, period_us, op, time_lo, seq_lo, time_hi, seq_hi FROM lake.main.streams_log "
        "WHERE revision > ? ORDER BY revision, op",
        [stood],
    )
    streams: dict[tuple[str, str, str, str], tuple[bool, int]] = {}
    last: dict[tuple[Any, ...], int] = {}
    for tool, chamber, trace, stream, timed, period_us, op, *run in log:
        key = (tool, chamber or "", trace, stream)
        streams[key] = (timed, period_us)
        last[(*key, *run)] = op
    windows: dict[int, Window] = {}
    for row in rows(connection, _WINDOWS, [stood]):
        windows[row[0]] = replace(window_of(row), chamber=row[2] or "")
    for window_id, by in rows(
        connection,
        "SELECT window_id, max(by_revision) FROM lake.main.superseded WHERE subject = 'window' AND by_revision > ? GROUP BY ALL",
        [stood],
    ):
        if window_id in windows and windows[window_id].revision < by:
            del windows[window_id]
    gone = rows(
        connection,
        "SELECT DISTINCT window_id FROM lake.main.superseded WHERE subject = 'window' AND by_revision > ?",
        [stood],
    )
    chambers: set[tuple[str, str]] = set()
    lost: set[tuple[str, str]] = set()
    touched: dict[str, int] = {}
    for entry, body in rows(connection, "SELECT seq, body FROM lake.main.ledger WHERE seq > ? ORDER BY seq", [stood]):
        content = json.loads(body)
        touched |= dict.fromkeys(content.get("tools", ()), entry)
        left = {(tool, chamber) for tool, chamber in content.get("chambers_removed", ())}
        chambers, lost = chambers - left, lost | left
        chambers |= {(tool, chamber or "") for tool, chamber in content.get("chambers", ())}
    return IndexDelta(
        seq,
        digest,
        payloads=payloads,
        payloads_removed=[row[0] for row in retracted],
        streams=[(*key, *value) for key, value in streams.items()],
        runs_removed=[key for key, op in last.items() if op < 0],
        runs_added=[key for key, op in last.items() if op > 0],
        windows=list(windows.values()),
        windows_removed=[row[0] for row in gone if row[0] not in windows],
        tools=touched,
        facts={tool: _facts(connection, tool) for tool in touched},
        dictionaries=rows(connection, "SELECT tool, body FROM lake.main.dictionaries WHERE revision > ? ORDER BY revision", [stood]),
        sensors=rows(connection, "SELECT tool, trace, position, sensor, unit, svid, source FROM lake.main.sensors ORDER BY valid_from"),
        chambers=chambers,
        chambers_removed=lost,
        checkpoints_void=[(tool, -(1 << 62)) for tool in touched],
        circuits=circuits.logged(connection, stood),
        owed=rows(
            connection,
            "SELECT window_id, arg_max(tool, revision), arg_max(owed, revision) FROM lake.main.features_owed_log WHERE revision > ? "
            "GROUP BY window_id",
            [stood],
        ),
    )


def _facts(connection: duckdb.DuckDBPyConnection, tool: str) -> Facts:
    query = (
        "SELECT (SELECT epoch_us(max(ts)) FROM lake.main.events WHERE tool = $1), "
        "(SELECT epoch_us(max(ts)) FROM lake.main.traces WHERE tool = $1), "
        "(SELECT count(*) > 0 FROM lake.main.texts WHERE tool = $1), (SELECT count(*) > 0 FROM lake.main.conflicts WHERE tool = $1)"
    )
    return Facts(*rows(connection, query, [tool])[0])
