"""What a lake holds, at a glance."""

from __future__ import annotations

from typing import Any

from storage.store import Store
from storage.walled import missing_files, repairs

JUMP_US = 86_400_000_000
"""A stream whose time jumps by more than a day is named."""

TOOLS = """
SELECT t.tool, t.rows, t.last_ts, coalesce(g.gaps, 0), coalesce(c.conflicts, 0), coalesce(q.quarantined, 0), coalesce(s.state, 'closed')
FROM (SELECT tool, count(*) AS rows, max(ts) AS last_ts FROM traces GROUP BY tool) t
LEFT JOIN (SELECT tool, count(*) AS gaps FROM gaps GROUP BY tool) g USING (tool)
LEFT JOIN (
  SELECT tool, count(DISTINCT (trace, stream, seq, ts, payload_id)) AS conflicts FROM conflicts GROUP BY tool) c USING (tool)
LEFT JOIN (SELECT tool, count(*) AS quarantined FROM quarantine WHERE state = 'open' GROUP BY tool) q USING (tool)
LEFT JOIN (SELECT tool, state FROM circuits WHERE kind = 'tool') s USING (tool)
ORDER BY t.tool
"""

JUMPS = """
SELECT tool, chamber, trace, stream, time_hi, following FROM (
  SELECT *, lead(time_lo) OVER (PARTITION BY tool, chamber, trace, stream ORDER BY time_lo, seq_lo) AS following FROM (
    SELECT tool, chamber, trace, stream, time_lo, seq_lo, time_hi, seq_hi, arg_max(op, revision) AS op
    FROM lake.main.streams_log GROUP BY ALL)
  WHERE op = 1)
WHERE following - time_hi > ? ORDER BY ALL LIMIT 100
"""


def status(store: Store) -> dict[str, Any]:
    """Return the overview that ``loadlock status --json`` prints."""
    rows = store.rows
    counts = {
        name: rows(f"SELECT count(*) FROM {name}")[0][0]
        for name in ("traces", "windows", "features", "events", "gaps", "conflicts", "texts")
    }
    tools = rows(TOOLS)
    last = rows("SELECT seq, recorded_at, action, batch_id FROM lake.main.ledger ORDER BY seq DESC LIMIT 1")[0]
    sizes = rows(
        "SELECT count(*), coalesce(sum(file_size_bytes), 0) FROM __ducklake_metadata_lake.ducklake_data_file WHERE end_snapshot IS NULL"
    )[0]
    open_spans = rows("SELECT count(*), coalesce(sum(octet_length(bytes)), 0) FROM quarantine WHERE state = 'open'")[0]
    received = rows("SELECT count(*), coalesce(sum(size), 0) FROM payloads WHERE state = 'committed'")[0]
    return {
        "schema": 1,
        "lake": str(store.path),
        "format_version": store.marker["format_version"],
        "rows": counts,
        "tools": [
            dict(
                zip(
                    ("tool", "rows", "last_ts", "gaps", "conflicts", "quarantined", "circuit"),
                    (*row[:2], _text(row[2]), *row[3:]),
                    strict=True,
                )
            )
            for row in tools
        ],
        "last_entry": {"seq": last[0], "recorded_at": _text(last[1]), "action": last[2], "batch_id": last[3]},
        "payloads": {"count": received[0], "bytes": int(received[1])},
        "quarantine": {"open": open_spans[0], "bytes": int(open_spans[1])},
        "sizes": {"files": sizes[0], "bytes": int(sizes[1]), "catalog_bytes": (store.path / "catalog.sqlite").stat().st_size},
        "time_jumps": _jumps(store),
        "missing": [walled.document() for walled in missing_files(store, repairs(store))],
    }


def _jumps(store: Store) -> list[dict[str, Any]]:
    found = store.rows(JUMPS, [JUMP_US])
    return [dict(zip(("tool", "chamber", "trace", "stream", "after_us", "before_us"), row, strict=True)) for row in found]


def _text(value: Any) -> str | None:
    return None if value is None else value.isoformat()
