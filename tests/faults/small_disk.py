"""Runs in a mount namespace of its own: ingests to a small disk that fills up at a point, makes room, and ingests again.

``python -m tests.faults.small_disk FOLDER POINT disk|limit`` prints how the first command ended, as JSON; it fails if the second does not
finish the work.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb

import loadlock
from storage.errors import LoadlockError
from storage.points import watched
from tests.conftest import Polisher, check_conserved

DISK_BYTES = 12 << 20


class Disk:
    """A disk that can be filled to the last byte, and emptied again."""

    def __init__(self, folder: Path, *, real: bool) -> None:
        self.folder, self.real = folder, real
        self.full = False
        if real:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)], check=True)

    def fill(self) -> None:
        self.full = True
        if not self.real:
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
            return
        with open(self.folder / "ballast", "wb", buffering=0) as file:
            for size in (1 << 20, 4096):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    pass

    def make_room(self) -> None:
        if self.real:
            (self.folder / "ballast").unlink(missing_ok=True)
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def work(lake: Any, sources: list[Path], *, compact: bool) -> Any:
    summary = lake.ingest_all(sources)
    if compact:
        lake.compact(everything=True)
    return summary


def main(folder: Path, point: str, means: str) -> dict[str, Any]:
    """Fill the disk at ``point``, make room, run the same command; return how the first ended."""
    (folder / "disk").mkdir()
    disk = Disk(folder / "disk", real=means == "disk")
    site = Polisher(folder)
    first, rest = site.wafers("1.csv", [1]), [site.wafers("2.csv", range(1, 12)), site.wafers("3.csv", [3], offset=1.0)]
    compact = point == "files_read"
    with loadlock.open(folder / "disk" / "fab.lake") as lake:
        lake.ingest(first, config=site.config)
    with loadlock.open(folder / "whole.lake") as lake:
        lake.ingest(first, config=site.config)
        wanted = work(lake, rest, compact=compact) and lake.digest()

    def fill(reached: str, _path: Path | None) -> None:
        if reached == point and not disk.full:
            disk.fill()

    ended, code = "", 0
    try:
        with loadlock.open(folder / "disk" / "fab.lake") as lake, watched(fill):
            code = work(lake, rest, compact=compact).exit_code
    except LoadlockError as error:
        ended, code = str(error), error.exit_code
    except (OSError, duckdb.Error) as error:
        ended, code = f"{type(error).__name__}: {error}", 1
    assert disk.full, f"{point} was not reached"
    with_room = disk.make_room() or os.statvfs(folder / "disk").f_bavail
    with loadlock.open(folder / "disk" / "fab.lake", read_only=True) as lake:
        assert lake.verify().faults == []
    with loadlock.open(folder / "disk" / "fab.lake") as lake:
        summary = work(lake, rest, compact=compact)
        check_conserved(summary, lake)
        assert summary.payloads["committed"] + summary.payloads["replayed"] == 2
        assert lake.digest() == wanted
    return {"exit": 0 if code == 3 else code, "error": ended, "free": int(with_room > 0)}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])))
