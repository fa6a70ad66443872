"""Brings a lake of an older format to today's: a backup first, the catalog in one transaction, then what follows from it.

The marker says that an upgrade is going on before anything changes, so that older software refuses the lake from then on; a run that was
broken off is finished by the next one. Data files stay as they are: a column that they lack reads as NULL.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import duckdb

from storage import ledger
from storage.backup import back_up_catalog
from storage.catalog import attach_sql, rows
from storage.errors import OlderLake
from storage.files import write_durably
from storage.index import Head, Index
from storage.keeper import Keeper
from storage.locks import writer_lock
from storage.marker import UPGRADING, read_marker
from storage.mirror import Mirror
from storage.patience import answered
from storage.points import reached
from storage.schema import FORMAT_VERSION
from storage.store import Store

FOLDER = "before-upgrade"
"""Where in the lake the backups lie that upgrades made."""


@dataclass(slots=True, frozen=True)
class Step:
    """What leads from one format to the next; ``migrate`` changes the catalog within the caller's transaction."""

    says: str
    migrate: Callable[[duckdb.DuckDBPyConnection], None]


def _add_columns(columns: Mapping[str, Mapping[str, str]], connection: duckdb.DuckDBPyConnection) -> None:
    for table, added in columns.items():
        for name, kind in added.items():
            connection.execute(f'ALTER TABLE lake.main.{table} ADD COLUMN "{name}" {kind}')


STEPS: dict[int, Step] = {
    1: Step(
        "quarantine entries keep the digest of discarded bytes; circuits can be overridden",
        partial(
            _add_columns,
            {"quarantine_log": {"sha256": "VARCHAR"}, "circuits_log": {"override": "VARCHAR", "override_until": "TIMESTAMP"}},
        ),
    ),
}
"""Format -> the step to the next one."""


def upgrade(path: Path, *, actor: str, software: str, wait_s: float) -> dict[str, Any]:
    """Bring the lake at ``path`` to today's format and return what was done, as the command prints it."""
    path = path.resolve()
    read_marker(path, older=True)
    with writer_lock(path / "lock", wait_s), answered("the lake was upgraded"):
        marker = read_marker(path, older=True)
        version = int(marker.get(UPGRADING, marker["format_version"]))
        done = {"schema": 1, "lake": str(path), "from": version, "to": FORMAT_VERSION}
        if version == FORMAT_VERSION:
            return done | {"upgraded": False, "backup": None, "ledger_seq": None}
        if version not in STEPS:
            raise OlderLake(f"{path}: of format {version}, from before the first release; ingest its payloads into a new lake")
        store = Store(path, upgrading=True)
        try:
            entry = _upgrade(store, marker, version, actor, software)
        finally:
            store.close()
        return done | {"upgraded": True, "backup": json.loads(entry.body)["backup"], "ledger_seq": entry.seq}


def _upgrade(store: Store, marker: dict[str, Any], version: int, actor: str, software: str) -> ledger.Entry:
    path = store.path
    entry = _entry(store)
    if entry is None:
        seq, digest = store.head()
        Mirror(path / "mirror").settle(seq, digest, (0, ""))
        folder = path / FOLDER / f"format-{version}-entry-{seq}"
        folder.parent.mkdir(exist_ok=True)
        store.marker = {name: value for name, value in marker.items() if name != UPGRADING} | {"format_version": version}
        back_up_catalog(store, folder, software)
        _mark(path, marker | {"format_version": FORMAT_VERSION, UPGRADING: version, "upgraded_by": software})
        reached("upgrade_noted")
        entry = _migrate(store, version, actor, {"backup": folder.relative_to(path).as_posix(), "software": software})
        reached("migrated")
    Keeper(path, Mirror(path / "mirror")).start_again(store.connection, Head(entry.seq, entry.hash, "", store.snapshot()))
    _renew_index(path)
    write_durably(path / "attach.sql", attach_sql(path / "catalog.sqlite", path / "data").encode())
    final = {name: value for name, value in marker.items() if name != UPGRADING}
    _mark(path, final | {"format_version": FORMAT_VERSION, "upgraded_by": software})
    return entry


def _entry(store: Store) -> ledger.Entry | None:
    """Return the entry of an upgrade to today's format that was committed before."""
    found = store.rows(
        "SELECT seq, recorded_at, actor, action, batch_id, body, prev_hash, hash FROM lake.main.ledger WHERE action = 'upgrade' "
        "AND json_extract(body, '$.to')::BIGINT = ?",
        [FORMAT_VERSION],
    )
    return ledger.Entry(*found[0]) if found else None


def _migrate(store: Store, version: int, actor: str, note: dict[str, Any]) -> ledger.Entry:
    """Take all steps in one transaction with the ledger entry."""
    seq, previous = store.head()
    steps = [STEPS[number].says for number in range(version, FORMAT_VERSION)]
    body = {"from": version, "to": FORMAT_VERSION, "steps": steps, **note}
    entry = ledger.seal(seq + 1, store.clock(), actor, "upgrade", "", body, previous)
    execute = store.connection.execute
    execute("BEGIN")
    for number in range(version, FORMAT_VERSION):
        STEPS[number].migrate(store.connection)
    execute(
        "INSERT INTO lake.main.ledger VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [entry.seq, entry.recorded_at, entry.actor, entry.action, entry.batch_id, entry.body, entry.prev_hash, entry.hash],
    )
    extra = ledger.canonical({"batch_id": "", "seq": entry.seq, "hash": entry.hash})
    execute("CALL lake.set_commit_message(?, ?, extra_info => ?)", [entry.actor, entry.action, extra])
    execute("COMMIT")
    assert rows(store.connection, "SELECT hash FROM lake.main.ledger WHERE seq = ?", [entry.seq]) == [(entry.hash,)]
    return entry


def _renew_index(path: Path) -> None:
    """Give the index today's tables; it follows from the catalog, but for the numbers that it handed out."""
    with closing(sqlite3.connect(path / "index.sqlite", timeout=60)) as database, database:
        database.execute("DROP TABLE IF EXISTS circuit")
    index = Index(path / "index.sqlite")
    try:
        index.clear()
    finally:
        index.close()


def _mark(path: Path, marker: dict[str, Any]) -> None:
    write_durably(path / "lake.json", (json.dumps(marker, indent=1) + "\n").encode())
