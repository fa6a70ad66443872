"""After a purge or a discard: files that go with the data, and the pages of catalog and index in which deleted rows can still be read.

The commit takes the rows out of what the lake shows. Files of old snapshots go when these expire and are swept; SQLite leaves deleted rows
in its free pages until the database is written anew. The sweep that finds no older snapshot left does that, and the ledger says so.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from storage.errors import Busy
from storage.expiry import forget_rows
from storage.files import fsync_folder
from storage.points import reached
from storage.store import Store
from storage.verify import entries, kept_files

ACTIONS = ("purge", "discard")
META = "__ducklake_metadata_lake"

_VACUUM = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
database.execute("VACUUM")
busy = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
database.close()
sys.exit("readers hold on to it" if busy else 0)
"""
"""Runs in a process of its own (rule R5)."""


def erase(root: Path, paths: Iterable[str]) -> None:
    """Remove kept and put-aside files of purged data; the caller holds the writer lock."""
    folders = set()
    for path in (root / name for name in paths):
        path.unlink(missing_ok=True)
        folders.add(path.parent)
        reached("erased")
    for folder in folders:
        if folder.is_dir():
            fsync_folder(folder)


def left_behind(store: Store) -> list[str]:
    """Return the files that a purge says it removed and that are still there: it was broken off after its commit."""
    bodies = [json.loads(row[0]) for row in store.rows("SELECT body FROM lake.main.ledger WHERE action = 'purge'")]
    names = {name for body in bodies for name in body.get("erased", ()) if (store.path / name).exists()}
    return sorted(names - set(kept_files(list(entries(store))))) if names else []


def _last(store: Store) -> int:
    return int(store.rows("SELECT coalesce(max(seq), 0) FROM lake.main.ledger WHERE list_contains(?, action)", [list(ACTIONS)])[0][0])


def older_snapshots(store: Store) -> int:
    """Return how many kept snapshots still show what the last purge or discard took away."""
    seq = _last(store)
    if not seq:
        return 0
    since = f"SELECT min(snapshot_id) FROM {META}.ducklake_snapshot_changes WHERE json_extract(commit_extra_info, '$.seq')::BIGINT >= ?"
    return int(store.rows(f"SELECT count(*) FROM {META}.ducklake_snapshot WHERE snapshot_id < ({since})", [seq])[0][0])


def scrub_due(store: Store) -> int:
    """Return the ledger entry of the last purge or discard if its rows are to be scrubbed from the databases now, else 0."""
    seq = _last(store)
    if not seq or older_snapshots(store):
        return 0
    done = "SELECT coalesce(max(json_extract(body, '$.scrubbed')::BIGINT), 0) FROM lake.main.ledger WHERE action = 'sweep' AND seq > ?"
    return seq if int(store.rows(done, [seq])[0][0]) < seq else 0


def scrub(store: Store) -> None:
    """Write catalog and index anew, without the rows that they let go of; the caller holds the writer lock."""
    forget_rows(store)
    catalog = store.path / "catalog.sqlite"
    child = subprocess.run([sys.executable, "-I", "-c", _VACUUM, str(catalog)], capture_output=True, text=True, check=False)
    if child.returncode:
        raise Busy(f"{catalog}: can't be written anew while others read it ({child.stderr.strip()[-200:]}); run the same command again")
    store.index.scrub()
    reached("scrubbed")
