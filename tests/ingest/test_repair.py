"""Damage is walled off and made up from payloads that are at hand; what is not, is named; a killed run is finished by the next."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import duckdb
import pytest

import loadlock
from ingest.rederive import rederive
from storage.kept import kept_path
from storage.walled import DELIVERED, DERIVED
from tests.ingest.test_retract import CONFIG, PIECES, index_of
from tests.storage.maintained import age, later

HARMS = ("missing", "flipped", "truncated")
SMALL = ("first", "second", "conflicting", "conflicting again", "rubbish within", "wafers", "a wafer's end", "other values")


class Site:
    """Deliveries in a folder, and the lake that they went to."""

    def __init__(self, folder: Path, config: str = CONFIG) -> None:
        self.folder, self.lake = folder, folder / "fab.lake"
        self.config = folder / "fab.toml"
        self.config.write_text(config)
        self.files: dict[str, Path] = {}
        for number, (name, (place, data)) in enumerate(PIECES.items()):
            (folder / place).mkdir(exist_ok=True)
            self.files[name] = folder / place / f"{number}.{'csv' if place == 'cmp' else 'hsms'}"
            self.files[name].write_bytes(data)

    def deliver(self, names: Iterable[str] = PIECES, *, together: bool = False) -> Site:
        """Deliver pieces one by one, or in one commit."""
        with loadlock.open(self.lake) as lake:
            for some in [[self.files[name] for name in names]] if together else [[self.files[name]] for name in names]:
                assert {receipt.state for receipt in lake.ingest(some, config=self.config).receipts} == {"committed"}
        return self

    def data(self, table: str = "*") -> list[Path]:
        """The data files that the newest snapshot names."""
        with loadlock.open(self.lake, read_only=True) as lake:
            live = lake.sql("select path from __ducklake_metadata_lake.ducklake_data_file where end_snapshot is null").fetchall()
        names = {Path(row[0]).name for row in live}
        return [path for path in sorted((self.lake / "data" / "main").glob(f"{table}/*.parquet")) if path.name in names]

    def payload_ids(self) -> dict[str, str]:
        with loadlock.open(self.lake, read_only=True) as lake:
            found = dict(lake.sql("select source, payload_id from payloads").fetchall())
        return {name: found[str(path)] for name, path in self.files.items() if str(path) in found}


def harm(path: Path, how: str) -> None:
    """Damage a file, always in the same place."""
    data = bytearray(path.read_bytes())
    path.unlink()
    if how != "missing":
        data[len(data) // 2] ^= 4
        path.write_bytes(data[: len(data) // 2] if how == "truncated" else data)


def state(path: Path) -> tuple[Any, ...]:
    """What analysts see: digest, accounts, texts and conflicts with their payloads, quarantine, windows."""
    with loadlock.open(path, read_only=True) as lake:
        rows = [
            lake.sql(query).fetchall()
            for query in (
                "select payload_id, state, samples, events, bytes_in, records_accepted from payloads order by all",
                "select payload_id, count(*), count(distinct byte_start), count(distinct window_id) from traces group by all order by all",
                "select payload_id, seq, position, text from texts order by all",
                "select payload_id, kept_payload_id, seq, ts, position, value, text, content from conflicts order by all",
                "select payload_id, event, ts, byte_start from events order by all",
                "select quarantine_id, state, octet_length(bytes) from quarantine order by all",
                "select window_id, started_at, ended_at from windows order by all",
                "select tool, trace, position, sensor from sensors order by all",
            )
        ]
        return (lake.digest(), rows)


def sound(lake: Path) -> None:
    with loadlock.open(lake, read_only=True) as opened:
        report = opened.verify(every_feature=True)
    assert (report.faults, report.missing, report.owed) == ([], [], 0)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("repair")).deliver()


@pytest.fixture(scope="module")
def compacted(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """All rows lie in data files, those of the lake's own logs too; and the sources are where they were."""
    site = Site(tmp_path_factory.mktemp("repair")).deliver()
    with loadlock.open(site.lake) as lake:
        assert lake.compact(everything=True)
    return site


def copy_of(site: Site, folder: Path) -> Path:
    return Path(shutil.copytree(site.lake, folder / "fab.lake"))


@pytest.mark.parametrize("how", HARMS)
@pytest.mark.parametrize("kind", ["filled", "compacted"])
def test_every_file_of_payloads_comes_back(kind: str, how: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    site: Site = request.getfixturevalue(kind)
    before = state(site.lake)
    tables = set()
    for number, path in enumerate(site.data()):
        if path.parent.name not in (*DELIVERED, *DERIVED):
            continue
        tables.add(path.parent.name)
        lake = copy_of(site, tmp_path / str(number))
        harm(lake / path.relative_to(site.lake), how)
        with loadlock.open(lake) as opened:
            done = opened.repair()
            assert done["whole"], done
            assert [one["path"] for one in done["walled"]] == [path.relative_to(site.lake).as_posix()]
            assert opened.repair()["entries"] == []
        assert state(lake) == before, path
        sound(lake)
        shutil.rmtree(tmp_path / str(number))
    wanted = {"traces", "conflicts", "quarantine_log"}
    if kind == "compacted":
        wanted |= {"texts", "events", "windows_log", "features_log", "gaps_log", "streams_log"}
    assert tables >= wanted


def test_all_files_at_once_come_back(compacted: Site, tmp_path: Path) -> None:
    before = state(compacted.lake)
    lake = copy_of(compacted, tmp_path)
    for number, table in enumerate(("traces", "conflicts", "texts", "events", "quarantine_log", "windows_log", "features_log")):
        for path in compacted.data(table):
            harm(lake / path.relative_to(compacted.lake), HARMS[number % 3])
    with loadlock.open(lake) as opened:
        assert opened.repair()["whole"]
    assert state(lake) == before
    sound(lake)
    with loadlock.open(lake) as opened:
        opened.store.index.clear()
        opened.store.ensure_index(60)
        assert opened.ingest(compacted.files["second"]).payloads["replayed"] == 1
    assert state(lake) == before


def test_one_commit_of_all_payloads_comes_back_again_and_again(tmp_path: Path) -> None:
    """What was restored is as good as new: what the repair itself wrote can be repaired."""
    site = Site(tmp_path).deliver(together=True)
    before = state(site.lake)
    for _ in range(3):
        for path in site.data():
            harm(path, "missing")
        with loadlock.open(site.lake) as opened:
            done = opened.repair()
        assert done["whole"], done
        assert {one["table"] for one in done["walled"]} >= {"traces", "conflicts", "quarantine_log"}
        assert state(site.lake) == before
        sound(site.lake)


def test_without_the_payload_it_is_named_and_the_rest_can_be_queried(tmp_path: Path, loadlock_command: Callable[..., Any]) -> None:
    site = Site(tmp_path).deliver(SMALL)
    before = state(site.lake)
    ids = site.payload_ids()
    files = {name: path.read_bytes() for name, path in site.files.items()}
    with loadlock.open(site.lake, read_only=True) as lake:
        kept = lake.sql("select * from traces where payload_id <> ? order by all", [ids["second"]]).fetchall()
        [name] = {row[0] for row in lake.sql("select filename from lake.main.traces where payload_id = ?", [ids["second"]]).fetchall()}
    harm(Path(name), "truncated")
    site.files["second"].write_bytes(b"changed since")

    answer = loadlock_command("repair", "--lake", site.lake, "--json")
    assert (answer.code, answer.json["whole"], answer.json["restored"]) == (3, False, [])
    [missing] = answer.json["missing"]
    assert (missing["table"], missing["tools"], missing["missing_payloads"]) == ("traces", ["E1"], [ids["second"]])
    assert missing["path"] == Path(name).relative_to(site.lake).as_posix()
    assert ids["second"] in answer.json["left"][0]["what"]
    with loadlock.open(site.lake, read_only=True) as lake:
        assert lake.sql("select * from traces order by all").fetchall() == kept
        conflicts = "select count(*) from conflicts where kept_payload_id = ?"
        assert lake.sql(conflicts, [ids["second"]]).fetchall() == [(50,)]  # they stay conflicts, though what they contradict is gone
        report = lake.verify(every_feature=True)
    assert len(report.missing) == 1
    assert all(ids["second"] in fault for fault in report.faults), report.faults
    assert len(report.faults) == 2  # what is missing, and the account that holds more than is stored

    assert loadlock_command("repair", "--lake", site.lake, "--json").json["entries"] == []
    assert loadlock_command("status", "--lake", site.lake, "--json").json["missing"] == [missing]
    assert f"of payloads {ids['second']}" in loadlock_command("status", "--lake", site.lake).out

    [made_up] = site.data("features_log")
    harm(made_up, "flipped")
    assert len(loadlock_command("repair", "--lake", site.lake, "--json").json["missing"]) == 1
    with loadlock.open(site.lake, read_only=True) as lake:
        assert lake.verify(every_feature=True).faults == report.faults

    found = tmp_path / "archive" / "2026" / "found again.hsms"
    found.parent.mkdir(parents=True)
    found.write_bytes(files["second"])
    assert loadlock_command("repair", "--from", tmp_path / "nowhere", "--lake", site.lake).code == 2
    answer = loadlock_command("repair", "--from", tmp_path / "archive", "--lake", site.lake)
    assert answer.code == 0, answer
    assert loadlock_command("status", "--lake", site.lake, "--json").json["missing"] == []
    assert f"decoded again {ids['second']}" in answer.out
    assert state(site.lake) == before
    sound(site.lake)


def test_what_is_given_up_for_good_is_retracted(tmp_path: Path) -> None:
    site = Site(tmp_path).deliver(SMALL)
    ids = site.payload_ids()
    with loadlock.open(site.lake, read_only=True) as lake:
        [(name,)] = lake.sql("select distinct filename from lake.main.traces where payload_id = ?", [ids["wafers"]]).fetchall()
    harm(Path(name), "missing")
    site.files["wafers"].unlink()
    with loadlock.open(site.lake) as lake:
        assert [one["missing_payloads"] for one in lake.repair()["missing"]] == [[ids["wafers"]]]
        assert any(item["table"] == "features_owed_log" for item in lake.compact(everything=True))
        lake.retract(ids["wafers"], "its rows and its file are lost")
    sound(site.lake)


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


def test_a_sound_lake_has_nothing_to_repair(filled: Site, tmp_path: Path, loadlock_command: Callable[..., Any]) -> None:
    lake = copy_of(filled, tmp_path)
    answer = loadlock_command("repair", "--lake", lake, "--json")
    assert (answer.code, answer.json["whole"], answer.json["entries"]) == (0, True, [])
    assert "nothing to do" in loadlock_command("repair", "--lake", lake).out


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


def test_kept_payloads_serve_and_are_kept_again(tmp_path: Path) -> None:
    site = Site(tmp_path, CONFIG + "\n[lake]\nkeep_payloads = true\n").deliver(SMALL)
    before = state(site.lake)
    for path in site.data():
        harm(path, "truncated")
    gone, changed = (site.files[name] for name in ("first", "wafers"))
    gone.unlink()
    with loadlock.open(site.lake) as lake:
        sha256 = dict(lake.sql("select source, sha256 from payloads").fetchall())
        harm(kept_path(lake.path, sha256[str(site.files["second"])]), "flipped")  # its source is there
        done = lake.repair()
        assert done["whole"], done
        assert done["kept"] == [f"payloads/{sha256[str(site.files['second'])]}.zst"]
    assert state(site.lake) == before
    sound(site.lake)
    copy = kept_path(site.lake, sha256[str(changed)])
    changed.write_bytes(b"other")
    harm(copy, "truncated")
    harm(site.data("traces")[0], "missing")
    with loadlock.open(site.lake) as lake:
        done = lake.repair()
    assert [one["what"] for one in done["left"] if "payloads/" in one["what"]] == [f"payloads/{copy.name}"]


def test_books_that_no_payload_holds_need_a_backup(compacted: Site, tmp_path: Path, loadlock_command: Callable[..., Any]) -> None:
    for table, code in (("ledger", 6), ("payloads", 6), ("configs", 6), ("sensors", 3)):
        lake = copy_of(compacted, tmp_path / table)
        path = compacted.data(table)[0].relative_to(compacted.lake)
        harm(lake / path, "missing")
        answer = loadlock_command("repair", "--lake", lake)
        assert answer.code == code
        assert "restore a backup" in answer.out + answer.err
        assert path.name in answer.out + answer.err


def test_a_payload_that_decodes_otherwise_today_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other rows must not come under the name of the payload: that is what reprocess is for."""
    site = Site(tmp_path).deliver(["first", "wafers"])
    before = state(site.lake)
    for path in site.data("traces"):
        harm(path, "missing")
    narrow = tmp_path / "narrow.toml"
    narrow.write_text(CONFIG + "\n[limits]\nframe_bytes = 40\nline_bytes = 8\n")
    with loadlock.open(site.lake) as lake:
        lake._settings(narrow)  # is in force from now on
        monkeypatch.setattr("ingest.restoring._config", lambda _store, _digest, settings: settings.config)
        done = lake.repair()
        assert (done["whole"], done["restored"]) == (False, [])
        assert ["mapping" in one["why"] for one in done["left"]] == [True, False]
        assert "decodes it otherwise (bytes_in" not in done["left"][1]["why"]
        assert "decodes it otherwise (" in done["left"][1]["why"]
        assert len(done["missing"]) == 2
        monkeypatch.undo()
        assert lake.repair()["whole"]  # by the configuration of then
    assert state(site.lake) == before
    sound(site.lake)


@pytest.mark.parametrize("part", [1, 2])
def test_the_logs_of_the_lake_follow_from_the_index(filled: Site, tmp_path: Path, part: int) -> None:
    """All rows of these logs gone, or each second: windows, gaps and sequence keys are what they were, for a new index too."""
    lake = copy_of(filled, tmp_path)
    before = state(lake)
    with loadlock.open(lake) as opened:
        known = index_of(opened)
        for table, column in (("superseded", "window_id"), ("gaps_log", "first_missing"), ("streams_log", "seq_lo")):
            opened.store.connection.execute(f"DELETE FROM lake.main.{table} WHERE coalesce({column}, 0) % {part} = 0")
        rederive(opened.store, ["gaps_log", "streams_log", "superseded"], opened._settings(None))
    assert state(lake) == before
    with loadlock.open(lake) as opened:
        assert index_of(opened) == known
        opened.store.index.clear()
        opened.store.ensure_index(60)
        assert index_of(opened) == known


def test_the_ledger_tells_each_step(tmp_path: Path) -> None:
    site = Site(tmp_path).deliver(SMALL)
    path = site.data("traces")[0]
    harm(path, "missing")
    with loadlock.open(site.lake) as lake:
        done = lake.repair()
        told = lake.sql("select seq, action, body from ledger order by seq desc limit 2").fetchall()[::-1]
    assert [row[0] for row in told] == done["entries"]
    walled, restored = (json.loads(row[2]) for row in told)
    assert [one["path"] for one in walled["walled"]] == walled["removed"] == [path.relative_to(site.lake).as_posix()]
    assert restored["restored"] == [one["payload_id"] for one in done["restored"]]
    assert len(restored["files"]) >= 1


def test_sweep_spares_kept_payloads_and_what_was_put_aside(tmp_path: Path) -> None:
    """Years later: every snapshot but the newest is forgotten, and no file is young."""
    site = Site(tmp_path, CONFIG + "\n[lake]\nkeep_payloads = true\n").deliver(SMALL)
    harm(site.data("traces")[0], "flipped")
    with loadlock.open(site.lake) as lake:
        assert lake.repair()["whole"]
        lake.compact(everything=True)
        kept = sorted((site.lake / "payloads").iterdir())
        named = lake.sql("select count(distinct sha256) from payloads").fetchall()[0][0]
        assert len(kept) == named == len(SMALL)
        for path in site.lake.rglob("*"):
            if path.is_file():
                age(path, 700)
        later(lake, days=900)
        assert lake.expire()
        later(lake, days=902)
        assert lake.sweep()
        assert sorted((site.lake / "payloads").iterdir()) == kept
        assert len(list((site.lake / "walled").rglob("*.parquet"))) == 1
        assert lake.verify(every_feature=True).faults == []
        for path in site.files.values():
            path.unlink()
        before = lake.digest()
        harm(site.data("traces")[0], "missing")
        assert lake.repair()["whole"]
        assert lake.digest() == before
    sound(site.lake)
