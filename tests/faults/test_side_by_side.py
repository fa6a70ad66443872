"""Many processes on one lake: eight that ingest; maintenance, readers, backups; one that is stopped with the lock; wrong clocks."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import loadlock
from ingest.config import parse
from loadlock.lake import actor
from sample_data import secs_encoder as secs
from storage import backup
from storage.rebuild import compare
from tests.faults.nursery import Nursery
from tests.faults.soak import scaled

Run = Callable[..., Any]
WRITERS = 8


def answers(nursery: Nursery, calls: Sequence[Sequence[object]], folder: Path) -> list[dict[str, Any]]:
    """Run ``loadlock`` commands at once; return their JSON answers; all end with 0 or 3."""
    outputs = [folder / f"answer-{i}" for i in range(len(calls))]
    children = [
        nursery.start("command", arguments=[str(word) for word in call], output=str(output))
        for call, output in zip(calls, outputs, strict=True)
    ]
    codes = [nursery.wait(child) for child in children]
    errors = [Path(f"{output}.err").read_text(encoding="utf-8") for output in outputs]
    assert set(codes) <= {0, 3}, errors
    return [json.loads(output.read_text(encoding="utf-8")) for output in outputs]


def alone(site: Any, name: str, sources: Sequence[Path]) -> dict[str, str]:
    """What one process makes of ``sources``."""
    with loadlock.open(site.folder / name) as lake:
        lake.ingest(sources, config=site.config)
        digest: dict[str, str] = lake.digest()
        return digest


def committed_once(found: Sequence[dict[str, Any]], lake: Any) -> None:
    """Each key was committed by one call, and has one payload."""
    states = Counter((receipt["key"], receipt["state"]) for answer in found for receipt in answer["receipts"])
    keys = {key for key, _ in states}
    assert {state for _, state in states} <= {"committed", "replayed"}
    assert all(states[key, "committed"] == 1 for key in keys)
    assert lake.sql("select count(*), count(distinct key) from payloads").fetchall() == [(len(keys), len(keys))]


def test_eight_at_once_with_the_same_payloads_among_them(
    polisher: Run, tmp_path: Path, nursery: Nursery, assert_conserved: Run, note: Run
) -> None:
    site = polisher(tmp_path)
    shared = [site.wafers(f"shared-{k}.csv", [k, k + 1]) for k in range(3)]
    own = [site.wafers(f"own-{i}.csv", [20 + i], tool=f"P{i}") for i in range(WRITERS)]
    lake = tmp_path / "fab.lake"
    calls = [
        ["ingest", *(shared[i % 3 :] + shared[: i % 3]), own[i], "--json", "--config", site.config, "--lake", lake] for i in range(WRITERS)
    ]
    found = answers(nursery, calls, tmp_path)
    for answer in found:
        assert_conserved(answer)
    with loadlock.open(lake, read_only=True) as reader:
        committed_once(found, reader)
        assert reader.verify().faults == []
        assert reader.digest() == alone(site, "alone.lake", [*shared, *own])
    note(processes=WRITERS, payloads=len(shared) + WRITERS)


def side_by_side(batches: int, site: Any, nursery: Nursery, check_conserved: Run) -> dict[str, int]:
    """A writer, a process that compacts and expires, one that backs up, and readers, all at once."""
    lake = site.folder / "fab.lake"
    sources = [site.wafers(f"{i}.csv", [i]) for i in range(batches + 1)]
    with loadlock.open(lake) as opened:
        opened.ingest(sources[0], config=site.config)
    children = [
        nursery.start("feed", lake=str(lake), config=str(site.config), sources=[str(path) for path in part], oracle=str(oracle), seed=i)
        for i, (part, oracle) in enumerate([(sources[1::2], site.folder / "o1"), (sources[2::2], site.folder / "o2")])
    ]
    counts = Counter[str]()
    while any(Path(f"/proc/{child}/stat").read_text(encoding="ascii").split()[2] != "Z" for child in children):
        with loadlock.open(lake) as opened:
            counts["compactions"] += len(opened.compact(everything=True))
            counts["snapshots expired"] += len(opened.expire(keep_days=0))
            opened.sweep(guard_hours=1)
        saved = site.folder / f"saved-{counts['backups']}"
        with loadlock.open(lake) as opened:
            backup.backup(opened.store, saved, actor=actor(), software="x", wait_s=60, data=True)
            counts["backups"] += 1
        with loadlock.open(lake, read_only=True) as reader, reader.store.reading():
            payloads, traces = reader.store.rows("select (select count(*) from payloads), (select count(*) from traces)")[0]
            assert traces == 40 * payloads
            counts["looks"] += 1
    assert [nursery.wait(child) for child in children] == [0, 0]
    with loadlock.open(lake) as opened:
        check_conserved(opened.ingest_all(sources), opened)
        digest = opened.digest()
    assert digest == alone(site, "alone.lake", sources)
    for number in range(counts["backups"]):
        restored = site.folder / "restored.lake"
        backup.restore(site.folder / f"saved-{number}", restored, data=None)
        with loadlock.open(restored) as opened:
            backup.note_restored(opened.store, actor=actor(), wait_s=10, body={})
            assert opened.verify().faults == []
            opened.ingest_all(sources)
            assert opened.digest() == digest
        shutil.rmtree(restored)
    return dict(counts)


def test_writers_beside_maintenance_readers_and_backups(
    polisher: Run, tmp_path: Path, nursery: Nursery, assert_conserved: Run, note: Run
) -> None:
    note(batches=16, **side_by_side(16, polisher(tmp_path), nursery, assert_conserved))


@pytest.mark.slow
def test_writers_beside_maintenance_for_long(polisher: Run, tmp_path: Path, nursery: Nursery, assert_conserved: Run, note: Run) -> None:
    batches = scaled(60)
    note(batches=batches, **side_by_side(batches, polisher(tmp_path), nursery, assert_conserved))


@pytest.mark.parametrize("point", ["begun", "mirror_synced"])
def test_a_stopped_process_holds_the_lock_past_patience(
    point: str, polisher: Run, tmp_path: Path, nursery: Nursery, loadlock_command: Run, assert_conserved: Run
) -> None:
    site = polisher(tmp_path)
    lake = tmp_path / "fab.lake"
    with loadlock.open(lake) as opened:
        opened.ingest(site.wafers("1.csv", [1]), config=site.config)
    mine, theirs = site.wafers("2.csv", [2]), site.wafers("3.csv", [3])
    child = nursery.start("stop_at", lake=str(lake), source=str(theirs), point=point)
    try:
        deadline = time.monotonic() + 60
        while Path(f"/proc/{child}/stat").read_text(encoding="ascii").split()[2] != "T":
            assert time.monotonic() < deadline
            time.sleep(0.01)
        answer = loadlock_command("ingest", mine, "--wait", "0.2", "--json", "--lake", lake)
        assert (answer.code, answer.json["payloads"]["deferred"]) == (5, 1)
        assert loadlock_command("compact", "--all", "--wait", "0.2", "--lake", lake).code == 5
        assert loadlock_command("status", "--lake", lake).code == 0
        with loadlock.open(lake, read_only=True) as reader:
            assert reader.sql("select count(*) from payloads").fetchall() == [(1,)]
    finally:
        os.kill(child, signal.SIGCONT)
    assert nursery.wait(child) == 0
    assert loadlock_command("ingest", mine, theirs, "--json", "--lake", lake).json["payloads"]["committed"] == 1
    with loadlock.open(lake) as opened:
        assert opened.verify().faults == []
        assert compare(opened.store) == []
        assert opened.digest() == alone(site, "alone.lake", [site.drop])


# --- clocks


@pytest.mark.parametrize("jumps_h", [(0, -48, 72), (0, 24 * 400, -24 * 400)], ids=str)
def test_a_clock_that_is_set_back_and_forward(jumps_h: Sequence[int], polisher: Run, tmp_path: Path, assert_conserved: Run) -> None:
    """No key, order or revision is a clock's business; a wrong clock may expire a snapshot early, never the newest."""
    site = polisher(tmp_path)
    sources = [site.file(f"{i}.csv", [*site.rows([i]), *site.rows([0], offset=1.0)[i : i + 2]]) for i in range(len(jumps_h))]
    with loadlock.open(tmp_path / "fab.lake") as lake:
        for source, jump_h in zip(sources, jumps_h, strict=True):
            lake.store.clock = lambda jump_h=jump_h: datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=jump_h)
            assert_conserved(lake.ingest_all(source, config=site.config), lake)
            lake.expire()
            lake.sweep()
        lake.compact(everything=True)
        assert lake.verify().faults == []
        assert [row[0] for row in lake.sql("select seq from ledger order by seq").fetchall()] == list(range(1, lake.store.head()[0] + 1))
        assert assert_conserved(lake.ingest_all(sources), lake)["payloads"]["replayed"] == len(sources)
        assert lake.digest() == alone(site, "alone.lake", sources)


DST = parse('[models.b]\ntimezone = "Europe/Berlin"\n[models.b.traces.7]\nperiod = 600.0\nsensors = ["x"]\n[tools.T]\nmodel = "b"\n')


@pytest.mark.parametrize(("start", "readings"), [("20261025014000", 12), ("20260329014000", 8)], ids=["repeated", "missing"])
def test_an_hour_of_summer_time_in_any_order(start: str, readings: int, tmp_path: Path) -> None:
    """Local times as the tool's clock shows them: the same times come of one payload, and of one payload a message, also when repeated."""
    from zoneinfo import ZoneInfo

    begin = datetime.strptime(start, "%Y%m%d%H%M%S").replace(tzinfo=ZoneInfo("Europe/Berlin")).astimezone(UTC)
    utc = [begin + timedelta(minutes=10 * i) for i in range(readings)]
    frames = [
        secs.s6f1(
            secs.item("U1", 7),
            secs.item("U4", i + 1),
            time.astimezone(ZoneInfo("Europe/Berlin")).strftime("%Y%m%d%H%M%S00"),
            [secs.item("F4", 1.0)],
        )
        for i, time in enumerate(utc)
    ]
    found = []
    for name, payloads in {"whole": [b"".join(frames)], "apart": [*frames, frames[3]]}.items():
        with loadlock.open(tmp_path / name) as lake:
            for data in payloads:
                lake.ingest(data=data, tool="T", config=DST)
            found.append(lake.sql("select seq, ts from traces order by seq").fetchall())
            assert lake.verify().faults == []
            assert lake.sql("select count(*) from gaps").fetchall() == [(0,)]
    wanted = [(i + 1, time.replace(tzinfo=None)) for i, time in enumerate(utc)]
    assert found == [wanted, wanted]
