"""A purge takes data for good: rows, old revisions, kept bytes, and in the end every byte on disk; ledger, account and key stay."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import loadlock
from ingest.errors import UsageError
from sample_data import secs_encoder as secs
from storage import mirror
from storage.errors import StoreDown
from storage.files import sha256_of
from storage.mirrorbase import unpack
from storage.points import watched
from tests.ingest.test_retract import CONFIG, PIECES, deliver, files, index_of, samples, sound, step, stime  # noqa: F401
from tests.storage.maintained import later

Run = Callable[..., Any]
VIEWS = ("traces", "samples", "texts", "conflicts", "events", "windows", "features", "gaps", "quarantine")
WAFER = "W2Q9KZ"
"""A name that is in no other text; others of the same column come before and after it, as the catalog keeps the least and the greatest."""


def purge(lake: Any, **wish: Any) -> dict[str, Any]:
    done: dict[str, Any] = lake.apply(lake.plan("purge", {"reason": "test", **wish}), confirmed=True)
    return done


def erased(lake: Any) -> None:
    """Let old snapshots and files go, as the answer of ``apply`` says."""
    later(lake, seconds=2)
    lake.expire(keep_days=0)
    later(lake, seconds=4)
    lake.sweep(guard_hours=0)


def found_on_disk(lake: Path, word: str) -> list[str]:
    """The files of a closed lake in which ``word`` can be read: rows of Parquet files, records of the mirror, raw bytes of all others."""
    places = []
    for path in sorted(path for path in lake.rglob("*") if path.is_file()):
        if path.suffix == ".parquet":
            held = word in repr(pq.read_table(path).to_pylist()) or word.encode() in path.read_bytes()
        elif path.parent.name == "mirror":
            held = any(
                word in repr([table.to_pylist() for table in unpack(record.body)[1].values()]) for record in mirror.scan(path).records
            )
        else:
            held = word.encode() in path.read_bytes()
        places += [path.relative_to(lake).as_posix()] if held else []
    return places


# --- a tool


@pytest.fixture
def fleet(tmp_path: Path, polisher: Any) -> Any:
    """P1 and P2, each with deliveries of its own, and one table of both; payloads are kept; two wafers have names like no other."""
    site = polisher(tmp_path)
    site.config.write_text(site.config.read_text() + "keep_payloads = true\n")
    site.lake = tmp_path / "fab.lake"
    secret = [row.replace(",W3,", f",{WAFER},") for row in site.rows([3])]
    site.file("1.csv", site.rows([1, 2]))
    site.file("2.csv", [*secret, *site.rows([1], offset=0.5)[:4], "P1,A,soon,W9,ramp,1,1"])
    site.file("3.csv", site.rows([1, 2], tool="P2"))
    site.file(
        "4.csv", [*[row.replace(",W5,", f",{WAFER}5,") for row in site.rows([5])], *site.rows([6], tool="P2"), "P1,A,late,W9,ramp,1,1"]
    )
    site.file("5.csv", site.rows([9])[::2])
    with loadlock.open(site.lake) as lake:
        for number in range(1, 6):
            lake.ingest(site.drop / f"{number}.csv", config=site.config)
    return site


@pytest.mark.parametrize("compacted", [False, True])
def test_a_tools_data_go_and_the_others_stay(fleet: Any, tmp_path: Path, polisher: Any, compacted: bool) -> None:
    other = polisher(tmp_path / "other")
    with loadlock.open(other.folder / "fab.lake") as expected:
        expected.ingest(other.file("3.csv", other.rows([1, 2], tool="P2")), config=other.config)
        expected.ingest(other.file("4.csv", other.rows([6], tool="P2")), config=other.config)
        wanted = expected.digest()
    with loadlock.open(fleet.lake) as lake:
        if compacted:
            assert lake.compact(everything=True)
        done = purge(lake, tool="P1")
        sound(lake)
        assert lake.digest() == wanted
        for view in VIEWS:
            assert lake.sql(f"select count(*) from {view} where tool = 'P1'").fetchall() == [(0,)], view
        states = lake.sql("select source, state from payloads order by source").fetchall()
        assert [state for _, state in states] == ["purged", "purged", "committed", "committed", "purged"]
        assert {Path(one["source"]).name: one["whole"] for one in done["effect"]["payloads"]} == {
            "1.csv": True,
            "2.csv": True,
            "4.csv": False,
            "5.csv": True,
        }
        rolled = index_of(lake)
        lake.store.index.clear()
        lake.store.ensure_index(60)
        assert index_of(lake) == rolled
        sound(lake)


@pytest.mark.parametrize("compacted", [False, True])
def test_after_expire_and_sweep_the_bytes_are_gone_from_the_disk(fleet: Any, compacted: bool, loadlock_command: Run) -> None:
    with loadlock.open(fleet.lake) as lake:
        if compacted:
            lake.compact(everything=True)
    assert found_on_disk(fleet.lake, WAFER)
    plan = fleet.folder / "plan.json"
    at = ("--lake", fleet.lake)
    assert loadlock_command("plan", "purge", "--tool", "P1", "--reason", "sold", "--output", plan, *at).code == 0
    answer = loadlock_command("apply", plan, "--yes", *at)
    assert (answer.code, "older snapshots still show what went" in answer.out) == (0, True)
    assert found_on_disk(fleet.lake, WAFER)
    with loadlock.open(fleet.lake) as lake:
        erased(lake)
        sound(lake)
        entry = json.loads(lake.sql("select body from ledger where action = 'sweep' order by seq desc limit 1").fetchall()[0][0])
        assert entry["scrubbed"] == lake.sql("select max(seq) from ledger where action = 'purge'").fetchall()[0][0]
        assert lake.sweep(guard_hours=0) == []
    places = found_on_disk(fleet.lake, WAFER)
    assert places == []
    assert [path.name for path in (fleet.lake / "payloads").iterdir()] == [f"{sha256_of(fleet.drop / '3.csv')}.zst"]


def test_a_purged_payload_that_comes_again_is_told_so(fleet: Any, loadlock_command: Run) -> None:
    with loadlock.open(fleet.lake) as lake:
        purge(lake, tool="P1")
        before = lake.digest(), lake.store.head()
        for clear in (False, True):
            if clear:
                lake.store.index.clear()
            summary = lake.ingest(fleet.drop, config=fleet.config)
            assert summary.payloads["replayed"] == summary.payloads["seen"] == 5
            told = {Path(receipt.source).name: receipt.reason for receipt in summary.receipts}
            assert [name for name, reason in told.items() if reason and "purged since" in reason] == ["1.csv", "2.csv", "5.csv"]
            assert (lake.digest(), lake.store.head()) == before
        with pytest.raises(UsageError, match="it was purged before"):
            lake.retract(summary.receipts[0].payload_id, "again")
        changed = fleet.folder / "drop" / "changed.csv"
        changed.write_text("TOOL\n")
        key = lake.sql("select key from payloads where source like '%1.csv'").fetchall()[0][0]
    assert loadlock_command("ingest", changed, "--key", key, "--lake", fleet.lake).code == 4
    answer = loadlock_command("ingest", fleet.drop / "1.csv", "--key", "on purpose", "--lake", fleet.lake, "--json")
    assert (answer.code, answer.json["records"]["accepted"]) == (0, 40)
    with loadlock.open(fleet.lake) as lake:
        sound(lake)


def test_repair_and_audit_do_not_look_for_what_was_purged(fleet: Any) -> None:
    with loadlock.open(fleet.lake) as lake:
        path = Path(lake.sql("select filename from lake.main.traces where tool = 'P1' limit 1").fetchall()[0][0])
        path.unlink()
        for file in fleet.drop.glob("*.csv"):
            file.unlink()
        for kept in (fleet.lake / "payloads").iterdir():
            kept.unlink()
        done = lake.repair()
        assert not done["whole"]
        plan = lake.plan("purge", {"tool": "P1", "reason": "lost anyway"})
        lake.apply(plan, confirmed=True)
        faults = lake.verify().faults
        assert all(fault.startswith("payloads/") for fault in faults)  # the kept bytes of P2 that this test removed
        assert lake.store.rows("SELECT count(*) FROM traces WHERE tool = 'P1'") == [(0,)]


# --- old data


OLD = [(f"drop/{n}", step(1, 600 * n, "a") + samples(range(600 * n, 600 * n + 30)) + step(2, 600 * n + 40, "a")) for n in range(4)]
CUT = datetime(2026, 3, 17, 0, 2)
"""Two minutes into the day: between the second and the third of ``OLD``."""


def days(lake: Any, config: Path, deliveries: Iterable[tuple[str, bytes]] = OLD) -> list[str]:
    return [lake.ingest(data=data, tool="E1", format="hsms", config=config, key=name).receipts[0].payload_id for name, data in deliveries]


def test_old_payloads_go_whole_and_what_stays_keeps_its_windows(lake: Run, tmp_path: Path) -> None:
    config = tmp_path / "fab.toml"
    config.write_text(CONFIG)
    lake = lake()
    ids = days(lake, config)
    before = lake.sql("select * exclude (revision) from windows where started_at >= ? order by all", [CUT]).fetchall()
    assert len(before) == 2
    plan = lake.plan("purge", {"before": CUT, "reason": "retention"})
    assert [one["payload_id"] for one in plan["effect"]["payloads"]] == ids[:1]
    assert plan["effect"]["kept_back"] == [ids[1]]  # its events set the wafer and step that are in force at the date
    lake.apply(plan, confirmed=True)
    sound(lake)
    assert lake.sql("select * exclude (revision, occurrence) from windows where started_at >= ? order by all", [CUT]).fetchall() == [
        (*row[:7], *row[8:]) for row in before
    ]
    assert lake.sql("select min(ts) >= '2026-03-17 00:01:00' from traces").fetchall() == [(True,)]
    rolled = index_of(lake)
    lake.store.index.clear()
    lake.store.ensure_index(60)
    assert index_of(lake) == rolled
    lake.ingest(data=samples(range(3000, 3010)) + step(2, 3020, "z"), tool="E1", format="hsms")
    sound(lake)


def test_a_purge_that_would_change_a_later_window_is_refused(lake: Run, tmp_path: Path) -> None:
    """Only the old delivery names chamber B, in which an event of all chambers opens a window after the date."""
    config = tmp_path / "fab.toml"
    config.write_text(CONFIG.replace("[tools.", '[models.etcher.events.3]\nvalues = ["ts", "chamber"]\n\n[tools.'))
    lake = lake()
    named = secs.s6f11(3, [(1, [secs.text(stime(10)), secs.text("B")])], system=9)
    days(lake, config, [("old", named), ("new", step(1, 3000, "a") + step(2, 3010, "a"))])
    assert lake.sql("select chamber from windows").fetchall() == [("B",)]
    before = lake.digest(), lake.store.head()
    plan = lake.plan("purge", {"before": CUT, "reason": "retention"})
    with pytest.raises(UsageError, match="begins after the date and would change"):
        lake.apply(plan, confirmed=True)
    assert (lake.digest(), lake.store.head()) == before
    assert lake.verify().orphans == []


def test_a_payload_that_straddles_the_date_stays_whole(lake: Run, tmp_path: Path) -> None:
    config = tmp_path / "fab.toml"
    config.write_text(CONFIG)
    lake = lake()
    days(lake, config, [("long", samples([1, 5000])), ("short", samples([2, 3]))])
    done = purge(lake, before="2026-03-17T00:01:00Z", tool="E1")
    assert [one["traces"] for one in done["effect"]["payloads"]] == [4]
    assert lake.sql("select distinct seq from traces order by seq").fetchall() == [(1,), (5000,)]
    sound(lake)
    with pytest.raises(UsageError, match="nothing to purge"):
        lake.plan("purge", {"before": CUT, "tool": "E2", "reason": "x"})
    with pytest.raises(UsageError, match="a tool, or a date"):
        lake.plan("purge", {"reason": "x"})


def test_every_kind_of_delivery_can_be_purged(lake: Run, files: dict[str, Path]) -> None:  # noqa: F811
    """Conflicts, texts, events, windows by context and by events, quarantine: of one tool, then of the other."""
    lake = lake()
    deliver(lake, files, PIECES)
    purge(lake, tool="E1")
    sound(lake)
    assert lake.sql("select distinct tool from samples").fetchall() == [("P1",)]
    assert lake.store.rows("SELECT count(*) FROM lake.main.windows_log WHERE tool = 'E1'") == [(0,)]
    assert lake.store.rows("SELECT count(*) FROM lake.main.streams_log WHERE tool = 'E1'") == [(0,)]
    purge(lake, tool="P1")
    sound(lake)
    for view in VIEWS:
        assert lake.sql(f"select count(*) from {view}").fetchall() == [(0,)], view
    for table in ("windows_log", "features_log", "gaps_log", "streams_log"):
        assert lake.store.rows(f"SELECT count(*) FROM lake.main.{table}") == [(0,)], table
    assert lake.sql("select distinct state from payloads").fetchall() == [("purged",)]


# --- faults


@pytest.mark.parametrize("at", ["change_built", "files_removed", "ledger_inserted", "mirror_synced"])
def test_a_purge_that_fails_changes_nothing(fleet: Any, at: str) -> None:
    def fail(name: str) -> None:
        if name == at:
            raise OSError("no space left on device")

    with loadlock.open(fleet.lake) as lake:
        before = lake.digest(), lake.store.head()
        plan = lake.plan("purge", {"tool": "P1", "reason": "test"})
        lake.store.on_step = fail
        with pytest.raises((OSError, StoreDown), match="no space"):
            lake.apply(plan, confirmed=True)
    with loadlock.open(fleet.lake) as lake:
        assert (lake.digest(), lake.store.head()) == before
        lake.apply(plan, confirmed=True)
        sound(lake)


def test_killed_after_the_commit_the_index_is_made_anew_and_sweep_removes_kept_bytes(fleet: Any) -> None:
    class Gone(BaseException):
        pass

    def die(name: str, _path: Path | None) -> None:
        if name == "committed":
            raise Gone

    with loadlock.open(fleet.lake) as lake, pytest.raises(Gone), watched(die):
        purge(lake, tool="P1")
    with loadlock.open(fleet.lake) as lake:
        lake.store.ensure_index(60)
        rolled = index_of(lake)
        assert not [row for row in rolled[0] if row[0] == "P1"]
        lake.store.index.clear()
        lake.store.ensure_index(60)
        assert index_of(lake) == rolled
        assert len(list((fleet.lake / "payloads").iterdir())) == 5
        assert sorted(item["why"] for item in lake.sweep(guard_hours=24)) == ["purged"] * 4
        assert len(list((fleet.lake / "payloads").iterdir())) == 1
        sound(lake)


def test_the_mirror_knows_what_was_purged(fleet: Any, loadlock_command: Run) -> None:
    with loadlock.open(fleet.lake) as lake:
        purge(lake, tool="P1")
        before = lake.digest()
    for pattern in ("catalog.sqlite*", "index.sqlite*"):
        for file in fleet.lake.glob(pattern):
            file.unlink()
    assert loadlock_command("restore", "--from-mirror", "--lake", fleet.lake).code == 0
    with loadlock.open(fleet.lake) as lake:
        assert lake.digest() == before
        assert lake.ingest(fleet.drop, config=fleet.config).payloads["replayed"] == 5
        sound(lake)
