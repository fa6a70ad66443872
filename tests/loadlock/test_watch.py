"""Watching a folder, with real processes: what lands is taken once, what grows is left alone, and it stops as it is told to."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import loadlock

sys.path.append(str(Path(__file__).resolve().parents[1] / "faults"))
from running import Running, data_files, eventually, lock_held

RUN = Callable[..., Any]
SETTLE_S = "0.3"


def watching(site: Any, *more: object, **environment: str) -> Running:
    arguments = ("watch", site.drop, "--lake", site.lake, "--settle", SETTLE_S, "--retry", "1", "--json", *more)
    return Running(*arguments, **environment)


def rows_of(lake: Path) -> tuple[int, int]:
    """(rows, different rows) of the traces."""
    with loadlock.open(lake, read_only=True) as opened:
        query = "select count(*), count(distinct (tool, chamber, trace, stream, seq, position)) from traces"
        found: tuple[int, int] = opened.sql(query).fetchall()[0]
        return found


def write_slowly(path: Path, rows: list[str]) -> None:
    for row in rows:
        time.sleep(0.15)
        with path.open("a") as file:
            file.write(row + "\n")


def test_what_lands_is_ingested_and_what_grows_is_left_until_it_is_whole(copy: Any, assert_conserved: RUN) -> None:
    rows = copy.rows([3, 4])
    with watching(copy, "--settle", "1.5") as watch:
        growing = copy.file("growing.csv", rows[:2])
        writer = threading.Thread(target=write_slowly, args=(growing, rows[2:]))
        writer.start()
        first = watch.batch()
        assert writer.is_alive()
        assert [Path(item["source"]).name for item in assert_conserved(first)["receipts"]] == ["1.csv"]
        assert first["payloads"]["replayed"] == 1
        writer.join()
        (copy.drop / "later").mkdir()
        copy.wafers("later.csv", [6]).rename(copy.drop / "later" / "drop")  # no pattern fits it: skipped, and named
        second = watch.batch()
        assert [Path(item["source"]).name for item in assert_conserved(second)["receipts"]] == ["growing.csv"]
        assert second["records"]["accepted"] == len(rows)
        assert second["frames"]["quarantined"] == 0
        watch.said("skipped")
        assert watch.end(signal.SIGTERM) == 0
    assert "nothing is under way" in watch.err[-1]
    assert len(watch.out) == 2
    assert rows_of(copy.lake) == (160, 160)


def test_killed_and_started_again_it_takes_what_landed_meanwhile_and_nothing_twice(copy: Any) -> None:
    with watching(copy) as watch:
        watch.batch()
        with lock_held(copy.lake):
            before = data_files(copy.lake)
            copy.wafers("2.csv", [5])
            eventually(lambda: data_files(copy.lake) > before, "a batch is staged")
            assert watch.end(signal.SIGKILL) == -signal.SIGKILL
    copy.wafers("3.csv", [6])
    with watching(copy) as watch:
        batch = watch.batch()
        assert batch["payloads"] | {"seen": 3, "committed": 2, "replayed": 1} == batch["payloads"]
        assert watch.end(signal.SIGTERM) == 0
    assert rows_of(copy.lake) == (160, 160)


def test_sigterm_lets_the_running_batch_finish(copy: Any, assert_conserved: RUN) -> None:
    with watching(copy) as watch:
        watch.batch()
        with lock_held(copy.lake):
            before = data_files(copy.lake)
            copy.wafers("2.csv", [5])
            eventually(lambda: data_files(copy.lake) > before, "a batch is staged")
            watch.child.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            assert watch.child.poll() is None
        assert watch.end() == 0
    assert json.loads(watch.out[-1])["payloads"]["committed"] == 1
    assert rows_of(copy.lake) == (120, 120)


@pytest.mark.parametrize("command", ["watch", "ingest"])
@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_leaves_nothing_half_done(copy: Any, command: str, jobs: int) -> None:
    copy.wafers("2.csv", [5])
    copy.wafers("3.csv", [5], tool="P2")
    run = {
        "watch": lambda: watching(copy, "--jobs", jobs),
        "ingest": lambda: Running("ingest", copy.drop, "--lake", copy.lake, "--jobs", jobs, "--json"),
    }[command]
    before = data_files(copy.lake)
    with lock_held(copy.lake), run() as child:
        eventually(lambda: data_files(copy.lake) > before, "a batch is staged")
        time.sleep(0.2)
        assert child.end(signal.SIGINT) == 130
    assert child.out == []
    assert "nothing half done" in child.err[-1]
    assert data_files(copy.lake) == before
    assert list((copy.lake / "staging").glob("*")) == []
    assert rows_of(copy.lake) == (80, 80)
    with Running("ingest", copy.drop, "--lake", copy.lake, "--json") as again:
        assert again.end() == 0
    assert json.loads(again.out[0])["payloads"]["committed"] == 2
    assert rows_of(copy.lake) == (160, 160)


def test_a_link_that_leads_outside_is_refused_in_words_for_machines_too(copy: Any, tmp_path: Path) -> None:
    outside = tmp_path / "outside.csv"
    shutil.copy(copy.wafers("2.csv", [5]), outside)
    (copy.drop / "2.csv").unlink()
    (copy.drop / "2.csv").symlink_to(outside)
    with watching(copy, LOADLOCK_LOG="json") as watch:
        assert watch.batch()["payloads"]["seen"] == 1
        assert watch.end(signal.SIGTERM) == 0
    said = [json.loads(line) for line in watch.err]
    assert {"event", "level", "text", "timestamp"} <= set(said[0])
    refused = [item["text"] for item in said if item["event"] == "refused"]
    assert len(refused) == 1
    assert "leads outside" in refused[0]
    assert rows_of(copy.lake) == (80, 80)


def test_files_of_a_tool_whose_circuit_is_open_stay_and_are_taken_later(copy: Any, loadlock_process: RUN) -> None:
    config = copy.folder / "strict.toml"
    # one table a tool, so that the tool is known without reading
    text = (
        copy.config.read_text().replace('match = "drop/*.csv"', 'match = "drop/{tool}/*.csv"').replace('tool = { column = "TOOL" }\n', "")
    )
    config.write_text(text + "[circuit]\nminimum_frames = 10\n")
    copy.first.unlink()
    good = [row.replace("P1,", ",", 1) for row in copy.rows([1])]

    def deliver(tool: str, name: str, rows: list[str]) -> Path:
        (copy.drop / tool).mkdir(exist_ok=True)
        return copy.file(f"{tool}/{name}", rows)

    rubbish = deliver("P8", "1.csv", [row.replace(f",{row.split(',')[2]},", ",soon,") for row in good])
    with watching(copy, "--config", config) as watch:
        assert watch.batch()["payloads"]["deferred"] == 1
        deliver("P8", "2.csv", good)
        deliver("P9", "1.csv", good)
        assert [item["source"][-8:-4] for item in watch.batch()["receipts"]] == ["P9/1"]
        watch.said("the circuit of P8 is open")
        rubbish.unlink()
        assert loadlock_process("circuits", "reset", "P8", "--reason", "clock set", "--lake", copy.lake).code == 0
        assert [item["source"][-8:-4] for item in watch.batch()["receipts"]] == ["P8/2"]
        assert watch.end(signal.SIGTERM) == 0
    assert rows_of(copy.lake) == (160, 160)


def test_a_file_that_can_not_be_read_holds_nothing_up(copy: Any) -> None:
    if os.geteuid() == 0:
        closed = copy.drop / "0.csv"  # root reads everything; a link in a circle nobody does
        closed.symlink_to(closed.name)
    else:
        closed = copy.wafers("0.csv", [7])
        closed.chmod(0)
    copy.wafers("2.csv", [5])
    with watching(copy) as watch:
        payloads = watch.batch()["payloads"]
        assert (payloads["seen"], payloads["committed"], payloads["replayed"]) == (2, 1, 1)
        assert watch.end(signal.SIGTERM) == 0
    assert rows_of(copy.lake) == (120, 120)


def test_people_get_one_line_a_batch(copy: Any) -> None:
    copy.file("2.csv", [*copy.rows([4]), "P1,A,soon,W9,ramp,1,1"])
    with Running("watch", copy.drop, "--lake", copy.lake, "--settle", SETTLE_S) as watch:
        line = watch.line()
        assert watch.end(signal.SIGTERM) == 0
    assert watch.out == [line]
    assert "1 committed, 1 replayed; 20 records, 40 samples; 1 quarantined" in line


def test_it_watches_no_folder_that_is_not_there_or_holds_the_lake(copy: Any, loadlock_command: RUN) -> None:
    for folder, words in ((copy.folder / "nowhere", "no such folder"), (copy.folder, "holds the lake")):
        answer = loadlock_command("watch", folder, "--lake", copy.lake)
        assert answer.code == 2
        assert words in answer.err
    answer = loadlock_command("watch", copy.drop, "--lake", copy.lake, "--settle", "-1")
    assert answer.code == 2
