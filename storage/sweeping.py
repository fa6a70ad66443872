"""Removes data files that no snapshot names: what interrupted batches left behind, and what expired snapshots released.

A file goes when it is older than the guard, and older than the first file of the oldest batch that still runs, in whatever process.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from storage import erasing
from storage.files import fsync_folder
from storage.index import IndexDelta
from storage.locks import running_since
from storage.points import reached
from storage.store import Change
from storage.upkeep import META, Items, Upkeep

ORPHAN, RELEASED, PURGED, SCRUBBED = "orphan", "released", "purged", "rows that were let go of"
NAMED_IN_ENTRY = 1_000
"""So many of the removed files does a ledger entry name."""

NAMED = (
    f"SELECT path FROM {META}.ducklake_data_file UNION ALL SELECT path FROM {META}.ducklake_delete_file "
    f"UNION ALL SELECT path FROM {META}.ducklake_files_scheduled_for_deletion"
)
"""Files that a snapshot names, or named until it expired."""


@dataclass(slots=True, frozen=True)
class Loose:
    """A file that no snapshot names."""

    path: Path
    why: str
    size: int


def orphans(upkeep: Upkeep) -> list[Loose]:
    """Return the files that were never committed and that nobody is about to commit."""
    now_s = upkeep.store.clock().replace(tzinfo=UTC).timestamp()
    before_s = now_s - upkeep.rules.guard.total_seconds()
    begun = running_since(upkeep.store.path, before_s)
    before_s = before_s if begun is None else min(before_s, begun - 1)
    named = {Path(row[0]).name for row in upkeep.store.rows(NAMED)}
    found = []
    for path in sorted((upkeep.store.data / "main").rglob("*")):
        if path.name in named or path.is_symlink() or not path.is_file():
            continue
        state = path.stat()
        if state.st_mtime < before_s:
            found.append(Loose(path, ORPHAN, state.st_size))
    return found


def released(upkeep: Upkeep) -> list[Loose]:
    """Return the files that only expired snapshots named, and that were released longer ago than the guard."""
    found = upkeep.store.rows(f"SELECT path FROM ducklake_cleanup_old_files('lake', dry_run => true, older_than => {_before(upkeep)})")
    paths = [Path(row[0]) for row in found]
    return [Loose(path, RELEASED, path.stat().st_size if path.exists() else 0) for path in sorted(paths)]


def _before(upkeep: Upkeep) -> str:
    moment: datetime = upkeep.store.clock() - upkeep.rules.guard
    return f"TIMESTAMPTZ '{moment.isoformat()}+00'"


def purged(upkeep: Upkeep) -> list[Loose]:
    """Return the kept and put-aside files of purged data that are still there."""
    paths = [upkeep.store.path / name for name in erasing.left_behind(upkeep.store)]
    return [Loose(path, PURGED, path.stat().st_size) for path in paths]


def databases(upkeep: Upkeep) -> list[Loose]:
    """Return the databases, if rows that were purged or discarded can still be read in their free pages, and no snapshot needs them."""
    paths = [upkeep.store.path / name for name in ("catalog.sqlite", "index.sqlite")] if erasing.scrub_due(upkeep.store) else []
    return [Loose(path, SCRUBBED, 0) for path in paths if path.exists()]


def sweep(upkeep: Upkeep, *, dry_run: bool = False) -> Items:
    """Remove what is loose; the ledger says so first. Return what was, or would be, removed."""
    store = upkeep.store
    listed = [one for kind in (orphans, released, purged, databases) for one in kind(upkeep)]
    if dry_run or not listed:
        return [_item(upkeep, one) for one in listed]
    with store.locked(upkeep.wait_s):
        alone, let_go, gone = orphans(upkeep), released(upkeep), purged(upkeep)
        scrub = erasing.scrub_due(store)
        everything = [*alone, *let_go, *gone, *databases(upkeep)]
        if not everything:
            return []
        body = {
            "software": upkeep.software,
            "orphans": len(alone),
            "released": len(let_go),
            "bytes": sum(one.size for one in everything),
            "paths": [upkeep.relative(one.path) for one in everything[:NAMED_IN_ENTRY]],
        }
        if scrub:  # first: an entry that says so must be true
            erasing.scrub(store)
            body["scrubbed"] = scrub
        entry = store.commit(lambda _seq: Change("sweep", upkeep.actor, "", body, IndexDelta(0, "")))
        reached("sweep_noted")
        for one in alone:
            one.path.unlink(missing_ok=True)
            reached("orphan_removed")
        erasing.erase(store.path, [upkeep.relative(one.path) for one in gone])
        if let_go:
            store.rows(f"SELECT count(*) FROM ducklake_cleanup_old_files('lake', older_than => {_before(upkeep)})")
            reached("released_removed")
        for folder in sorted({one.path.parent for one in everything}):
            fsync_folder(folder)
        reached("sweep_durable")
    return [_item(upkeep, one) | {"ledger_seq": entry.seq} for one in everything]


def _item(upkeep: Upkeep, one: Loose) -> dict[str, object]:
    return {"path": upkeep.relative(one.path), "why": one.why, "bytes": one.size}
