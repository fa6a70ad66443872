"""Backups: the catalog with its ledger as they stood at one entry, the list of data files with their digests, and, if wanted, the files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from storage.catalog import attach_sql, open_catalog
from storage.errors import IntegrityError, LoadlockError
from storage.files import fsync_folder, sha256_of, write_durably
from storage.index import IndexDelta
from storage.kept import FOLDER
from storage.ledger import Entry
from storage.points import reached
from storage.schema import FORMAT_VERSION
from storage.store import Change, Store
from storage.telling import Tell, nobody
from storage.verify import entries, files_of, kept_files

MANIFEST = "backup.json"
UNFINISHED = ".unfinished"
"""Marks a folder that a backup or a restore has begun to fill."""

_COPY = """
import sqlite3, sys
source, target = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True, timeout=60), sqlite3.connect(sys.argv[2])
source.backup(target)
target.execute("PRAGMA journal_mode = DELETE")
found = target.execute("PRAGMA integrity_check").fetchall()
source.close(), target.close()
sys.exit(0 if found == [("ok",)] else str(found[:3]))
"""
"""Runs in a process of its own: two copies of SQLite in one process would break each other's locks (rule R5)."""


class BadBackup(LoadlockError):
    """The folder is not what the command needs."""

    exit_code = 2


def copy_catalog(source: Path, target: Path) -> None:
    """Copy a catalog, as of one moment, while others read and write it; its database proves itself sound."""
    child = subprocess.run([sys.executable, "-I", "-c", _COPY, str(source), str(target)], capture_output=True, text=True, check=False)
    if child.returncode:
        raise IntegrityError(f"{source}: could not be copied ({child.stderr.strip()[-500:]})")
    with open(target, "rb") as file:
        os.fsync(file.fileno())
    reached("catalog_copied")


def backup(
    store: Store, folder: Path, *, actor: str, software: str, wait_s: float, data: bool, tell: Tell = nobody
) -> tuple[Entry, dict[str, Any]]:
    """Write a backup to ``folder``; the lock is held only while the catalog is copied. Return the ledger entry and the manifest."""
    folder = folder.resolve()
    if folder.is_relative_to(store.data):
        raise BadBackup(f"{folder}: lies among the lake's data files; name a folder outside")
    _begin(folder, MANIFEST, "name a new folder for each backup")
    reached("backup_begun")
    tell("catalog copied", 0, 0)
    with store.locked(wait_s):
        manifest = _manifest(store, folder, software, data=data)
        files = manifest["files"]
        left = []
        for number, file in enumerate(files if data else ()):
            tell("files linked", number, len(files))
            if not _link(store.path / file["path"], folder / file["path"]):
                left.append(file)
        body = {name: manifest[name] for name in ("seq", "hash", "catalog_sha256", "data", "software")}
        body |= {"files_held": len(files), "bytes": sum(int(file["size"]) for file in files)}
        entry = store.commit(lambda _seq: Change("backup", actor, "", body, IndexDelta(0, "")))
    for number, file in enumerate(left):
        tell("files copied", number, len(left))
        _copy(store.path / file["path"], folder / file["path"])
    _finish(folder, manifest)
    return entry, manifest


def back_up_catalog(store: Store, folder: Path, software: str) -> None:
    """Write a backup of the catalog alone to ``folder``, unless a whole one is there; the caller holds the writer lock."""
    if not (folder / MANIFEST).exists():
        _begin(folder, MANIFEST, "move it away")
        reached("backup_begun")
        _finish(folder, _manifest(store, folder, software, data=False))


def _manifest(store: Store, folder: Path, software: str, *, data: bool) -> dict[str, Any]:
    """Copy the catalog to ``folder``; return what the manifest says of it, and of the data files that it needs."""
    seq, digest = store.head()
    copy_catalog(store.path / "catalog.sqlite", folder / "catalog.sqlite")
    listed = list(entries(store))
    known, _removed = files_of(listed)
    files = [_named(file, known) for file in _kept_files(store)]
    files += [{"table": FOLDER, "rows": 0, **kept} for _payload, kept in kept_files(listed).values()]
    return {
        "schema": 1,
        "format_version": store.marker["format_version"],
        "lake": store.rows("SELECT hash FROM lake.main.ledger WHERE seq = 1")[0][0],
        "seq": seq,
        "hash": digest,
        "time": store.clock().isoformat(timespec="microseconds") + "Z",
        "software": software,
        "catalog_sha256": sha256_of(folder / "catalog.sqlite"),
        "marker": store.marker,
        "data": data,
        "files": files,
    }


def _finish(folder: Path, manifest: dict[str, Any]) -> None:
    write_durably(folder / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
    (folder / UNFINISHED).unlink()
    reached("backup_whole")


def _begin(folder: Path, last: str, remedy: str) -> None:
    """Make ``folder``, or clear what an interrupted run left there: its mark, and not yet the file that is written ``last``."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / UNFINISHED).exists() or (folder / last).exists():
            raise BadBackup(f"{folder}: not empty; {remedy}")
        for name in ("data", FOLDER, "catalog.sqlite", "attach.sql"):
            shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink(missing_ok=True)
        reached("remains_cleared")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / UNFINISHED).touch()


def _kept_files(store: Store) -> list[dict[str, Any]]:
    """Return (table, path relative to the lake, rows, size) of every file that a kept snapshot names: the copied catalog needs them all."""
    found = store.rows(
        "SELECT DISTINCT t.table_name, f.path, f.path_is_relative, f.record_count, f.file_size_bytes "
        "FROM __ducklake_metadata_lake.ducklake_data_file f JOIN __ducklake_metadata_lake.ducklake_table t USING (table_id) ORDER BY 1, 2"
    )
    return [
        {
            "table": table,
            "path": (store.data / "main" / table / path if relative else Path(path)).relative_to(store.path).as_posix(),
            "rows": int(count),
            "size": int(size),
        }
        for table, path, relative, count, size in found
    ]


def _named(file: dict[str, object], known: dict[str, dict[str, Any]]) -> dict[str, Any]:
    entry = known.get(str(file["path"]))
    if entry is None:
        raise IntegrityError(f"{file['path']}: no ledger entry names this file; 'loadlock audit verify' says more")
    return {**file, "sha256": entry["sha256"]}


def _link(source: Path, target: Path) -> bool:
    """Give a data file, which never changes, a second name; return False where that can't be."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise IntegrityError(f"{source}: missing; 'loadlock audit verify' says what it held") from None
    except OSError:
        return False
    fsync_folder(target.parent)
    reached("file_linked")
    return True


def _copy(source: Path, target: Path) -> None:
    try:
        shutil.copyfile(source, target)
    except FileNotFoundError:
        raise IntegrityError(f"{source}: removed while the backup was made; make another one") from None
    with open(target, "rb") as file:
        os.fsync(file.fileno())
    fsync_folder(target.parent)
    reached("file_copied")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of the backup in ``folder``."""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except OSError:
        raise BadBackup(f"{folder}: no backup here (or it was interrupted); name a folder that 'loadlock backup' filled") from None
    except ValueError as error:
        raise IntegrityError(f"{folder / MANIFEST}: damaged ({error}); take another backup") from error
    if manifest["format_version"] > FORMAT_VERSION:
        raise BadBackup(f"{folder}: of format {manifest['format_version']}, newer than this software knows; install a newer loadlock")
    return manifest


def restore(folder: Path, path: Path, *, data: Path | None, copy: Callable[[Path, Path], Any] = shutil.copyfile) -> dict[str, Any]:
    """Make the lake at ``path``, a new folder, from a backup; every file is checked on the way. Return the manifest.

    ``data``: the folder that holds the data files where the backup does not (a lake, or another backup).
    """
    manifest = read_manifest(folder)
    source = data or (folder if manifest["data"] else None)
    if source is None:
        raise BadBackup(f"{folder}: holds no data files; name a folder that does (the lake, or another backup) with --data DIR")
    _begin(path, "lake.json", "a backup is restored to a new folder. To rebuild a lost catalog in place use --from-mirror")
    if sha256_of(folder / "catalog.sqlite") != manifest["catalog_sha256"]:
        raise IntegrityError(f"{folder / 'catalog.sqlite'}: its SHA-256 is not the one in {MANIFEST}; take another backup")
    (path / "data" / "main").mkdir(parents=True)
    reached("restore_begun")
    for file in manifest["files"]:
        target = path / file["path"]
        if not target.resolve().is_relative_to(path.resolve()):
            raise IntegrityError(f"{folder / MANIFEST}: names a file outside the lake ({file['path']})")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            copy(source / file["path"], target)
        except FileNotFoundError:
            raise IntegrityError(f"{source / file['path']}: missing; it held {file['rows']} rows of {file['table']}") from None
        if target.stat().st_size != file["size"] or sha256_of(target) != file["sha256"]:
            raise IntegrityError(f"{source / file['path']}: not the file that was backed up (size or SHA-256 differ)")
        with open(target, "rb") as written:
            os.fsync(written.fileno())
        reached("file_restored")
    shutil.copyfile(folder / "catalog.sqlite", path / "catalog.sqlite")
    open_catalog(path / "catalog.sqlite", path / "data", read_only=False).close()  # a copy has no log beside it, without which nobody reads
    with open(path / "catalog.sqlite", "rb") as written:
        os.fsync(written.fileno())
    reached("catalog_restored")
    write_durably(path / "attach.sql", attach_sql((path / "catalog.sqlite").resolve(), (path / "data").resolve()).encode())
    for parent in sorted({(path / file["path"]).parent for file in manifest["files"]}):
        fsync_folder(parent)
    write_durably(path / "lake.json", (json.dumps(manifest["marker"], indent=1) + "\n").encode())
    (path / UNFINISHED).unlink()
    reached("restore_whole")
    return manifest


def note_restored(store: Store, *, actor: str, wait_s: float, body: dict[str, Any]) -> Entry:
    """Leave the ledger entry of a restored lake."""
    with store.locked(wait_s):
        return store.commit(lambda _seq: Change("restore", actor, "", body, IndexDelta(0, "")))
