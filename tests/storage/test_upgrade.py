"""Lakes of older formats: newer software brings them up, with a backup first, however often it is broken off; older software refuses.

``formats/1.tar.gz`` is a lake that loadlock wrote when the format was 1 (commit 0fa6dce): three deliveries of a polisher with conflicts,
a gap and quarantine, compacted after the second; then two that opened a circuit. Payloads are kept.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import loadlock
from storage.circuits import OPEN
from storage.errors import NewerLake, OlderLake
from storage.points import POINTS, watched
from storage.schema import FORMAT_VERSION
from storage.upgrade import STEPS, upgrade
from tests.storage.maintained import later, sound

Run = Callable[..., Any]
FORMATS = Path(__file__).parent / "formats"
DIGEST = {
    "traces": "fc1b60a0461f8e1942ddc93084db99e66d6d580acaeee8c44fea06b45b7d823c",
    "events": "8c843899cd6049113736cee42dc7007238638c89a2315fe952e5b43122688227",
    "windows": "14204ec2cea95e5a9fd8e188d9ba8c119b47826245f74c6425d331e1bb3539fa",
    "features": "2a798c05f3c1e131fac387e4d2035f8a15b82c989035ba046d9935eb624b6404",
    "gaps": "228d5c16087e9921c3b3b4713b6c42507d295ea7b7d9777fa9a854c692e6dfff",
}
"""The digest that the software of then gave for its lake."""

ENTRIES = 8


def unpacked(folder: Path, version: int = 1) -> Path:
    """A lake as the software of ``version`` left it."""
    with tarfile.open(FORMATS / f"{version}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "fab.lake"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return unpacked(tmp_path)


def brought_up(lake: Path) -> dict[str, Any]:
    return upgrade(lake, actor="tests", software="test", wait_s=10)


def whole(lake: Path) -> None:
    """Everything is there, and proven."""
    with loadlock.open(lake) as opened:
        sound(opened)
        assert opened.digest() == DIGEST
        assert opened.sql("select action, count(*) from ledger where action = 'upgrade' group by all").fetchall() == [("upgrade", 1)]
        opened.store.ensure_index(10)
        circuits = {circuit.tool: circuit for circuit in opened.store.index.circuits()}
        assert (circuits["P3"].state, circuits["P3"].failures, circuits["P3"].override) == (OPEN, 2, "")


def test_an_older_lake_says_what_to_do(old: Path, loadlock_command: Run) -> None:
    for arguments in (("status",), ("ingest", old), ("sql", "select 1"), ("init",)):
        answer = loadlock_command(*arguments, "--lake", old)
        assert (answer.code, "loadlock upgrade --lake" in answer.err) == ((2, True) if arguments != ("init",) else (0, False))
    doctor = loadlock_command("doctor", "--lake", old, "--json")
    assert (doctor.code, "has format 1" in doctor.json["next"], "loadlock upgrade" in doctor.json["next"]) == (2, True, True)
    with pytest.raises(OlderLake):
        loadlock.open(old, read_only=True)


def test_it_is_brought_up_and_holds_what_it_held(old: Path, loadlock_command: Run) -> None:
    answer = loadlock_command("upgrade", "--lake", old, "--json")
    assert (answer.code, answer.json["from"], answer.json["to"], answer.json["upgraded"]) == (0, 1, FORMAT_VERSION, True)
    whole(old)
    assert loadlock_command("status", "--lake", old, "--json").json["format_version"] == FORMAT_VERSION
    assert f"format {FORMAT_VERSION}" in loadlock_command("doctor", "--lake", old).out
    again = loadlock_command("upgrade", "--lake", old, "--json")
    assert (again.code, again.json["upgraded"]) == (0, False)
    assert "already" in loadlock_command("upgrade", "--lake", old).out
    assert "CREATE OR REPLACE VIEW circuits" in (old / "attach.sql").read_text()


def test_afterwards_all_goes_on_with_files_of_then(old: Path, tmp_path: Path, polisher: Any) -> None:
    """What the new columns are for works on old rows; compaction, a lost index, a lost catalog and retraction take files without them."""
    brought_up(old)
    site = polisher(tmp_path)
    with loadlock.open(old) as lake:
        ids = [row[0] for row in lake.sql("select quarantine_id from quarantine where tool = 'P1'").fetchall()]
        lake.apply(lake.plan("discard", {"ids": ids[:1], "reason": "x"}), confirmed=True)
        lake.apply(lake.plan("override", {"tool": "P1", "override": "hold", "reason": "x"}), confirmed=True)
        assert lake.sql("select state, override from circuits where tool = 'P1'").fetchall() == [("open", "hold")]
        lake.apply(lake.plan("override", {"tool": "P1", "override": "end", "reason": "x"}), confirmed=True)
        assert lake.ingest(site.wafers("9.csv", [9]), config=site.config).payloads["committed"] == 1
        sound(lake)
        lake.store.index.clear()
        lake.store.ensure_index(10)
        assert lake.compact(everything=True)
        sound(lake)
        [payload] = [row[0] for row in lake.sql("select payload_id from payloads where source like '%3.csv'").fetchall()]
        lake.retract(payload, "test")
        sound(lake)
        lake.apply(lake.plan("purge", {"tool": "P3", "reason": "x"}), confirmed=True)
        later(lake, seconds=2)
        lake.expire(keep_days=0)
        later(lake, seconds=4)
        lake.sweep(guard_hours=0)
        sound(lake)


def test_snapshots_from_before_can_still_be_queried(old: Path, loadlock_command: Run) -> None:
    brought_up(old)
    with loadlock.open(old, read_only=True) as lake:
        [(snapshot,)] = lake.sql(
            "select max(snapshot_id) from __ducklake_metadata_lake.ducklake_snapshot_changes where commit_message <> 'upgrade'"
        ).fetchall()
    for view, count in (("circuits", 3), ("quarantine", 8), ("ledger", ENTRIES)):
        answer = loadlock_command("sql", f"select count(*) as n from {view}", "--as-of", snapshot, "--format", "json", "--lake", old)
        assert (answer.code, answer.json) == (0, [{"n": count}]), view


@pytest.mark.parametrize("where", ["catalog", "all"])
def test_a_lost_catalog_of_then_is_rebuilt_in_todays_format(old: Path, where: str, loadlock_command: Run) -> None:
    for pattern in ("catalog.sqlite*", "index.sqlite*", *(["lake.json"] if where == "all" else [])):
        for path in old.glob(pattern):
            path.unlink()
    answer = loadlock_command("restore", "--from-mirror", "--lake", old)
    assert answer.code == 0, answer
    with loadlock.open(old) as lake:
        sound(lake)
        assert lake.digest() == DIGEST
        assert lake.store.marker["format_version"] == FORMAT_VERSION


def test_the_backup_is_the_lake_of_before(old: Path, tmp_path: Path, loadlock_command: Run) -> None:
    done = brought_up(old)
    kept = old / done["backup"]
    assert json.loads((kept / "backup.json").read_text())["format_version"] == 1
    again = tmp_path / "again.lake"
    answer = loadlock_command("restore", kept, "--data", old, "--lake", again)
    assert (answer.code, "loadlock upgrade" in answer.err) == (2, True)  # it is back, and of the older format
    assert json.loads((again / "lake.json").read_text())["format_version"] == 1
    brought_up(again)
    whole(again)


@pytest.mark.parametrize(
    "point", ["backup_begun", "catalog_copied", "upgrade_noted", "migrated", "base_synced", "base_durable", "index_written"]
)
def test_broken_off_anywhere_the_same_command_finishes(old: Path, point: str) -> None:
    class Gone(BaseException):
        pass

    def die(name: str, _path: Path | None) -> None:
        if name == point:
            raise Gone

    assert point in POINTS
    with pytest.raises(Gone), watched(die):
        brought_up(old)
    if point not in ("backup_begun", "catalog_copied"):
        with pytest.raises(OlderLake, match="upgrade from format 1 was interrupted"):
            loadlock.open(old)
        assert json.loads((old / "lake.json").read_text())["format_version"] == FORMAT_VERSION  # older software refuses it
    assert brought_up(old)["from"] == 1
    whole(old)


def test_a_newer_lake_is_refused_and_the_version_named(old: Path, loadlock_command: Run) -> None:
    marker = json.loads((old / "lake.json").read_text())
    (old / "lake.json").write_text(json.dumps(marker | {"format_version": 99, "upgraded_by": "7.1.0"}))
    for command in ("status", "upgrade"):
        answer = loadlock_command(command, "--lake", old)
        assert answer.code == 2
        assert "format 99 (loadlock 7.1.0)" in answer.err
        assert "install a loadlock that knows format 99" in answer.err
    with pytest.raises(NewerLake):
        loadlock.open(old)


def test_there_is_a_step_and_a_lake_for_every_format_before() -> None:
    assert list(STEPS) == list(range(1, FORMAT_VERSION))
    assert [path.name for path in sorted(FORMATS.iterdir())] == [f"{version}.tar.gz" for version in STEPS]


def test_a_format_from_before_the_first_release_is_refused(old: Path, loadlock_command: Run) -> None:
    (old / "lake.json").write_text("{}")
    answer = loadlock_command("upgrade", "--lake", old)
    assert (answer.code, "new lake" in answer.err) == (2, True)
    shutil.rmtree(old)
