"""Whatever goes wrong around the mirror's steps, it never claims what was not committed and never misses what was."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import loadlock
from loadlock.lake import Lake
from storage import mirror
from storage.points import STEPS
from storage.rebuild import compare

Run = Callable[..., Any]
AROUND = (
    "index_current",
    "mirror_current",
    "files_checked",
    "mirror_written",
    "mirror_synced",
    "committed",
    "index_applied",
    "mirror_followed",
)


def lose_catalog(path: Path) -> None:
    for pattern in ("catalog.sqlite*", "index.sqlite*"):
        for file in path.glob(pattern):
            file.unlink()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, polisher: Any) -> Any:
    """A lake with one delivery, another delivery, and what comes of both without faults."""
    site = polisher(tmp_path_factory.mktemp("made"))
    site.lake = site.folder / "fab.lake"
    with loadlock.open(site.lake) as lake:
        lake.ingest(site.wafers("1.csv", [1]), config=site.config)
    site.next = site.file("2.csv", [*site.rows([1]), *site.rows([2, 4], offset=1.0), "P1,A,soon,W9,ramp,1,1"])
    shutil.copytree(site.lake, site.folder / "whole.lake")
    with loadlock.open(site.folder / "whole.lake") as lake:
        lake.ingest(site.next)
        site.digest = lake.digest()
    return site


@pytest.fixture
def path(made: Any, tmp_path: Path) -> Path:
    shutil.copytree(made.lake, tmp_path / "fab.lake")
    return tmp_path / "fab.lake"


def ends_well(path: Path, made: Any, loadlock_command: Run, assert_conserved: Run) -> None:
    """The same command again finishes the work, the mirror agrees, and the catalog can be rebuilt from it."""
    with loadlock.open(path, read_only=True) as reader:
        assert reader.verify().faults == []
    with loadlock.open(path) as lake:
        assert_conserved(lake.ingest_all(made.next), lake)
        assert lake.digest() == made.digest
        assert compare(lake.store) == []
    lose_catalog(path)
    assert loadlock_command("restore", "--from-mirror", "--lake", path).code == 0
    with loadlock.open(path) as lake:
        assert lake.digest() == made.digest
        assert assert_conserved(lake.ingest_all(made.next), lake)["payloads"]["replayed"] == 1


@pytest.mark.parametrize("step", AROUND)
def test_an_exception_at_a_step(step: str, path: Path, made: Any, loadlock_command: Run, assert_conserved: Run) -> None:
    assert set(AROUND) <= set(STEPS)

    def fail(reached: str) -> None:
        if reached == step:
            raise OSError(errno.ENOSPC, "no room")

    with Lake(path, on_step=fail) as lake:
        summary = lake.ingest_all(made.next)
    if STEPS.index(step) < STEPS.index("committed"):
        assert (summary.exit_code, summary.payloads["deferred"]) == (5, 1)
    else:  # acknowledged: what is derived from the commit is made up for later
        assert summary.payloads["committed"] == 1
    ends_well(path, made, loadlock_command, assert_conserved)


def test_the_same_store_goes_on_after_an_exception(path: Path, made: Any) -> None:
    left = ["mirror_synced"]

    def fail(reached: str) -> None:
        if reached in left:
            left.remove(reached)
            raise OSError(errno.EIO, "bad disk")

    with Lake(path, on_step=fail) as lake:
        assert lake.ingest_all(made.next).payloads["committed"] == 1
        assert compare(lake.store) == []
        assert lake.digest() == made.digest


@pytest.mark.parametrize("left", [1, 40, 80, 2_000])
def test_a_torn_record(left: int, path: Path, made: Any, loadlock_command: Run, assert_conserved: Run) -> None:
    """Power fails while the record is written: only ``left`` bytes of it are there."""

    def tear(reached: str) -> None:
        if reached == "mirror_written":
            os.truncate(segment, size + left)
            raise OSError(errno.EIO, "power failed")

    segment = mirror.segments(path / "mirror")[-1]
    size = segment.stat().st_size
    lake = Lake(path, on_step=tear)
    assert lake.ingest_all(made.next).exit_code == 5
    lake.close()
    ends_well(path, made, loadlock_command, assert_conserved)


@pytest.mark.parametrize("files", [True, False], ids=["its files are there", "its files are gone"])
def test_the_catalog_is_lost_before_the_commit(files: bool, path: Path, made: Any, loadlock_command: Run, assert_conserved: Run) -> None:
    """The record is written, COMMIT never came, and then the catalog is lost: the batch is there whole, or not at all."""

    class Killed(BaseException):
        pass

    def die(reached: str) -> None:
        if reached == "mirror_synced":
            shutil.copytree(path, path.with_name("dead.lake"))
            raise Killed

    lake = Lake(path, on_step=die)
    with pytest.raises(Killed):
        lake.ingest_all(made.next)
    lake.close()
    dead = path.with_name("dead.lake")
    lose_catalog(dead)
    if not files:
        known = {file.name for file in (made.lake / "data").rglob("*.parquet")}
        for file in (dead / "data").rglob("*.parquet"):
            if file.name not in known:
                file.unlink()
    answer = loadlock_command("restore", "--from-mirror", "--lake", dead)
    assert (answer.code, "left out" in answer.out) == ((0, False) if files else (6, True))
    with loadlock.open(dead) as lake:
        state = "replayed" if files else "committed"
        assert assert_conserved(lake.ingest_all(made.next), lake)["payloads"][state] == 1
        assert lake.digest() == made.digest


def test_a_base_that_was_not_finished_is_written_again(path: Path, made: Any, loadlock_command: Run, assert_conserved: Run) -> None:
    found = mirror.segments(path / "mirror")
    whole = found[-1].read_bytes()
    half = path / "mirror" / "00000002.tmp"
    half.write_bytes(whole[: len(whole) // 2])
    shutil.copy(half, path / "mirror" / "00000002.log")
    with loadlock.open(path) as lake:
        lake.ingest_all(made.next)
        assert compare(lake.store) == []
    assert not half.exists()
    ends_well(path, made, loadlock_command, assert_conserved)
