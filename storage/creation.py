"""How a lake comes to be: whoever holds its lock builds it, and writes the marker last."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from storage import ledger
from storage.catalog import attach_sql, open_catalog
from storage.errors import IntegrityError, NoLake
from storage.files import write_durably
from storage.index import Head
from storage.keeper import Keeper
from storage.locks import writer_lock
from storage.mirror import Mirror
from storage.points import reached
from storage.rollforward import SNAPSHOT
from storage.schema import FORMAT_VERSION, create_statements
from storage.store import utc_now

ASIDE = ("payloads", "staging", "walled", "before-upgrade")

OPTIONS = {"parquet_compression": "zstd", "parquet_version": "2", "parquet_row_group_size": "131072", "target_file_size": "256MB"}


def exists(path: Path) -> bool:
    """Tell whether a whole lake is at ``path``."""
    return (path / "lake.json").exists()


def create(path: Path, *, actor: str, software: str, wait_s: float, clock: Callable[[], datetime] = utc_now) -> bool:
    """Make a lake at ``path``, or finish one whose creation was interrupted; return False if a whole one was there.

    Several processes may call it at once: whoever holds ``LAKE/lock`` builds, and the marker is written last.
    """
    path.mkdir(parents=True, exist_ok=True)
    if exists(path):
        return False
    with writer_lock(path / "lock", wait_s):
        if exists(path):
            return False
        _check_empty(path)
        reached("folder_made")
        for name in ("catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm", "index.sqlite", "index.sqlite-wal", "index.sqlite-shm"):
            (path / name).unlink(missing_ok=True)
        for segment in (path / "mirror").glob("*"):
            segment.unlink()
        reached("remains_cleared")
        (path / "data" / "main").mkdir(parents=True, exist_ok=True)
        connection = open_catalog(path / "catalog.sqlite", path / "data", read_only=False)
        for option, value in OPTIONS.items():
            connection.execute(f"CALL lake.set_option('{option}', '{value}')")
        reached("options_set")
        connection.execute("BEGIN")
        for statement in create_statements():
            connection.execute(statement)
            reached("table_made")
        first = ledger.seal(1, clock(), actor, "init", "", _first_body(software), ledger.GENESIS)
        connection.execute(
            "INSERT INTO lake.main.ledger VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [first.seq, first.recorded_at, first.actor, first.action, first.batch_id, first.body, first.prev_hash, first.hash],
        )
        connection.execute("COMMIT")
        reached("tables_made")
        head = Head(first.seq, first.hash, "", int(connection.execute(SNAPSHOT).fetchall()[0][0]))
        Keeper(path.resolve(), Mirror(path / "mirror")).start_again(connection, head)
        connection.close()
        write_durably(path / "attach.sql", attach_sql((path / "catalog.sqlite").resolve(), (path / "data").resolve()).encode())
        marker = {"format_version": FORMAT_VERSION, "created_at": first.recorded_at.isoformat(), "software": software}
        write_durably(path / "lake.json", (json.dumps(marker, indent=1) + "\n").encode())
    return True


def _first_body(software: str) -> dict[str, Any]:
    """Return the body of the first entry; the nonce makes its hash the lake's identity."""
    return {"format_version": FORMAT_VERSION, "software": software, "nonce": secrets.token_hex(16)}


def _check_empty(path: Path) -> None:
    """Raise unless there is nothing at ``path``, or what an interrupted creation leaves: that never holds data."""
    ours = ("lock", "lake.json", "catalog.sqlite", "index.sqlite", "data", "attach.sql", "mirror", *ASIDE, ".")
    strangers = [name for name in os.listdir(path) if not name.startswith(ours)]
    if strangers:
        raise NoLake(f"{path}: not empty and no lake (found {', '.join(sorted(strangers)[:3])}); name an empty or a new folder with --lake")
    if next((path / "data" / "main").rglob("*.parquet"), None) is not None:
        raise IntegrityError(
            f"{path}: data files are here, but no marker (lake.json). Put lake.json back (a backup.json holds it), or move "
            "catalog.sqlite* away and run 'loadlock restore --from-mirror'; a restore that was interrupted wants to be run again"
        )
