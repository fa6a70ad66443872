"""``init --learn``: a first configuration from deliveries is valid, says what it does not know, and an ingest with it works."""

from __future__ import annotations

import json
import random
import struct
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import loadlock
from ingest.config import Limits, load, match_path, parse
from ingest.first_config import first_config
from ingest.survey import survey
from ingest.survey_captures import role_of
from ingest.survey_tables import look_at_table, read_sheet

Run = Callable[..., Any]
SAMPLE = Path(__file__).parents[2] / "sample_data" / "deliveries"


def learned(folder: Path) -> tuple[str, dict[str, Any]]:
    text = first_config(survey(folder, Limits()))
    parse(text)
    return text, tomllib.loads(text)


def seen(text: str) -> Any:
    sheet = read_sheet(text.encode(), True, "test", Limits())
    assert sheet is not None
    return look_at_table(sheet)


def table(header: str, *rows: str) -> str:
    return "\n".join([header, *rows]) + "\n"


# --- whole deliveries


def test_the_sample_is_learned_and_ingested(tmp_path: Path, loadlock_command: Run, assert_conserved: Run) -> None:
    file, lake = tmp_path / "fab.toml", tmp_path / "fab.lake"
    answer = loadlock_command("init", "--learn", SAMPLE, "--config", file, "--lake", lake)
    assert answer.code == 0
    assert "next: correct" in answer.out
    config = load(file)
    model = config.model("ETCH02")
    assert model is not None
    trace = model.traces["21"]
    assert (trace.period, trace.group) == (0.2, 5)
    assert [sensor.name for sensor in trace.sensors or ()][:3] == ["SourcePower", "BiasPower", "Pressure"]
    assert model.events["1001"].values[0] == "ts"
    table = config.tables["polisher"]
    assert (table.chamber, table.time.column) == ("CHAMBER", "TIMESTAMP")
    assert table.context == {"lot": "LOT_ID", "wafer": "WAFER_ID", "recipe": "RECIPE", "step": "STAGE"}
    with loadlock.open(lake) as opened:
        summary = opened.ingest(SAMPLE, config=file)
        assert_conserved(summary, opened)
        assert summary.payloads["committed"] == 13
        assert summary.records["accepted"] > 13_000
        assert summary.frames["quarantined"] == 5  # the damage that the sample holds, and nothing else
        assert opened.sql("select count(*) from windows where wafer is not null").fetchall() != [(0,)]


def test_a_real_polisher(real_data: Path, tmp_path: Path, loadlock_command: Run, assert_conserved: Run) -> None:
    file = tmp_path / "cmp.toml"
    answer = loadlock_command("init", "--learn", real_data / "cmp_phm2016", "--config", file, "--json")
    document = json.loads(answer.out)
    assert "lake" not in document  # none was named, and none is made
    left = {item["file"]: item["reason"] for item in document["left"]}
    assert "no column looks like a time" in left["CMP-training-removalrate.csv"]
    files = sorted((real_data / "cmp_phm2016").glob("*.csv"))
    with loadlock.open(tmp_path / "fab.lake") as lake:
        summary = lake.ingest(files, config=file)
        assert_conserved(summary, lake)
        assert summary.payloads["committed"] == 30
        assert summary.payloads["skipped"] == 1  # removal rates are no traces, and the pattern leaves them out
        assert summary.bytes["quarantined"] == 0
        assert lake.sql("select count(distinct wafer) > 100 from windows").fetchall() == [(True,)]


def test_a_real_etcher_without_names(real_data: Path, tmp_path: Path, assert_conserved: Run) -> None:
    text, document = learned(real_data / "lam9600_etch")
    assert document["sources"] == [{"match": "{lot}/wafer_{wafer}.csv", "format": "table", "table": "lam9600_etch"}]
    assert document["tables"]["lam9600_etch"]["time"] == {"column": "0", "unit": "s", "origin": "1970-01-01"}
    for question in ("# ? {lot}: a guess", "counts from a beginning", 'step = "1"', "what is it called?"):
        assert question in text
    with loadlock.open(tmp_path / "etch.lake") as lake:
        summary = lake.ingest(real_data / "lam9600_etch", config=parse(text))
        assert_conserved(summary, lake)
        assert summary.payloads["committed"] == 81
        assert summary.records["conflict"] == 2  # as with the configuration that people wrote
        assert lake.sql("select count(*) from windows").fetchall() == [(81,)]


@pytest.mark.parametrize("name", ["skab_valve", "tennessee_eastman", "wafer_olszewski", "stdf", "klarf", "secs_sml"])
def test_whatever_lies_there_is_told_or_left(real_data: Path, name: str) -> None:
    found = survey(real_data / name, Limits())
    parse(first_config(found))
    files = [path for path in (real_data / name).rglob("*") if path.is_file()]
    assert len(found.left) + sum(len(kind.files) for kind in found.kinds) == len(files)


# --- what the command refuses


def test_a_file_that_is_there_is_never_overwritten(tmp_path: Path, loadlock_command: Run) -> None:
    file = tmp_path / "fab.toml"
    file.write_text("# mine\n")
    answer = loadlock_command("init", "--learn", SAMPLE, "--config", file)
    assert answer.code == 2
    assert "not overwritten" in answer.err
    assert file.read_text() == "# mine\n"


def test_a_folder_with_nothing_to_learn(tmp_path: Path, loadlock_command: Run) -> None:
    (tmp_path / "notes.txt").write_text("hello\nworld\n")
    answer = loadlock_command("init", "--learn", tmp_path, "--config", tmp_path / "fab.toml")
    assert answer.code == 2
    assert "notes.txt" in answer.err
    assert not (tmp_path / "fab.toml").exists()
    assert loadlock_command("init", "--config", tmp_path / "fab.toml", "--lake", tmp_path / "l").code == 2
    assert loadlock_command("init", "--learn", tmp_path / "nowhere").code == 2


# --- columns


def test_names_that_mean_a_part_of_the_context() -> None:
    wanted = {"WaferId": "wafer", "LOT ID": "lot", "Recipe Step": "step", "PPID": "recipe", "chamber_no": "chamber", "PRESSURE": None}
    assert {name: role_of(name) for name in wanted} == wanted


@pytest.mark.parametrize(
    ("moment", "unit", "layout"),
    [
        ("2026-03-17T08:00:0{}", None, None),
        ("17.03.2026 08:00:0{}", None, "%d.%m.%Y %H:%M:%S"),
        ("03/17/2026 08:00:0{} PM", None, "%m/%d/%Y %I:%M:%S %p"),
        ("2026031708000{}", None, "%Y%m%d%H%M%S"),
        ("177373440{}", "s", None),
        ("177373440{}000", "ms", None),
        ("1{}.5", "s", None),
    ],
)
def test_ways_to_write_a_time(tmp_path: Path, moment: str, unit: str | None, layout: str | None, assert_conserved: Run) -> None:
    text = table("WHEN_TIME,FLOW", *(f"{moment.format(i)},{i}" for i in range(1, 9)))
    time = seen(text).time
    assert (time.unit, time.layout) == (unit, layout)
    (tmp_path / "t.csv").write_text(text)
    with loadlock.open(tmp_path / "fab.lake") as lake:
        summary = lake.ingest(tmp_path / "t.csv", config=parse(learned(tmp_path)[0]))
        assert_conserved(summary, lake)
        assert summary.records["accepted"] == 8


def test_a_number_that_looks_like_a_date_is_no_time() -> None:
    rows = [f"20260317{i:02},{1773734400 + i},{i}" for i in range(1, 9)]
    found = seen(table("WAFER_ID,TIMESTAMP,FLOW", *rows))
    assert (found.time.column, found.time.unit, found.context) == ("TIMESTAMP", "s", {"wafer": "WAFER_ID"})
    assert seen(table("WAFER_ID,MARK,FLOW", *rows)).time is None


def test_a_time_without_a_name_is_found_by_its_values_and_asked_for(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(table("WHEN,FLOW", *(f"2026-03-17 08:00:0{i},{i}" for i in range(1, 9))))
    assert "# ? taken for the time because of its values" in learned(tmp_path)[0]


@pytest.mark.parametrize("seed", range(8))
def test_damage_never_stops_it(tmp_path: Path, seed: int) -> None:
    """Any bytes give a valid configuration, or are left with a reason."""
    dice = random.Random(seed)
    for source in ("ETCH01/0001.hsms", "ETCH02/0001.hsms", "polisher/trace_20260317_a.csv"):
        data = bytearray((SAMPLE / source).read_bytes()[:40_000])
        for _ in range(dice.randrange(1, 200)):
            at = dice.randrange(len(data))
            data[at : at + dice.randrange(3)] = dice.randbytes(dice.randrange(3))
        file = tmp_path / source
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        file.with_suffix(".txt").write_bytes(dice.randbytes(dice.randrange(2000)))
    learned(tmp_path)


def test_a_day_that_may_be_a_month_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(table("TIME,FLOW", *(f"0{i}.02.2026 08:00,{i}" for i in range(1, 9))))
    assert "is the day first, or the month?" not in learned(tmp_path)[0]  # dots are written day first
    (tmp_path / "t.csv").write_text(table("TIME,FLOW", *(f"0{i}/02/2026 08:00,{i}" for i in range(1, 9))))
    assert "is the day first, or the month?" in learned(tmp_path)[0]


def test_decimal_commas_and_words_for_nothing() -> None:
    found = seen(table("TIME;FLOW;NOTE", *(f"2026-03-17 08:00:0{i};{'NA' if i == 3 else f'{i},5'};ok" for i in range(1, 9))))
    assert (found.decimal, found.missing, found.sensors, found.texts) == (",", ["NA"], ["FLOW"], ["NOTE"])


def test_a_counter_is_offered_as_a_sequence(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(table("SAMPLE,TIME,FLOW", *(f"{i},2026-03-17 08:00:0{i},{i * i}" for i in range(1, 9))))
    assert '# seq = "SAMPLE"' in learned(tmp_path)[0]


# --- files


def test_the_folder_of_a_tool_is_captured(tmp_path: Path) -> None:
    for tool in ("ETCH01", "ETCH02"):
        (tmp_path / "drop" / tool).mkdir(parents=True)
        (tmp_path / "drop" / tool / "trace_1.csv").write_text(table("TIME,FLOW", *(f"2026-03-17 08:00:0{i},{i}" for i in range(1, 9))))
    _, document = learned(tmp_path / "drop")
    assert [source["match"] for source in document["sources"]] == ["{tool}/trace_1.csv"]
    assert "tool" not in document["tables"]["drop"]


def test_captures_in_folders_of_different_depth(tmp_path: Path) -> None:
    for place in ("ETCH01/a.hsms", "ETCH01/2026/b.hsms"):
        file = tmp_path / "drop" / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(struct.pack(">IHBBBBI", 10, 0xFFFF, 0, 0, 0, 5, 1))
    config = parse(learned(tmp_path / "drop")[0])
    for place in ("ETCH01/a.hsms", "ETCH01/2026/b.hsms"):
        match = config.match(tmp_path / "drop" / place)
        assert match is not None
        assert match.captured == {"tool": "ETCH01"}


def test_odd_names_make_no_odd_patterns(tmp_path: Path) -> None:
    folder = tmp_path / 'a "quoted" {tool} [dir]\u007f'
    folder.mkdir()
    file = folder / "tr*ce\t1.csv"
    file.write_text(table('TIME,"FL""OW\u0001"', *(f"2026-03-17 08:00:0{i},{i}" for i in range(1, 9))))
    config = parse(learned(folder)[0])
    assert any(match_path(source.match, file) is not None for source in config.sources)
