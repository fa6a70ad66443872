"""Damage is walled off and made up from payloads that are at hand; what is not, is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import loadlock
from ingest.rederive import rederive
from storage.kept import kept_path
from storage.walled import DELIVERED, DERIVED
from tests.ingest.damaged import HARMS, SMALL, Site, copy_of, harm, sound, state
from tests.ingest.test_retract import CONFIG, index_of
from tests.storage.maintained import age, later


@pytest.mark.parametrize("kind", ["filled", "compacted"])
def test_every_file_of_payloads_comes_back(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Each file on its own; the first of each table is harmed in every way, the others in turn."""
    site: Site = request.getfixturevalue(kind)
    before = state(site.lake)
    tables: set[str] = set()
    for number, path in enumerate(site.data()):
        if path.parent.name not in (*DELIVERED, *DERIVED):
            continue
        for how in [HARMS[number % 3]] if path.parent.name in tables else HARMS:
            lake = copy_of(site, tmp_path / f"{number} {how}")
            harm(lake / path.relative_to(site.lake), how)
            with loadlock.open(lake) as opened:
                done = opened.repair()
                assert done["whole"], done
                assert [one["path"] for one in done["walled"]] == [path.relative_to(site.lake).as_posix()]
                assert opened.repair()["entries"] == []
            assert state(lake) == before, (path, how)
            sound(lake)
            shutil.rmtree(lake.parent)
        tables.add(path.parent.name)
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


def test_a_sound_lake_has_nothing_to_repair(filled: Site, tmp_path: Path, loadlock_command: Callable[..., Any]) -> None:
    lake = copy_of(filled, tmp_path)
    answer = loadlock_command("repair", "--lake", lake, "--json")
    assert (answer.code, answer.json["whole"], answer.json["entries"]) == (0, True, [])
    assert "nothing to do" in loadlock_command("repair", "--lake", lake).out


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
        before = lake.store.head()[0]
        done = lake.repair()
        told = lake.sql(f"select seq, action, body from ledger where seq > {before} order by seq").fetchall()
    assert [row[0] for row in told] == done["entries"]
    assert {row[1] for row in told} <= {"repair", "features"}  # features of windows whose samples were in the file: it is any of them
    walled, *restored = (json.loads(row[2]) for row in told if row[1] == "repair")  # a slow machine makes it up in more than one commit
    assert [one["path"] for one in walled["walled"]] == walled["removed"] == [path.relative_to(site.lake).as_posix()]
    assert [name for one in restored for name in one["restored"]] == [one["payload_id"] for one in done["restored"]]
    assert all(len(one["files"]) >= 1 for one in restored)


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


def test_discarded_bytes_do_not_come_back(tmp_path: Path) -> None:
    site = Site(tmp_path).deliver(SMALL)
    with loadlock.open(site.lake) as lake:
        [(name,)] = lake.sql("select quarantine_id from quarantine").fetchall()
        lake.apply(lake.plan("discard", {"ids": [name], "reason": "noise"}), confirmed=True)
        lake.compact(everything=True)
        entry = lake.sql("select * from quarantine").fetchall()
        for path in site.data("quarantine_log"):
            harm(path, "missing")
        assert lake.repair()["whole"]
        assert lake.sql("select * from quarantine").fetchall() == entry
        assert lake.store.rows("SELECT bytes FROM lake.main.quarantine_log") == [(None,)]
    sound(site.lake)
