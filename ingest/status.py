"""What a lake holds, at a glance."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from ingest.circuits import microseconds
from ingest.markup import facts, rows
from storage.mirrorbase import deleted_rows
from storage.store import Store
from storage.upkeep import META
from storage.walled import missing_files, repairs

JUMP_US = 86_400_000_000
"""A stream whose time jumps by more than a day is named."""

RATE_S = 3600
"""The rate of a tool is that of the last hour."""

FILES = """
WITH files AS (
  SELECT f.data_file_id, f.table_id, f.record_count, s.snapshot_time, c.commit_message AS action
  FROM {meta}.ducklake_data_file f JOIN {meta}.ducklake_table t USING (table_id)
  LEFT JOIN {meta}.ducklake_snapshot s ON s.snapshot_id = f.begin_snapshot
  LEFT JOIN {meta}.ducklake_snapshot_changes c ON c.snapshot_id = f.begin_snapshot
  WHERE t.table_name = 'traces' AND t.end_snapshot IS NULL AND f.end_snapshot IS NULL),
bounds AS (
  SELECT b.data_file_id, c.column_name, b.min_value, b.max_value
  FROM {meta}.ducklake_file_column_stats b JOIN {meta}.ducklake_column c USING (table_id, column_id)
  WHERE c.column_name IN ('tool', 'ts') AND c.end_snapshot IS NULL AND table_id IN (SELECT table_id FROM files))
SELECT f.data_file_id, f.record_count, k.min_value, k.max_value, epoch_us(t.max_value::TIMESTAMP),
       CASE WHEN f.action = 'ingest' THEN epoch_us(f.snapshot_time::TIMESTAMPTZ) ELSE 0 END
FROM files f LEFT JOIN bounds k ON k.data_file_id = f.data_file_id AND k.column_name = 'tool'
LEFT JOIN bounds t ON t.data_file_id = f.data_file_id AND t.column_name = 'ts'
"""
"""(file, rows, least tool, greatest tool, last time, when an ingest committed it) of every file of traces, from the catalog alone."""

SCAN = "SELECT tool, count(*), epoch_us(max(ts)) FROM traces WHERE tool IN (SELECT unnest(?)) GROUP BY tool"

COUNTS = {
    "gaps": "SELECT tool, count(*) FROM gaps GROUP BY tool",
    "conflicts": "SELECT tool, count(DISTINCT (trace, stream, seq, ts, payload_id)) FROM conflicts GROUP BY tool",
    "quarantined": "SELECT tool, count(*) FROM quarantine WHERE state = 'open' AND tool IS NOT NULL GROUP BY tool",
    "circuit": "SELECT tool, state FROM circuits WHERE kind = 'tool'",
}
"""What is counted for each tool; a tool that is not in the answer has none."""

ARRIVED = """
SELECT tool, epoch_us(max(arrived)) FROM (
  SELECT s.tool, max(l.recorded_at) AS arrived FROM (SELECT tool, max(revision) AS seq FROM lake.main.streams_log GROUP BY tool) s
  JOIN ledger l USING (seq) GROUP BY s.tool
  UNION ALL SELECT tool, max(committed_at) FROM payloads WHERE tool IS NOT NULL AND records_accepted > 0 GROUP BY tool)
GROUP BY tool
"""
"""When a tool's last new records were committed."""

JUMPS = """
SELECT tool, chamber, trace, stream, time_hi, following FROM (
  SELECT *, lead(time_lo) OVER (PARTITION BY tool, chamber, trace, stream ORDER BY time_lo, seq_lo) AS following FROM (
    SELECT tool, chamber, trace, stream, time_lo, seq_lo, time_hi, seq_hi, arg_max(op, revision) AS op
    FROM lake.main.streams_log GROUP BY ALL)
  WHERE op = 1)
WHERE following - time_hi > ? ORDER BY ALL LIMIT 100
"""


class Status(dict[str, Any]):
    """The overview of a lake: a dictionary, and tables in a notebook."""

    def _repr_html_(self) -> str:
        """Return the overview as tables."""
        last = self["last_entry"]
        pairs = [
            *((name, count) for name, count in self["rows"].items() if count),
            ("payloads", self["payloads"]["count"]),
            ("bytes delivered", self["payloads"]["bytes"]),
            ("bytes stored", self["sizes"]["bytes"]),
            ("quarantine, open", self["quarantine"]["open"]),
            ("last entry", f"{last['seq']} {last['action']} at {last['recorded_at']} UTC"),
        ]
        return facts(f"lake {self['lake']}", pairs) + rows("tools", self["tools"]) + rows("circuits", self["circuits"])


def status(store: Store) -> Status:
    """Return the overview that ``loadlock status --json`` prints."""
    ask = store.rows
    counts = {
        name: ask(f"SELECT count(*) FROM {name}")[0][0]
        for name in ("traces", "windows", "features", "events", "gaps", "conflicts", "texts")
    }
    last = ask("SELECT seq, recorded_at, action, batch_id FROM lake.main.ledger ORDER BY seq DESC LIMIT 1")[0]
    sizes = ask(
        "SELECT count(*), coalesce(sum(file_size_bytes), 0) FROM __ducklake_metadata_lake.ducklake_data_file WHERE end_snapshot IS NULL"
    )[0]
    open_spans = ask("SELECT count(*), coalesce(sum(octet_length(bytes)), 0) FROM quarantine WHERE state = 'open'")[0]
    received = ask("SELECT count(*), coalesce(sum(size), 0) FROM payloads WHERE state = 'committed'")[0]
    return Status(
        {
            "schema": 1,
            "lake": str(store.path),
            "format_version": store.marker["format_version"],
            "rows": counts,
            "tools": _tools(store),
            "last_entry": {"seq": last[0], "recorded_at": _text(last[1]), "action": last[2], "batch_id": last[3]},
            "payloads": {"count": received[0], "bytes": int(received[1])},
            "quarantine": {"open": open_spans[0], "bytes": int(open_spans[1])},
            "sizes": {"files": sizes[0], "bytes": int(sizes[1]), "catalog_bytes": (store.path / "catalog.sqlite").stat().st_size},
            "circuits": _circuits(store),
            "features_owed": ask("SELECT count(*) FROM features_owed")[0][0],
            "time_jumps": _jumps(store),
            "missing": [walled.document() for walled in missing_files(store, repairs(store))],
        }
    )


def _tools(store: Store) -> list[dict[str, Any]]:
    """Return a row for every tool that sent anything: what there is of it, when it came, how fast, how late, and what is wrong with it."""
    now_us = microseconds(store.clock())
    held = _held(store, now_us)
    counts = {name: dict(store.rows(query)) for name, query in COUNTS.items()}
    arrived = dict(store.rows(ARRIVED))
    found = []
    for tool in sorted({*held, *arrived, *(tool for own in counts.values() for tool in own)}):
        rows, last_us, recent = held.get(tool, (0, None, 0))
        arrived_us = arrived.get(tool)
        found.append(
            {
                "tool": tool,
                "rows": rows,
                "last_ts": _moment(last_us),
                "last_at": _moment(arrived_us),
                "samples_per_s": round(recent / RATE_S, 3),
                "lag_s": None if last_us is None or arrived_us is None else round((arrived_us - last_us) / 1e6, 3),
                "silent_s": None if arrived_us is None else round((now_us - arrived_us) / 1e6, 3),
                **{name: counts[name].get(tool, "closed" if name == "circuit" else 0) for name in COUNTS},
            }
        )
    return found


def _held(store: Store, now_us: int) -> dict[str, tuple[int, int | None, int]]:
    """Return tool -> (rows, last time, rows committed within the last hour), from the catalog; files with deleted rows are read."""
    (table,) = store.rows(f"SELECT table_id FROM {META}.ducklake_table WHERE table_name = 'traces' AND end_snapshot IS NULL")[0]
    holes = set(deleted_rows(store.connection, table))
    holes |= {row[0] for row in store.rows(f"SELECT data_file_id FROM {META}.ducklake_delete_file WHERE end_snapshot IS NULL")}
    held: dict[str, tuple[int, int | None, int]] = {}
    read: set[str] = set()
    for number, count, least, greatest, last_us, committed_us in store.rows(FILES.format(meta=META)):
        if least != greatest or last_us is None:  # none that we write
            read |= {tool for (tool,) in store.rows("SELECT DISTINCT tool FROM traces")}
            continue
        if number in holes:
            read.add(least)
        rows, last, recent = held.get(least, (0, None, 0))
        fresh = count if committed_us > now_us - RATE_S * 1_000_000 else 0
        held[least] = (rows + count, max(last or last_us, last_us), recent + fresh)
    for tool, count, last_us in store.rows(SCAN, [sorted(read)]) if read else []:
        held[tool] = (count, last_us, held[tool][2] if tool in held else 0)
    return held


def _circuits(store: Store) -> list[dict[str, Any]]:
    """Return the circuits that are not closed, or overridden."""
    columns = ("kind", "circuit", "state", "reason", "retry_at", "override")
    query = "SELECT kind, tool, state, reason, retry_at, override FROM circuits WHERE state <> 'closed' OR override IS NOT NULL"
    found = [dict(zip(columns, row, strict=True)) for row in store.rows(f"{query} ORDER BY ALL")]
    return [one | {"retry_at": _text(one["retry_at"])} for one in found]


def _jumps(store: Store) -> list[dict[str, Any]]:
    found = store.rows(JUMPS, [JUMP_US])
    return [dict(zip(("tool", "chamber", "trace", "stream", "after_us", "before_us"), row, strict=True)) for row in found]


def _moment(time_us: int | None) -> str | None:
    return None if time_us is None else (datetime(1970, 1, 1) + timedelta(microseconds=time_us)).isoformat()


def _text(value: Any) -> str | None:
    return None if value is None else value.isoformat()
