"""Runs in a mount namespace of its own: ingests to a small disk that fills up at a point, makes room, and ingests again.

``python -m tests.faults.small_disk FOLDER disk|limit`` prints how the first command ended at each point, as JSON; it fails if the second
does not finish the work.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import loadlock
from storage.errors import LoadlockError
from storage.points import watched
from tests.conftest import Polisher, check_conserved

DISK_BYTES = 12 << 20
PLACES = ("payload_read", "mark_made", "begun", "rows_inserted", "files_checked", "mirror_written", "committed", "files_read")
"""Points at which the disk fills up; ``files_read`` is reached by the compaction after the ingest."""


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


def fill_at(point: str, disk: Disk, made: Path, sources: list[Path], wanted: dict[str, str]) -> int:
    """Fill the disk at ``point``, make room, run the same command; return the exit code of the first run."""
    path = disk.folder / "fab.lake"
    shutil.copytree(made, path)
    compact = point == "files_read"
    disk.full = False

    def fill(reached: str, _path: Path | None) -> None:
        if reached == point and not disk.full:
            disk.fill()

    try:
        with loadlock.open(path) as lake, watched(fill):
            code = work(lake, sources, compact=compact).exit_code
    except LoadlockError as error:
        code = error.exit_code
    assert disk.full, f"{point} was not reached"
    disk.make_room()
    with loadlock.open(path, read_only=True) as lake:
        assert lake.verify().faults == []
    with loadlock.open(path) as lake:
        summary = work(lake, sources, compact=compact)
        check_conserved(summary, lake)
        assert summary.payloads["committed"] + summary.payloads["replayed"] == 2
        assert lake.digest() == wanted
    shutil.rmtree(path)
    return 0 if code == 3 else code


def main(folder: Path, means: str) -> dict[str, int]:
    """Fill the disk at each of :data:`PLACES`; return the exit codes."""
    site = Polisher(folder)
    first, rest = site.wafers("1.csv", [1]), [site.wafers("2.csv", range(1, 12)), site.wafers("3.csv", [3], offset=1.0)]
    with loadlock.open(folder / "made.lake") as lake:
        lake.ingest(first, config=site.config)
    shutil.copytree(folder / "made.lake", folder / "whole.lake")
    with loadlock.open(folder / "whole.lake") as lake:
        lake.ingest_all(rest)
        wanted = lake.digest()
    (folder / "disk").mkdir()
    disk = Disk(folder / "disk", real=means == "disk")
    return {point: fill_at(point, disk, folder / "made.lake", rest, wanted) for point in PLACES}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2])))
