"""Quarantined spans are discarded: their bytes go for good, the entry with reason and digest stays."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from ingest.errors import UsageError
from ingest.intake import Settings
from storage.files import Stager
from storage.index import IndexDelta
from storage.ledger import Entry
from storage.rewriting import Rewriting
from storage.schema import arrow_schema, rows_table
from storage.store import Change, Store
from storage.upkeep import swept
from storage.verify import entries, files_of


def effect(store: Store, ids: list[str]) -> dict[str, Any]:
    """Return the entries whose bytes would go; raise :class:`UsageError` where one is not open."""
    found = store.rows(
        "SELECT quarantine_id, payload_id, tool, reason, octet_length(bytes), sha256 FROM quarantine "
        "WHERE state = 'open' AND list_contains(?, quarantine_id) ORDER BY quarantine_id",
        [ids],
    )
    missing = sorted(set(ids) - {row[0] for row in found})
    if missing or not ids:
        raise UsageError(f"no open quarantine entry: {', '.join(missing) or 'none was named'}; 'loadlock quarantine list' names them")
    return {
        "quarantine": [dict(zip(("quarantine_id", "payload_id", "tool", "reason", "bytes", "sha256"), row, strict=True)) for row in found]
    }


def discard(store: Store, ids: list[str], settings: Settings, note: dict[str, Any]) -> Entry:
    """Let the bytes of ``ids`` go, in one commit; the caller holds the writer lock."""
    lake = settings.config.lake
    stager = Stager(store.data, settings.new_id, level=lake.compression_level, row_group_rows=lake.row_group_rows)
    those = "quarantine_id IN (" + ", ".join("'" + name.replace("'", "''") + "'" for name in ids) + ")"
    with swept(stager):
        with store.reading():
            rewriting = Rewriting(store, stager, files_of(list(entries(store)))[0])
            stubs = store.arrow(
                f"SELECT * REPLACE (NULL::BLOB AS bytes, sha256(bytes) AS sha256) FROM lake.main.quarantine_log WHERE {those}"
            )
            rewriting.leave_out("quarantine_log", those)
        schema = arrow_schema("quarantine_log")
        rows: dict[str, pa.Table] = {"quarantine_log": stubs.select(schema.names).cast(schema)}
        body = {"software": settings.software, "files": [staged.entry(store.path) for staged in stager.files]}
        body |= {"removed": [path.relative_to(store.path).as_posix() for paths in rewriting.removed.values() for path in paths], **note}

    def change(seq: int) -> Change:
        states = rows_table("quarantine_states", [(name, "discarded", seq) for name in ids])
        delta = IndexDelta(0, "")
        files = list(stager.files)
        return Change(
            "discard", settings.actor, "", body, delta, files, rewriting.removed, rows | {"quarantine_states": states}, rewriting.deleted
        )

    try:
        return store.commit(change)
    finally:
        stager.release()
