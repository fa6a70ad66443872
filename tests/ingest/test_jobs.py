"""Several workers make the lake that one makes; an error or an interrupt leaves nothing half done."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

import loadlock
from benchmarks import capture
from ingest import jobs
from ingest.receipts import Summary

TOOLS = ("ETCH01", "ETCH02", "ETCH03")


@pytest.fixture(scope="module")
def drop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drop")
    capture.write(folder, 2 << 20, tools=TOOLS, payloads=2)
    (folder / "ETCH02" / "0002.hsms").write_bytes((folder / "ETCH01" / "0000.hsms").read_bytes())
    (folder / "notes.txt").write_text("no delivery")
    with (folder / "loadlock.toml").open("a", encoding="utf-8") as config:
        config.write("\n[lake]\nbatch_seconds = 600\n")  # else kernels that have to be compiled first end a batch early
    return folder


def _ingest(lake: Path, drop: Path, jobs: int, **more: Any) -> tuple[Summary, dict[str, str]]:
    with loadlock.open(lake) as opened:
        summary = opened.ingest([drop], config=drop / "loadlock.toml", jobs=jobs, **more)
        assert not opened.verify().faults
        return summary, opened.digest()


def test_three_workers_make_the_lake_that_one_makes(tmp_path: Path, drop: Path) -> None:
    alone, digest = _ingest(tmp_path / "one.lake", drop, 1)
    together, same = _ingest(tmp_path / "three.lake", drop, 3)
    assert same == digest
    fleeting = {"batches", "receipts", "seconds"}
    assert together.model_dump(exclude=fleeting) == alone.model_dump(exclude=fleeting)
    assert [receipt.source for receipt in together.receipts] == [receipt.source for receipt in alone.receipts]
    assert len(together.batches) == 3
    assert len({receipt.ledger_seq for receipt in together.receipts}) == 3


def test_a_second_time_all_is_replayed(tmp_path: Path, drop: Path) -> None:
    first, digest = _ingest(tmp_path / "a.lake", drop, 2)
    again, same = _ingest(tmp_path / "a.lake", drop, 2)
    assert same == digest
    assert again.payloads["replayed"] == first.payloads["committed"] == 7
    assert not again.batches


def test_one_key_in_two_workers_is_taken_once(tmp_path: Path, drop: Path) -> None:
    with loadlock.open(tmp_path / "a.lake") as lake:
        files = [drop / "ETCH01" / "0000.hsms", drop / "ETCH02" / "0000.hsms"]
        summary = lake.ingest_all(files, config=drop / "loadlock.toml", key="one", jobs=2)
        assert (summary.payloads["committed"], summary.payloads["refused"]) == (1, 1)
        assert lake.sql("SELECT count(*) FROM payloads").fetchall() == [(1,)]


def test_an_interrupt_stops_every_worker_and_leaves_nothing_half_done(tmp_path: Path, drop: Path) -> None:
    calls: list[str] = []

    def progress(_batch: object, _position: int) -> None:
        calls.append(threading.current_thread().name)
        raise KeyboardInterrupt

    with loadlock.open(tmp_path / "a.lake") as lake:
        with pytest.raises(KeyboardInterrupt):
            lake.ingest([drop], config=drop / "loadlock.toml", jobs=3, progress=progress)
        assert calls
        assert not lake.verify().faults
        committed = lake.sql("SELECT count(*) FROM payloads").fetchall()[0][0]
        assert committed < 7
        named = {row[0] for row in lake.sql("SELECT path FROM __ducklake_metadata_lake.ducklake_data_file").fetchall()}
        assert len(list((tmp_path / "a.lake" / "data").rglob("*.parquet"))) == len(named)
    _, digest = _ingest(tmp_path / "a.lake", drop, 2)
    assert digest == _ingest(tmp_path / "b.lake", drop, 1)[1]
    assert threading.active_count() == 1 or all(thread.name != "ingest" for thread in threading.enumerate())


def test_a_second_interrupt_waits_for_the_workers_as_well(tmp_path: Path, drop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended, interrupts = jobs._end, iter([KeyboardInterrupt] * 3)

    def interrupted(workers: Any) -> None:
        for interrupt in interrupts:
            raise interrupt
        ended(workers)

    monkeypatch.setattr(jobs, "_end", interrupted)
    with loadlock.open(tmp_path / "a.lake") as lake:
        with pytest.raises(KeyboardInterrupt):
            lake.ingest([drop], config=drop / "loadlock.toml", jobs=2)
        assert next(interrupts, None) is None
        assert all(thread.name != "ingest" for thread in threading.enumerate())
        assert not lake.verify().faults
    _, digest = _ingest(tmp_path / "a.lake", drop, 2)
    assert digest == _ingest(tmp_path / "b.lake", drop, 1)[1]


def test_what_one_worker_can_not_do_is_raised(tmp_path: Path, drop: Path) -> None:
    def broken(batch: Any, _position: int) -> None:
        if batch.payloads[-1].tool == "ETCH02":
            raise OSError(5, "the disk is gone")

    with loadlock.open(tmp_path / "a.lake") as lake:
        with pytest.raises(OSError, match="the disk is gone"):
            lake.ingest([drop], config=drop / "loadlock.toml", jobs=2, progress=broken)
        assert not lake.verify().faults
    _, digest = _ingest(tmp_path / "a.lake", drop, 2)
    assert digest == _ingest(tmp_path / "b.lake", drop, 1)[1]
