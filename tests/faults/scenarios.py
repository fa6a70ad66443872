"""Commands on small lakes which, taken together, reach every point of :mod:`storage.points`; and faults to put there.

Each scenario prepares a folder once; a run works on a copy of it. Nothing here imports pytest: children run it, too.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import loadlock
from loadlock.lake import Lake, actor
from storage import backup, mirror
from storage.points import POINTS, watched
from tests.faults import erasing, mending
from tests.faults.lakes import LAKE, NEW, deliveries, expire_and_sweep, ingest, lived_in, with_all, with_one

BY_CHILD = ("kill", "torn")
ERRORS: dict[str, Callable[[], BaseException]] = {
    "exception": lambda: RuntimeError("a fault was put here"),
    "interrupt": lambda: KeyboardInterrupt("a fault was put here"),
    "enospc": lambda: OSError(errno.ENOSPC, "No space left on device"),
    "eio": lambda: OSError(errno.EIO, "Input/output error"),
}
LASTING = ("enospc", "eio")
"""A full or a bad disk stays so while the command tries again."""


def kill() -> None:
    """End this process at once."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


class Fault:
    """Watches the points; at the nth time that ``point`` is reached, ``kind`` happens."""

    def __init__(self, point: str, kind: str, nth: int, folder: Path) -> None:
        self.point, self.kind, self.nth, self.folder = point, kind, nth, folder
        self.count = 0
        self._mirror: dict[Path, int] = {}

    def __call__(self, name: str, path: Path | None) -> None:
        if name == "change_built":
            self._mirror = self._segments()
        if name != self.point:
            return
        self.count += 1
        if self.count < self.nth or (self.count > self.nth and self.kind not in LASTING):
            return
        if self.kind == "torn":
            self._tear(path)
        if self.kind in BY_CHILD:
            kill()
        raise ERRORS[self.kind]()

    def _segments(self) -> dict[Path, int]:
        return {path: path.stat().st_size for path in mirror.segments(self.folder / LAKE / "mirror")}

    def _tear(self, path: Path | None) -> None:
        """Half of what is not durable yet was never written."""
        if self.point == "mirror_written":
            path = list(self._segments())[-1]
        assert path is not None
        durable = self._mirror.get(path, 0)
        os.truncate(path, durable + (path.stat().st_size - durable) // 2)


TEARS = ("file_written", "mirror_written", "base_written", "index_committed")
"""Points at which bytes were handed over that are not durable yet."""


@dataclass(frozen=True)
class Scenario:
    """``prepare(site)`` fills the folder of a site, ``run(folder)`` is the command and returns its summary if it has one.

    ``points``: those for which the suite uses this scenario. ``also``: further ones that it tries there. ``lake``: what is looked at
    afterwards. ``by_steps``: it is several commits, between which less may be there than at the end.
    """

    prepare: Callable[[Any], None]
    run: Callable[[Path], Any]
    points: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    lake: str = LAKE
    by_steps: bool = False


def _create(folder: Path) -> Any:
    return ingest(folder, "1.csv")


def _second(folder: Path) -> Any:
    """Two deliveries in one commit; statistics wait on disk, and the mirror takes a new segment."""
    with mock.patch("ingest.spool.IN_MEMORY_BYTES", 0), mock.patch("storage.mirror.SEGMENT_BYTES", 1):
        return ingest(folder, "2.csv", "3.csv")


def _plain(folder: Path) -> Any:
    return ingest(folder, "2.csv", "3.csv")


def _anew(folder: Path) -> Any:
    """Another commit came between: what was staged is removed, and all is decided anew under the lock."""
    with mock.patch("ingest.group.Group._moved", return_value=True):
        return ingest(folder, "2.csv", "3.csv")


class _Gone(BaseException):
    pass


def _broken_off(site: Any) -> None:
    """The record of a commit is in the mirror, in a segment of its own; the commit never came."""
    with_one(site)

    def stop(reached: str) -> None:
        if reached == "mirror_synced":
            shutil.copytree(site.folder / LAKE, site.folder / "dead.lake")
            raise _Gone

    with mock.patch("storage.mirror.SEGMENT_BYTES", site.segment_bytes):
        lake = Lake(site.folder / LAKE, on_step=stop)
        with suppress(_Gone):
            lake.ingest_all([site.folder / "drop" / "2.csv"])
        lake.close()
    shutil.rmtree(site.folder / LAKE)
    (site.folder / "dead.lake").rename(site.folder / LAKE)


def _broken_off_in_a_new_segment(site: Any) -> None:
    site.segment_bytes = 1
    _broken_off(site)


def _broken_off_in_the_same(site: Any) -> None:
    site.segment_bytes = mirror.SEGMENT_BYTES
    _broken_off(site)


def _maintain(folder: Path) -> None:
    with loadlock.open(folder / LAKE) as lake:
        lake.compact(everything=True)
        expire_and_sweep(lake)


def _compacted(site: Any) -> None:
    lived_in(site)
    with loadlock.open(site.folder / LAKE) as lake:
        lake.compact(everything=True)


def _tidy(folder: Path) -> None:
    with loadlock.open(folder / LAKE) as lake:
        expire_and_sweep(lake)


def _back_up(folder: Path, *, link: bool = True) -> None:
    with ExitStack() as stack:
        if not link:
            stack.enter_context(mock.patch("storage.backup.os.link", side_effect=OSError(errno.EXDEV, "another disk")))
        lake = stack.enter_context(loadlock.open(folder / LAKE))
        try:
            backup.backup(lake.store, folder / "saved", actor=actor(), software="x", wait_s=10, data=True)
        except backup.BadBackup:  # it was whole already
            assert (folder / "saved" / backup.MANIFEST).exists()
            assert backup.read_manifest(folder / "saved")["data"]


def _back_up_by_copy(folder: Path) -> None:
    _back_up(folder, link=False)


def _backed_up(site: Any) -> None:
    with_one(site)
    _back_up(site.folder)


def _restore(folder: Path) -> None:
    try:
        backup.restore(folder / "saved", folder / NEW, data=None)
    except backup.BadBackup:
        assert (folder / NEW / "lake.json").exists()
    with loadlock.open(folder / NEW) as lake:
        backup.note_restored(lake.store, actor=actor(), wait_s=10, body={})


def _lost(site: Any) -> None:
    """Catalog, index and marker are gone; data files and mirror are there."""
    with_one(site)
    for pattern in ("catalog.sqlite*", "index.sqlite*", "lake.json", "attach.sql"):
        for path in (site.folder / LAKE).glob(pattern):
            path.unlink()


def _rebuild(folder: Path) -> None:
    from storage.rebuild import CatalogThere, rebuild

    try:
        rebuild(folder / LAKE, 10)
    except CatalogThere:
        assert (folder / LAKE / "lake.json").exists()
    with loadlock.open(folder / LAKE) as lake:
        backup.note_restored(lake.store, actor=actor(), wait_s=10, body={})


def _broken_off_backup(site: Any) -> None:
    """A backup came as far as the catalog's copy."""
    with_one(site)

    def stop(_reached: str, _path: Path | None) -> None:
        if _reached == "catalog_copied":
            raise _Gone

    with suppress(_Gone), watched(stop):
        _back_up(site.folder)


CREATION = ("folder_made", "options_set", "table_made", "tables_made", "base_opened", "base_written", "base_synced", "base_renamed")
MERGING = ("files_read", "rows_folded", "merge_proven")
TIDYING = (
    *("snapshots_gone", "rows_forgotten", "sweep_noted", "orphan_removed", "released_removed", "sweep_durable"),
    "stale_mark_removed",
)
BACKING_UP = ("backup_begun", "catalog_copied", "file_linked", "backup_whole")
RESTORING = ("restore_begun", "file_restored", "catalog_restored", "restore_whole")
REBUILDING = ("catalog_built", "catalog_put_back")
PURGING = ("erased", "scrubbed")
UPGRADING = ("upgrade_noted", "migrated")
MENDING = ("file_proven", "damage_put_aside", "stand_ins_gone", "source_proven", "kept_read")
ALONE = (
    *("base_durable", "file_forgotten", "mirror_cut", "segment_removed", "file_copied", "remains_cleared", "damage_put_back"),
    *("trouble_noted", "key_written"),
)
_ELSEWHERE = {*CREATION, *MERGING, *TIDYING, *BACKING_UP, *RESTORING, *REBUILDING, *MENDING, *PURGING, *UPGRADING, *ALONE}

SCENARIOS = {
    "create": Scenario(deliveries, _create, (*CREATION, "base_durable")),
    "ingest": Scenario(with_one, _second, tuple(name for name in POINTS if name not in _ELSEWHERE)),
    "decided anew": Scenario(with_one, _anew, ("file_forgotten",)),
    "after a busy catalog": Scenario(with_one, mending.after_a_busy_catalog, ("trouble_noted",)),
    "cut off": Scenario(_broken_off_in_the_same, _plain, ("mirror_cut",)),
    "cut off whole": Scenario(_broken_off_in_a_new_segment, _plain, ("segment_removed",)),
    "compact": Scenario(lived_in, _maintain, MERGING),
    "expire": Scenario(_compacted, _tidy, TIDYING),
    "back up": Scenario(with_one, _back_up, BACKING_UP),
    "back up by copy": Scenario(with_one, _back_up_by_copy, ("file_copied",)),
    "back up again": Scenario(_broken_off_backup, _back_up, ("remains_cleared",)),
    "restore": Scenario(_backed_up, _restore, RESTORING, lake=NEW),
    "rebuild": Scenario(_lost, _rebuild, REBUILDING),
    "retract": Scenario(with_all, mending.retract, also=("files_removed", "committed")),
    "reprocess": Scenario(with_all, mending.reprocess, also=("mirror_synced",)),
    "repair": Scenario(mending.damaged, mending.repair, MENDING, by_steps=True),
    "repair after a failure": Scenario(mending.damaged, mending.repair_after_a_failure, ("damage_put_back",), by_steps=True),
    "reset": Scenario(mending.tripped, mending.reset, also=("mirror_synced",)),
    "trip": Scenario(mending.rubbish, mending.trip, also=("committed",)),
    "make up": Scenario(mending.owed, mending.make_up, also=("mirror_synced",)),
    "sign": Scenario(with_one, mending.sign, ("key_written",)),
    "purge": Scenario(erasing.keeping, erasing.purge, PURGING),
    "upgrade": Scenario(erasing.of_format_1, erasing.upgrade, UPGRADING),
}
