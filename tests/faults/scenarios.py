"""Commands on small lakes which, taken together, reach every point of :mod:`storage.points`; and faults to put there.

Each scenario prepares a folder once; a run works on a copy of it. Nothing here imports pytest: children run it, too.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import tarfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import loadlock
from ingest.errors import UsageError
from loadlock.lake import Lake, actor
from storage import backup, mirror
from storage.points import POINTS
from storage.upgrade import upgrade

LAKE, NEW = "fab.lake", "new.lake"
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

    ``lake``: what is looked at afterwards. ``points``: those for which the suite uses this scenario.
    """

    prepare: Callable[[Any], None]
    run: Callable[[Path], Any]
    points: tuple[str, ...]
    lake: str = LAKE


def _ingest(folder: Path, *names: str) -> Any:
    with Lake(folder / LAKE) as lake:
        return lake.ingest_all([folder / "drop" / name for name in names], config=folder / "loadlock.toml")


def _deliveries(site: Any) -> None:
    site.wafers("1.csv", [1])
    site.file("2.csv", [*site.rows([1]), *site.rows([2, 4], offset=1.0), "P1,A,soon,W9,ramp,1,1"])
    site.wafers("3.csv", [4], offset=2.0)


def _with_one(site: Any) -> None:
    _deliveries(site)
    _ingest(site.folder, "1.csv")


def _create(folder: Path) -> Any:
    return _ingest(folder, "1.csv")


def _second(folder: Path) -> Any:
    """Two deliveries in one commit; statistics wait on disk, and the mirror takes a new segment."""
    with mock.patch("ingest.spool.IN_MEMORY_BYTES", 0), mock.patch("storage.mirror.SEGMENT_BYTES", 1):
        return _ingest(folder, "2.csv", "3.csv")


def _plain(folder: Path) -> Any:
    return _ingest(folder, "2.csv", "3.csv")


def _anew(folder: Path) -> Any:
    """Another commit came between: what was staged is removed, and all is decided anew under the lock."""
    with mock.patch("ingest.group.Group._moved", return_value=True):
        return _ingest(folder, "2.csv", "3.csv")


class _Gone(BaseException):
    pass


def _broken_off(site: Any) -> None:
    """The record of a commit is in the mirror, in a segment of its own; the commit never came."""
    _with_one(site)

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


def _lived_in(site: Any) -> None:
    """Small files, replaced revisions, old snapshots, and a file that nobody names."""
    _deliveries(site)
    for name in ("1.csv", "2.csv", "3.csv"):
        _ingest(site.folder, name)
    orphan = site.folder / LAKE / "data" / "main" / "traces" / "orphan.parquet"
    orphan.write_bytes(b"left behind")
    os.utime(orphan, (0, 0))


def _maintain(folder: Path) -> None:
    with loadlock.open(folder / LAKE) as lake:
        lake.compact(everything=True)
        _expire_and_sweep(lake)


def _compacted(site: Any) -> None:
    _lived_in(site)
    with loadlock.open(site.folder / LAKE) as lake:
        lake.compact(everything=True)


def _expire_and_sweep(lake: Lake) -> None:
    clock = lake.store.clock
    lake.store.clock = lambda: clock() + timedelta(seconds=1)
    lake.expire(keep_days=0)
    lake.store.clock = lambda: clock() + timedelta(seconds=2)
    lake.sweep(guard_hours=0)


def _tidy(folder: Path) -> None:
    with loadlock.open(folder / LAKE) as lake:
        _expire_and_sweep(lake)


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
    _with_one(site)
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
    _with_one(site)
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


def _keeping(site: Any) -> None:
    """Delivered bytes are kept, and there is a delivery that is older than the others."""
    site.config.write_text(site.config.read_text() + "keep_payloads = true\n")
    _deliveries(site)
    _ingest(site.folder, "1.csv", "2.csv")


def _purge(folder: Path) -> None:
    """Plan, apply, and let the bytes go; what was planned and done before is not done again."""
    with loadlock.open(folder / LAKE) as lake:
        with suppress(UsageError):
            plan = lake.plan("purge", {"before": "2026-03-01T00:17:28", "reason": "retention"})
            lake.apply(plan, confirmed=True)
        _expire_and_sweep(lake)


def _of_format_1(site: Any) -> None:
    with tarfile.open(Path(__file__).parents[1] / "storage" / "formats" / "1.tar.gz") as archive:
        archive.extractall(site.folder, filter="data")


def _upgrade(folder: Path) -> None:
    upgrade(folder / LAKE, actor=actor(), software="x", wait_s=10)


CREATION = ("folder_made", "options_set", "table_made", "tables_made", "base_opened", "base_written", "base_synced", "base_renamed")
MERGING = ("files_read",)
TIDYING = ("snapshots_gone", "rows_forgotten", "sweep_noted", "orphan_removed", "released_removed")
BACKING_UP = ("backup_begun", "catalog_copied", "file_linked")
RESTORING = ("restore_begun", "file_restored", "catalog_restored")
REBUILDING = ("catalog_built", "catalog_put_back")
PURGING = ("erased", "scrubbed")
UPGRADING = ("upgrade_noted", "migrated")
_ELSEWHERE = {
    *PURGING,
    *UPGRADING,
    *CREATION,
    *MERGING,
    *TIDYING,
    *BACKING_UP,
    *RESTORING,
    *REBUILDING,
    "mirror_cut",
    "segment_removed",
    "file_copied",
}

SCENARIOS = {
    "create": Scenario(_deliveries, _create, (*CREATION, "base_durable")),
    "ingest": Scenario(
        _with_one, _second, tuple(name for name in POINTS if name not in _ELSEWHERE and name not in ("base_durable", "file_forgotten"))
    ),
    "decided anew": Scenario(_with_one, _anew, ("file_forgotten",)),
    "cut off": Scenario(_broken_off_in_the_same, _plain, ("mirror_cut",)),
    "cut off whole": Scenario(_broken_off_in_a_new_segment, _plain, ("segment_removed",)),
    "compact": Scenario(_lived_in, _maintain, MERGING),
    "expire": Scenario(_compacted, _tidy, TIDYING),
    "back up": Scenario(_with_one, _back_up, BACKING_UP),
    "back up by copy": Scenario(_with_one, _back_up_by_copy, ("file_copied",)),
    "restore": Scenario(_backed_up, _restore, RESTORING, NEW),
    "rebuild": Scenario(_lost, _rebuild, REBUILDING),
    "purge": Scenario(_keeping, _purge, PURGING),
    "upgrade": Scenario(_of_format_1, _upgrade, UPGRADING),
}
