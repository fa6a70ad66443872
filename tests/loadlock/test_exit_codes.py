"""Every exit code means what the contract says, and its message says what to do."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import loadlock

Run = Callable[..., Any]

ANSI = "\x1b"


def one_object(text: str) -> dict[str, Any]:
    """The single JSON object that ``text`` is, with the schema's number."""
    document = json.loads(text)
    assert isinstance(document, dict)
    assert document["schema"] == 1
    return document


def says(error: str, *wanted: str) -> None:
    """Assert that an error is for people, and that it names ``wanted``."""
    assert error.strip()
    assert "Traceback" not in error
    assert ANSI not in error
    for word in wanted:
        assert word in error, f"{word!r} is not in {error!r}"


def test_2_usage(site: Any, tmp_path: Path, loadlock_command: Run) -> None:
    for arguments, words in (
        (["status"], ["--lake"]),
        (["status", "--lake", tmp_path / "none.lake"], ["loadlock init"]),
        (["ingest", tmp_path / "none.csv", "--lake", site.lake], ["none.csv", "no such file"]),
        (["ingest", "-", site.drop, "--lake", site.lake], ["standard input"]),
        (["ingest", site.drop, "--key", "k", "--lake", site.lake], ["--key", "one"]),
        (["sql", "select nothing from nowhere", "--lake", site.lake], ["nowhere"]),
        (["sql", "selec", "--lake", site.lake], ["selec"]),
        (["quarantine", "show", "nope", "--lake", site.lake], ["nope", "quarantine list"]),
        (["quarantine", "replay", "nope", "--lake", site.lake], ["nope", "quarantine list"]),
        (["ingest", site.drop, "--config", tmp_path / "none.toml", "--lake", site.lake], ["none.toml", "--config"]),
        (["ingest", site.drop, "--format", "stdf", "--lake", site.lake], ["stdf", "hsms"]),
    ):
        answer = loadlock_command(*arguments)
        assert answer.code == 2, arguments
        assert answer.out == "", arguments
        says(answer.err, *words)


def test_2_a_folder_that_is_no_lake_is_left_alone(tmp_path: Path, polisher: Any, loadlock_command: Run) -> None:
    site = polisher(tmp_path)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("mine")
    answer = loadlock_command("ingest", site.wafers("1.csv", [1]), "--config", site.config, "--lake", tmp_path / "home")
    assert answer.code == 2
    says(answer.err, "thesis.txt", "--lake")
    assert (tmp_path / "home" / "thesis.txt").read_text() == "mine"


def test_2_only_when_the_skipped_file_was_named(copy: Any, loadlock_command: Run, assert_conserved: Run) -> None:
    notes = copy.drop / "notes.txt"
    notes.write_text("nothing to ingest\n")
    walked = loadlock_command("ingest", copy.drop, "--lake", copy.lake, "--json")
    assert walked.code == 0
    assert assert_conserved(walked.json)["payloads"]["skipped"] == 1
    says(walked.err, "notes.txt", "--tool")
    named = loadlock_command("ingest", notes, "--lake", copy.lake, "--json")
    assert named.code == 2
    says(named.err, "notes.txt", "--tool")


def test_3_conflicts_and_quarantine(copy: Any, loadlock_command: Run, assert_conserved: Run) -> None:
    answer = loadlock_command("ingest", copy.wafers("2.csv", [0], offset=1.0), "--lake", copy.lake, "--json")
    assert answer.code == 3
    assert assert_conserved(answer.json)["records"] == {"decoded": 20, "accepted": 0, "duplicate": 0, "conflict": 20}
    again = loadlock_command("ingest", copy.wafers("2.csv", [0], offset=1.0), "--lake", copy.lake, "--json")
    assert (again.code, again.json["payloads"]["replayed"]) == (0, 1)


def test_3_a_missing_column_defers_its_file_and_no_other(copy: Any, loadlock_command: Run, assert_conserved: Run) -> None:
    lines = copy.wafers("2.csv", [6]).read_text()
    copy.drop.joinpath("2.csv").write_text(lines.replace("FLOW", "FLUX"))
    copy.wafers("3.csv", [7])
    answer = loadlock_command("ingest", copy.drop, "--lake", copy.lake, "--json")
    assert answer.code == 3
    document = assert_conserved(answer.json)
    assert {Path(r["source"]).name: r["state"] for r in document["receipts"]} == {
        "1.csv": "replayed",
        "2.csv": "deferred",
        "3.csv": "committed",
    }
    reason = next(r["reason"] for r in document["receipts"] if r["state"] == "deferred")
    assert "mapping" in reason
    assert "FLOW" in reason
    copy.drop.joinpath("2.csv").write_text(lines)
    assert loadlock_command("ingest", copy.drop, "--lake", copy.lake, "--json").json["payloads"]["committed"] == 1


def test_4_a_key_is_never_used_for_other_bytes(copy: Any, loadlock_command: Run, assert_conserved: Run) -> None:
    first = loadlock_command("ingest", copy.wafers("2.csv", [6]), "--key", "lot 6", "--lake", copy.lake, "--json")
    assert (first.code, first.json["receipts"][0]["key"]) == (0, "lot 6")
    replayed = loadlock_command("ingest", copy.drop / "2.csv", "--key", "lot 6", "--lake", copy.lake, "--json")
    assert (replayed.code, replayed.json["receipts"][0]["payload_id"]) == (0, first.json["receipts"][0]["payload_id"])
    refused = loadlock_command("ingest", copy.wafers("2.csv", [7]), "--key", "lot 6", "--lake", copy.lake, "--json")
    assert refused.code == 4
    document = assert_conserved(one_object(refused.out))
    assert document["payloads"]["refused"] == 1
    assert document["records"]["decoded"] == 0
    with loadlock.open(copy.lake, read_only=True) as lake:
        assert lake.sql("select distinct wafer from samples order by 1").fetchall() == [("W0",), ("W1",), ("W6",)]
        assert lake.verify().faults == []
    text = loadlock_command("ingest", copy.drop / "2.csv", "--key", "lot 6", "--lake", copy.lake)
    assert text.code == 4
    assert "key" in text.out + text.err


def test_4_a_refused_payload_leaves_its_group_and_the_others_go_on(copy: Any, loadlock_command: Run, assert_conserved: Run) -> None:
    from ingest import pipeline
    from ingest.config import load
    from ingest.sources import deliveries

    with loadlock.open(copy.lake) as lake:
        found = [*deliveries([copy.wafers("2.csv", [6]), copy.wafers("3.csv", [7]), copy.wafers("4.csv", [8])], load(copy.config))]
        found[0].key, found[1].key = "one", "one"
        summary = pipeline.ingest(lake.store, found, lake._settings(None))
        document = assert_conserved(summary, lake)
        assert [receipt["state"] for receipt in document["receipts"]] == ["committed", "refused", "committed"]
        assert summary.exit_code == 4
        assert lake.sql("select distinct wafer from samples order by 1").fetchall() == [("W0",), ("W1",), ("W6",), ("W8",)]


def test_5_busy_leaves_nothing_behind(copy: Any, loadlock_command: Run, assert_conserved: Run) -> None:
    before = files_of(copy.lake)
    with open(copy.lake / "lock") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        answer = loadlock_command("ingest", copy.wafers("2.csv", [6]), "--wait", "0.1", "--lake", copy.lake, "--json")
    assert answer.code == 5
    document = assert_conserved(one_object(answer.out))
    assert document["batches"] == []
    assert "--wait" in answer.err + str(document["receipts"][0]["reason"])
    assert files_of(copy.lake) == before
    assert loadlock_command("ingest", copy.drop / "2.csv", "--lake", copy.lake, "--json").json["payloads"]["committed"] == 1


def test_5_says_what_to_do(copy: Any, loadlock_command: Run) -> None:
    with open(copy.lake / "lock") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        answer = loadlock_command("ingest", copy.wafers("2.csv", [6]), "--wait", "0.1", "--lake", copy.lake)
        other = loadlock_command("ingest", copy.first, "--config", other_config(copy), "--wait", "0.1", "--lake", copy.lake)
    assert answer.code == other.code == 5
    assert "--wait" in answer.out + answer.err
    says(other.err, "--wait")


def other_config(site: Any) -> Path:
    """A configuration that the lake does not know: to keep it takes the lock."""
    path: Path = site.folder / "other.toml"
    path.write_text(site.config.read_text() + "compression_level = 3\n")
    return path


def files_of(lake: Path) -> dict[str, int]:
    """The data files of a lake and their sizes, temporary ones too."""
    return {path.relative_to(lake).as_posix(): path.stat().st_size for path in (lake / "data").rglob("*") if path.is_file()}


def test_6_a_flipped_byte_a_missing_file_and_a_cut_one(copy: Any, loadlock_command: Run) -> None:
    path = next((copy.lake / "data").rglob("*.parquet"))
    whole = path.read_bytes()
    name = path.relative_to(copy.lake).as_posix()
    damaged = bytearray(whole)
    damaged[len(whole) // 3] ^= 0x10
    for content in (bytes(damaged), whole[:-1], whole + b"\0", b"", None):
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        answer = loadlock_command("audit", "verify", "--lake", copy.lake, "--json")
        assert answer.code == 6
        document = one_object(answer.out)
        assert not document["ok"]
        assert any(name in fault for fault in document["faults"])
        text = loadlock_command("audit", "verify", "--lake", copy.lake)
        assert text.code == 6
        assert name in text.out
    path.write_bytes(whole)
    assert loadlock_command("audit", "verify", "--lake", copy.lake).code == 0


def test_6_an_unreadable_marker(copy: Any, loadlock_command: Run) -> None:
    (copy.lake / "lake.json").write_text("{")
    answer = loadlock_command("status", "--lake", copy.lake)
    assert answer.code == 6
    says(answer.err, "lake.json")


def test_2_a_newer_lake(copy: Any, loadlock_command: Run) -> None:
    marker = json.loads((copy.lake / "lake.json").read_text())
    (copy.lake / "lake.json").write_text(json.dumps(marker | {"format_version": 99}))
    answer = loadlock_command("status", "--lake", copy.lake)
    assert answer.code == 2
    says(answer.err, "99", "newer")
