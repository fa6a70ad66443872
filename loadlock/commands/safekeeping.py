"""Commands that keep a lake safe: backup, restore, upgrade."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from loadlock.commands.shared import lake_path, open_lake, print_json


def backup(options: argparse.Namespace) -> int:
    """Write a backup to a new folder."""
    from loadlock import __version__
    from loadlock.lake import actor
    from loadlock.progress import working
    from storage.backup import backup

    with open_lake(options, read_only=False) as lake, working(options) as tell:
        entry, manifest = backup(
            lake.store, Path(options.folder), actor=actor(), software=__version__, wait_s=options.wait, data=options.data, tell=tell
        )
    size = sum(file["size"] for file in manifest["files"])
    if options.json:
        print_json({**manifest, "folder": options.folder, "ledger_seq": entry.seq})
    else:
        held = "with" if options.data else "without"
        print(f"{options.folder}: ledger entry {manifest['seq']}, {held} its {len(manifest['files'])} data files of {size:,} bytes")
    return 0


def restore(options: argparse.Namespace) -> int:
    """Make a lake from a backup, or a lost catalog from the mirror; then prove it."""
    from ingest.errors import UsageError

    if options.from_mirror == bool(options.folder):
        raise UsageError("name the backup's folder, or --from-mirror to rebuild a lost catalog in place")
    body, faults = _from_mirror(options) if options.from_mirror else _from_backup(options)
    from loadlock.lake import Lake, actor
    from loadlock.progress import working
    from storage.backup import note_restored

    with Lake(lake_path(options), wait=options.wait) as lake, working(options) as tell:
        entry = note_restored(lake.store, actor=actor(), wait_s=options.wait, body=body)
        faults += lake.verify(tell).faults
    if options.json:
        print_json({"schema": 1, **body, "ledger_seq": entry.seq, "ok": not faults, "faults": faults})
    else:
        for fault in faults:
            print(f"FAULT {fault}")
        verdict = f"{len(faults)} faults" if faults else "everything holds"
        print(f"{options.lake}: restored from {body['source']} at ledger entry {body['seq']}: {verdict}")
    return 6 if faults else 0


def _from_mirror(options: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    from loadlock import __version__
    from storage.rebuild import rebuild

    state, faults = rebuild(lake_path(options), options.wait)
    print(f"loadlock: catalog rebuilt from the mirror, {len(state.files)} data files", file=sys.stderr)
    return {"source": "mirror", "seq": state.seq, "hash": state.hash, "faults": faults, "software": __version__}, list(faults)


def _from_backup(options: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    from loadlock import __version__
    from storage.backup import restore

    manifest = restore(Path(options.folder), lake_path(options), data=Path(options.data) if options.data else None)
    body = {name: manifest[name] for name in ("seq", "hash", "time", "catalog_sha256")}
    return {"source": "backup", **body, "software": __version__}, []


def upgrade(options: argparse.Namespace) -> int:
    """Bring a lake of an older format to today's."""
    from loadlock import __version__
    from loadlock.lake import actor
    from storage.upgrade import upgrade

    done = upgrade(lake_path(options), actor=actor(), software=__version__, wait_s=options.wait)
    if options.json:
        print_json(done)
    elif done["upgraded"]:
        back = f"loadlock restore {options.lake}/{done['backup']} --data {options.lake} --lake NEW.lake"
        print(f"{options.lake}: format {done['from']} to {done['to']}, ledger entry {done['ledger_seq']}")
        print(f"back again, with the older software: {back}")
    else:
        print(f"{options.lake}: has format {done['to']} already")
    return 0
