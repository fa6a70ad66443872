"""The commands over circuits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Run = Callable[..., Any]


def test_an_open_circuit_is_listed_and_closed_by_hand(copy: Any, loadlock_command: Run, assert_conserved: Run) -> None:
    config = copy.folder / "strict.toml"
    config.write_text(copy.config.read_text() + "[circuit]\nminimum_frames = 10\n")
    rubbish = [row.replace(f",{1000 + i}", ",soon") for i, row in enumerate(copy.rows([0], tool="P2"))]
    copy.file("2.csv", rubbish)
    answer = loadlock_command("ingest", copy.drop, "--config", config, "--lake", copy.lake, "--json")
    assert answer.code == 3
    assert assert_conserved(answer.json)["payloads"]["deferred"] == 1
    listed = loadlock_command("circuits", "list", "--lake", copy.lake, "--json").json["circuits"]
    assert [(item["tool"], item["state"], item["failures"]) for item in listed] == [("P1", "closed", 0), ("P2", "open", 1)]
    assert "could not be understood" in listed[1]["reason"]
    assert listed[1]["retry_at"] > listed[1]["opened_at"]
    assert "P2" in loadlock_command("circuits", "list", "--lake", copy.lake).out
    copy.wafers("2.csv", [1], tool="P2")
    assert loadlock_command("ingest", copy.drop, "--lake", copy.lake, "--json").code == 3
    closed = loadlock_command("circuits", "reset", "P2", "--reason", "clock set", "--lake", copy.lake, "--json")
    assert (closed.code, closed.json["reset"][0]["was"]) == (0, "open")
    assert "closed already" in loadlock_command("circuits", "reset", "P2", "--reason", "clock set", "--lake", copy.lake).out
    assert loadlock_command("ingest", copy.drop, "--lake", copy.lake, "--json").json["payloads"]["committed"] == 1
    log = loadlock_command("audit", "log", "--lake", copy.lake, "--json").json
    entry = next(item for item in log["ledger"] if item["action"] == "circuit_reset")
    assert entry["actor"] == "tests"


def test_reset_wants_a_reason_and_a_circuit_that_there_is(copy: Any, loadlock_command: Run) -> None:
    assert loadlock_command("circuits", "reset", "P1", "--lake", copy.lake).code == 2
    answer = loadlock_command("circuits", "reset", "P7", "--reason", "?", "--lake", copy.lake)
    assert answer.code == 2
    assert "P7" in answer.err


def test_standard_input_that_must_wait_is_answered_with_5(copy: Any, loadlock_process: Run) -> None:
    config = copy.folder / "strict.toml"
    config.write_text(copy.config.read_text() + "[circuit]\nminimum_frames = 10\n")
    rubbish = "\n".join(["TOOL,CHAMBER,TIME,WAFER,STEP,PRESSURE,FLOW", *["P2,A,soon,W1,ramp,1,2"] * 20])
    answer = loadlock_process(
        *("ingest", "-", "--format", "table", "--config", config, "--lake", copy.lake, "--json"), stdin=rubbish.encode()
    )
    assert answer.code == 5
    assert answer.json["payloads"]["deferred"] == 1
    assert "deliver them again" in answer.err
