"""The command line keeps its word: exit codes, one JSON object, plain text off a terminal, and errors that name the remedy."""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import loadlock
from loadlock.cli import _parser

Run = Callable[..., Any]

INGEST_SHAPE: dict[str, Any] = {
    "schema": int,
    "batches": list,
    "payloads": ["seen", "committed", "replayed", "refused", "deferred", "skipped"],
    "bytes": ["in", "accepted", "duplicate", "conflict", "quarantined", "other"],
    "records": ["decoded", "accepted", "duplicate", "conflict"],
    "frames": ["quarantined", "other"],
    "samples": int,
    "events": int,
    "windows": int,
    "features": int,
    "gaps": int,
    "seconds": float,
    "receipts": list,
}
RECEIPT = {"payload_id", "key", "sha256", "source", "state", "ledger_seq"}
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


# --- what each command answers


def test_ingest_prints_one_object_of_the_documented_shape(copy: Any, loadlock_command: Run, assert_conserved: Run) -> None:
    copy.file("2.csv", [*copy.rows([4]), "P1,A,soon,W9,ramp,1,1"])
    answer = loadlock_command("ingest", copy.drop, "--lake", copy.lake, "--json")
    assert answer.code == 3
    document = assert_conserved(one_object(answer.out))
    for name, kind in INGEST_SHAPE.items():
        if isinstance(kind, list):
            assert set(document[name]) == set(kind)
            assert all(isinstance(value, int) for value in document[name].values())
        else:
            assert isinstance(document[name], kind), name
    assert document["payloads"] == {"seen": 2, "committed": 1, "replayed": 1, "refused": 0, "deferred": 0, "skipped": 0}
    assert all(set(receipt) >= RECEIPT for receipt in document["receipts"])
    assert document["frames"]["quarantined"] == 1


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (["status"], {"rows", "tools", "quarantine", "sizes", "payloads", "last_entry"}),
        (["audit", "log"], {"ledger"}),
        (["audit", "verify"], {"ok", "entries", "payloads", "files", "faults"}),
        (["audit", "digest"], {"traces", "events", "windows", "features", "gaps"}),
        (["quarantine", "list"], {"quarantine"}),
        (["circuits", "list"], {"circuits"}),
        (["config", "show"], {"digest", "config"}),
        (["doctor"], {"checks", "next"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_json_is_one_object_and_text_is_plain(site: Any, loadlock_command: Run, arguments: list[str], keys: set[str]) -> None:
    answer = loadlock_command(*arguments, "--lake", site.lake, "--json")
    assert (answer.code, answer.err) == (0, "")
    assert set(one_object(answer.out)) >= keys
    text = loadlock_command(*arguments, "--lake", site.lake)
    assert text.code == 0
    assert text.out.strip()
    assert ANSI not in text.out


def test_the_lists_name_what_the_lake_holds(site: Any, loadlock_command: Run) -> None:
    status = one_object(loadlock_command("status", "--lake", site.lake, "--json").out)
    assert [(tool["tool"], tool["conflicts"], tool["quarantined"]) for tool in status["tools"]] == [("P1", 1, 1)]
    assert status["rows"]["traces"] == 2 * 60
    assert status["rows"]["gaps"] >= 1
    spans = one_object(loadlock_command("quarantine", "list", "--lake", site.lake, "--json").out)["quarantine"]
    assert [span["state"] for span in spans] == ["open"]
    shown = one_object(loadlock_command("quarantine", "show", spans[0]["quarantine_id"], "--lake", site.lake, "--json").out)
    assert bytes.fromhex(shown["bytes"]) == b"P1,A,soon,W9,ramp,1,1\n"
    assert shown["stop"] - shown["start"] == len(bytes.fromhex(shown["bytes"]))
    log = one_object(loadlock_command("audit", "log", "--lake", site.lake, "--json").out)["ledger"]
    assert [entry["action"] for entry in log] == ["init", "configure", "ingest"]
    assert [entry["prev_hash"] for entry in log[1:]] == [entry["hash"] for entry in log[:-1]]


def test_the_lake_may_come_from_the_environment(site: Any, loadlock_command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOADLOCK_LAKE", str(site.lake))
    assert loadlock_command("status").code == 0


# --- sql

QUERY = (
    "select 0.1::double + 0.2 as third, 'nan'::double as nan, '-inf'::double as low, '\\xAB\\x00'::blob as blob, "
    "170141183460469231731687303715884105727::hugeint as huge, timestamp '2026-03-01 00:00:01.5' as ts, null as nothing, 'ü\"' as text"
)


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_json_of_a_query_keeps_every_digit(site: Any, loadlock_command: Run, form: str) -> None:
    answer = loadlock_command("sql", QUERY, "--format", form, "--lake", site.lake)
    assert answer.code == 0
    found = json.loads(answer.out)
    row = found[0] if form == "json" else found
    assert row["third"] == 0.1 + 0.2
    assert row["nan"] is None
    assert row["low"] is None
    assert row["blob"] == "ab00"
    assert row["huge"] == 2**127 - 1
    assert row["ts"].startswith("2026-03-01 00:00:01.5")
    assert row["nothing"] is None
    assert row["text"] == 'ü"'


def test_values_come_back_bit_for_bit(site: Any, loadlock_command: Run) -> None:
    answer = loadlock_command("sql", "select distinct value from traces where sensor = 'PRESSURE'", "--format", "json", "--lake", site.lake)
    sent = {float(row.split(",")[5]) for row in (*site.rows(range(2)), *site.rows([3]))}
    assert {row["value"] for row in json.loads(answer.out)} == sent


def test_an_empty_result_is_an_empty_list(site: Any, loadlock_command: Run) -> None:
    for flag in (["--format", "json"], ["--json"]):
        assert json.loads(loadlock_command("sql", "select * from traces where false", *flag, "--lake", site.lake).out) == []


def test_csv_parquet_and_arrow(site: Any, loadlock_command: Run, tmp_path: Path) -> None:
    import polars as pl

    query = "select ts, sensor, value from traces order by all"
    with loadlock.open(site.lake, read_only=True) as lake:
        wanted = lake.sql(query).pl()
    text = loadlock_command("sql", query, "--format", "csv", "--lake", site.lake).out
    (tmp_path / "rows.csv").write_text(text, encoding="utf-8")
    assert pl.read_csv(tmp_path / "rows.csv")["value"].to_list() == wanted["value"].to_list()
    for form, read in (("parquet", pl.read_parquet), ("arrow", pl.read_ipc)):
        path = tmp_path / f"rows.{form}"
        assert loadlock_command("sql", query, "--format", form, "--output", path, "--lake", site.lake).code == 0
        assert read(path).equals(wanted)
        refused = loadlock_command("sql", query, "--format", form, "--lake", site.lake)
        assert refused.code == 2
        says(refused.err, "--output")


def test_sql_changes_nothing(site: Any, loadlock_command: Run) -> None:
    answer = loadlock_command("sql", "delete from lake.main.traces", "--lake", site.lake)
    assert answer.code == 2
    says(answer.err, "read-only")


def test_a_query_as_of_an_older_snapshot(copy: Any, loadlock_command: Run) -> None:
    with loadlock.open(copy.lake, read_only=True) as lake:
        before = lake.sql("select max(snapshot_id) from __ducklake_metadata_lake.ducklake_snapshot").fetchall()[0][0]
    loadlock_command("ingest", copy.wafers("2.csv", [5]), "--lake", copy.lake)
    counts = [
        json.loads(loadlock_command("sql", "select count(*) as n from traces", "--json", "--lake", copy.lake, *more).out)[0]["n"]
        for more in ([], ["--as-of", before])
    ]
    assert counts == [120, 80]


# --- what is read


def test_standard_input(copy: Any, loadlock_process: Run, assert_conserved: Run) -> None:
    data = copy.wafers("2.csv", [6]).read_bytes()
    first = loadlock_process("ingest", "-", "--format", "table", "--lake", copy.lake, "--json", stdin=data)
    assert first.code == 0, first.err
    assert assert_conserved(first.json)["records"]["accepted"] == 20
    again = loadlock_process("ingest", "-", "--format", "table", "--lake", copy.lake, "--json", stdin=gzip.compress(data))
    assert again.code == 0, again.err
    assert assert_conserved(again.json)["records"]["duplicate"] == 20


def files_of(lake: Path) -> dict[str, int]:
    """The data files of a lake and their sizes, temporary ones too."""
    return {path.relative_to(lake).as_posix(): path.stat().st_size for path in (lake / "data").rglob("*") if path.is_file()}


def test_a_dry_run_writes_nothing(copy: Any, loadlock_command: Run, assert_conserved: Run) -> None:
    copy.wafers("2.csv", [6, 7])
    before = files_of(copy.lake), (copy.lake / "catalog.sqlite").read_bytes()
    answer = loadlock_command("ingest", copy.drop, "--dry-run", "--lake", copy.lake, "--json")
    assert answer.code == 0
    document = assert_conserved(answer.json)
    assert document["records"]["accepted"] == 40
    assert document["batches"] == []
    assert [receipt["ledger_seq"] for receipt in document["receipts"] if receipt["state"] == "committed"] == [None]
    assert (files_of(copy.lake), (copy.lake / "catalog.sqlite").read_bytes()) == before
    assert loadlock_command("ingest", copy.drop, "--lake", copy.lake, "--json").json["records"]["accepted"] == 40


def test_a_dry_run_makes_no_lake(tmp_path: Path, polisher: Any, loadlock_command: Run) -> None:
    site = polisher(tmp_path)
    loadlock_command("ingest", site.wafers("1.csv", [1]), "--config", site.config, "--dry-run", "--lake", tmp_path / "new.lake")
    assert not (tmp_path / "new.lake").exists()


# --- text for people


@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1"}, {"FORCE_COLOR": "1", "NO_COLOR": "1"}], ids=str)
def test_no_escape_codes_off_a_terminal(copy: Any, loadlock_process: Run, environment: dict[str, str]) -> None:
    copy.file("2.csv", [*copy.rows([4]), "P1,A,soon,W9,ramp,1,1"])
    answer = loadlock_process("ingest", copy.drop, "--lake", copy.lake, env=environment)
    assert answer.code == 3
    assert "balance" in answer.out
    assert f"loadlock quarantine list --lake {copy.lake}" in answer.out
    assert ANSI not in answer.out + answer.err


def test_errors_of_a_process_are_one_line_on_stderr(tmp_path: Path, loadlock_process: Run) -> None:
    answer = loadlock_process("status", "--lake", tmp_path / "none.lake")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.count("\n") == 1
    says(answer.err, "loadlock init")


def test_a_closed_pipe_is_no_fault(site: Any) -> None:
    import subprocess
    import sys

    query = "select * from traces, range(2000)"
    command = [sys.executable, "-m", "loadlock.cli", "sql", query, "--format", "csv", "--lake", str(site.lake)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.read(100)
        child.stdout.close()
        error = child.stderr.read().decode()
    assert "Traceback" not in error
    assert "Exception ignored" not in error


# --- configuration


def test_config_check_names_file_line_key_and_a_suggestion(tmp_path: Path, polisher: Any, loadlock_command: Run) -> None:
    site = polisher(tmp_path)
    assert loadlock_command("config", "check", site.config).code == 0
    good = site.config.read_text().splitlines()
    for old, new, words in (
        ("period = 1.0", "perriod = 1.0", ["tables.polish.perriod", "did you mean 'period'"]),
        ("period = 1.0", "period = -1", ["tables.polish.period", "greater than 0"]),
        ('match = "drop/*.csv"', 'mach = "drop/*.csv"', ["sources.0.mach", "did you mean 'match'"]),
        ('chamber = "CHAMBER"', "chamber = 7", ["tables.polish.chamber"]),
    ):
        at = good.index(old)
        site.config.write_text("\n".join([*good[:at], new, *good[at + 1 :]]))
        answer = loadlock_command("config", "check", site.config)
        assert (answer.code, answer.out) == (2, "")
        says(answer.err, f"{site.config}:{at + 1}: ", *words)
        assert loadlock_command("ingest", site.drop, "--config", site.config, "--lake", tmp_path / "l").code == 2
    site.config.write_text("[tables.cmp\n")
    broken = loadlock_command("config", "check", site.config)
    assert broken.code == 2
    says(broken.err, str(site.config), "line 1")


def test_a_missing_reference_is_named(tmp_path: Path, loadlock_command: Run) -> None:
    file = tmp_path / "loadlock.toml"
    for text, words in (
        ('[tools.A]\nmodel = "etcher"\n', ["tools.A", "models.etcher"]),
        ('[[sources]]\nmatch = "*.csv"\nformat = "table"\ntable = "cmp"\n', ["tables.cmp", "*.csv"]),
        ('[[sources]]\nmatch = "{tol}/*.csv"\nformat = "hsms"\n', ["{tol}", "{tool}"]),
        ('[models.a]\ntimezone = "Mars/Olympus"\n', ["Mars/Olympus", "Europe/Berlin"]),
    ):
        file.write_text(text)
        answer = loadlock_command("config", "check", file)
        assert answer.code == 2
        says(answer.err, str(file), *words)


def test_config_schema_is_a_json_schema(loadlock_command: Run) -> None:
    from jsonschema import Draft202012Validator

    answer = loadlock_command("config", "schema")
    schema = json.loads(answer.out)
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    assert validator.is_valid({"tables": {"cmp": {"time": {"column": "T", "unit": "s"}}}})
    assert not validator.is_valid({"tables": {"cmp": {"time": {"column": "T"}, "colour": 1}}})
    assert set(schema["properties"]) >= {"sources", "models", "tools", "tables", "circuit", "lake"}


# --- help


def _commands(parser: argparse.ArgumentParser, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        yield path
    for group in groups:
        for name, sub in group.choices.items():
            yield from _commands(sub, (*path, name))


def test_every_command_that_is_offered_exists() -> None:
    from loadlock.commands import COMMANDS

    assert {" ".join(path) for path in _commands(_parser())} == set(COMMANDS)


def test_help_names_the_exit_codes(loadlock_command: Run) -> None:
    text = loadlock_command("--help").out
    assert "exit codes" in text
    for code in (0, 1, 2, 3, 4, 5, 6, 130):
        assert f" {code} " in text.replace("\n", " ")


def test_an_unknown_command_is_usage(loadlock_command: Run) -> None:
    answer = loadlock_command("ingset")
    assert answer.code == 2
    says(answer.err, "ingset", "ingest")


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["ingst", "drop"], "did you mean 'ingest'?"),
        (["audit", "verfy"], "did you mean 'verify'?"),
        (["sql", "select 1", "--format", "cvs"], "did you mean 'csv'?"),
        (["zzzz"], "there are init, ingest"),
    ],
)
def test_a_misspelt_command_is_told_what_was_meant(loadlock_command: Any, words: list[str], wanted: str) -> None:
    answer = loadlock_command(*words)
    assert (answer.code, answer.out) == (2, "")
    assert wanted in answer.err
