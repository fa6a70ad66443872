"""A repair that is killed is finished by the next; nobody, and no old snapshot, reads damage or what stands in for it."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

import loadlock
from storage.schema import COLUMNS
from tests.ingest.damaged import HARMS, SMALL, Site, copy_of, harm, sound, state


def test_a_dry_run_changes_nothing(tmp_path: Path, loadlock_command: Callable[..., Any]) -> None:
    site = Site(tmp_path).deliver(SMALL)
    ids = site.payload_ids()
    for path in site.data("traces")[:2]:
        harm(path, "flipped")
    site.files["wafers"].unlink()
    files = {path: path.read_bytes() for path in sorted(site.lake.rglob("*")) if path.is_file() and "sqlite" not in path.name}
    with loadlock.open(site.lake, read_only=True) as lake:
        head = lake.store.head()
    answer = loadlock_command("repair", "--dry-run", "--lake", site.lake, "--json")
    assert answer.code == 3
    assert len(answer.json["walled"]) == 2
    assert {one["payload_id"] for one in answer.json["restored"]} <= set(ids.values())
    assert answer.json["entries"] == []
    assert "nothing was changed" in loadlock_command("repair", "--dry-run", "--lake", site.lake).out
    assert {path: path.read_bytes() for path in sorted(site.lake.rglob("*")) if path.is_file() and "sqlite" not in path.name} == files
    with loadlock.open(site.lake, read_only=True) as lake:
        assert lake.store.head() == head


def steps_of(lake: Path) -> list[str]:
    """Repair a lake and return every step of every commit, in order."""
    seen: list[str] = []
    with loadlock.open(lake) as opened:
        opened.store.on_step = seen.append
        assert opened.repair()["whole"]
    return seen


def test_killed_at_any_step_the_same_command_finishes(compacted: Site, tmp_path: Path) -> None:
    """An exception at each step of each commit, then the command again by another process (a fresh connection)."""
    before = state(compacted.lake)
    harmed = tmp_path / "harmed.lake"
    shutil.copytree(compacted.lake, harmed)
    for number, table in enumerate(("traces", "events", "gaps_log", "features_log")):
        harm(harmed / compacted.data(table)[0].relative_to(compacted.lake), HARMS[number % 3])
    seen = steps_of(Path(shutil.copytree(harmed, tmp_path / "counted.lake")))
    assert seen.count("committed") >= 3
    chance = random.Random(3)
    chosen = {seen.index("lock_held"), *(i for i, name in enumerate(seen) if name == "committed"), *chance.sample(range(len(seen)), 12)}
    for at in sorted(chosen):
        lake = Path(shutil.copytree(harmed, tmp_path / f"{at}.lake"))
        left = at

        def stop(name: str) -> None:
            nonlocal left
            if left == 0:
                raise KeyboardInterrupt(name)
            left -= 1

        with loadlock.open(lake) as opened:
            opened.store.on_step = stop
            with pytest.raises(KeyboardInterrupt):
                opened.repair()
        with loadlock.open(lake) as opened:
            assert opened.repair()["whole"], (at, seen[at])
        assert state(lake) == before, (at, seen[at])
        sound(lake)
        shutil.rmtree(lake)


KILLED = """
import os, signal, sys
import loadlock
left = int(sys.argv[2])
def stop(name):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
with loadlock.open(sys.argv[1]) as lake:
    lake.store.on_step = stop
    lake.repair()
"""


@pytest.mark.parametrize("at", ["files_removed", "mirror_synced", "committed"])
def test_killed_for_real_the_same_command_finishes(compacted: Site, tmp_path: Path, at: str) -> None:
    """SIGKILL leaves stand-ins where the damaged files were, and an index that does not know of the commit."""
    before = state(compacted.lake)
    harmed = tmp_path / "harmed.lake"
    shutil.copytree(compacted.lake, harmed)
    harm(harmed / compacted.data("traces")[0].relative_to(compacted.lake), "flipped")
    harm(harmed / compacted.data("streams_log")[0].relative_to(compacted.lake), "missing")
    seen = steps_of(Path(shutil.copytree(harmed, tmp_path / "counted.lake")))
    for number in [i for i, name in enumerate(seen) if name == at]:
        lake = Path(shutil.copytree(harmed, tmp_path / f"{number}.lake"))
        child = subprocess.run([sys.executable, "-c", KILLED, str(lake), str(number)], check=False)
        assert child.returncode == -9
        with loadlock.open(lake) as opened:
            assert opened.repair()["whole"]
        assert state(lake) == before
        sound(lake)


def test_old_snapshots_never_read_damage(tmp_path: Path) -> None:
    """What was damaged is put aside, so a query as of then fails and does not give wrong rows."""
    site = Site(tmp_path).deliver(SMALL)
    with loadlock.open(site.lake, read_only=True) as lake:
        snapshot = lake.store.snapshot()
        tables = lake.sql("select count(*) from traces").fetchall()
    path = site.data("traces")[0]
    harm(path, "flipped")
    with loadlock.open(site.lake) as lake:
        assert lake.repair()["whole"]
    assert not path.exists()
    assert (site.lake / "walled" / "traces" / path.name).exists()
    with loadlock.open(site.lake, read_only=True) as lake:
        assert lake.sql("select count(*) from traces").fetchall() == tables
        lake.as_of(snapshot)
        with pytest.raises(duckdb.IOException):
            lake.sql("select sum(value) from traces").fetchall()
    sound(site.lake)


def test_a_file_that_old_snapshots_alone_name_is_walled_off_too(compacted: Site, tmp_path: Path) -> None:
    lake = copy_of(compacted, tmp_path)
    current = {path.name for path in compacted.data("traces")}
    old = next(path for path in sorted((lake / "data" / "main" / "traces").glob("*.parquet")) if path.name not in current)
    harm(old, "flipped")
    with loadlock.open(lake) as opened:
        assert opened.verify().faults
        done = opened.repair()
        assert (done["whole"], done["restored"]) == (True, [])
    sound(lake)
    assert state(lake) == state(compacted.lake)


@pytest.mark.parametrize("table", ["traces", "conflicts", "events", "texts", "windows_log", "features_log", "gaps_log", "streams_log"])
def test_nobody_reads_rows_from_a_stand_in(compacted: Site, tmp_path: Path, table: str) -> None:
    """Who comes upon the file that takes the place of the damaged one gets an error, whatever column is asked for."""
    lake = copy_of(compacted, tmp_path)
    harm(lake / compacted.data(table)[0].relative_to(compacted.lake), "flipped")
    asked: list[str] = []

    def ask(name: str) -> None:
        if name != "files_removed" or asked:
            return
        with loadlock.open(lake, read_only=True) as reader:
            for column in COLUMNS[table]:
                with pytest.raises(duckdb.Error):
                    reader.sql(f'SELECT max("{column}") FROM (SELECT "{column}" FROM lake.main.{table} ORDER BY ALL)').fetchall()
                asked.append(column)

    with loadlock.open(lake) as opened:
        opened.store.on_step = ask
        assert opened.repair()["whole"]
    assert asked == list(COLUMNS[table])
