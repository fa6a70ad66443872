"""A real CMP tool, 30 files: every row accounted for, wafers that span files, any order of the files, a second ingest."""

from __future__ import annotations

import csv
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import loadlock

CONFIG = """\
[[sources]]
match = "cmp_phm2016/CMP-training-*.csv"
format = "table"
table = "cmp"

[tables.cmp]
tool = { column = "MACHINE_ID", prefix = "CMP" }
chamber = "CHAMBER"
time = { column = "TIMESTAMP", unit = "s", origin = "1970-01-01" }
key = ["CHAMBER", "WAFER_ID", "STAGE"]
context = { wafer = "WAFER_ID", step = "STAGE" }
sensors = "*"
missing = ["", "NaN"]
"""
NO_SENSOR = ("MACHINE_ID", "TIMESTAMP", "WAFER_ID", "STAGE", "CHAMBER")
RUN = Callable[..., Any]

Stream = tuple[str, str, str]
"""Chamber, wafer and stage."""

Floats = npt.NDArray[np.float64]


class Independent:
    """The 30 files as the csv module reads them: what is new, what is repeated, what differs, by plain dictionaries."""

    def __init__(self, files: list[Path]) -> None:
        self.rows = 0
        self.files_of: dict[Stream, set[str]] = defaultdict(set)
        contents: dict[tuple[Stream, int], Counter[tuple[float, ...]]] = defaultdict(Counter)
        for path in files:
            with open(path, encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file, delimiter="\t"):
                    self.rows += 1
                    stream = (row["CHAMBER"], row["WAFER_ID"], row["STAGE"])
                    time_us = Decimal(row["TIMESTAMP"]) * 1_000_000
                    assert time_us == int(time_us)
                    self.sensors = [name for name in row if name not in NO_SENSOR]
                    contents[stream, int(time_us)][tuple(float(row[name]) for name in self.sensors)] += 1
                    self.files_of[stream].add(path.name)
        self.accepted = len(contents)
        self.conflicts = sum(len(found) - 1 for found in contents.values())
        self.duplicates = sum(sum(found.values()) - len(found) for found in contents.values())
        self.disputed = {stream for (stream, _), found in contents.items() if len(found) > 1}
        rows: dict[Stream, list[tuple[int, tuple[float, ...]]]] = defaultdict(list)
        for (stream, time_us), found in contents.items():
            rows[stream].append((time_us, next(iter(found))))
        self.windows = {stream: sorted(found) for stream, found in rows.items()}


def statistics(times_us: npt.NDArray[np.int64], values: Floats) -> dict[str, Floats]:
    """Every statistic of a window by numpy; values are (n, sensors), in order of time."""
    seconds = (times_us - times_us[0]) / 1e6
    n = len(seconds)
    centred = seconds - seconds.mean()
    found = {
        "n": np.full(values.shape[1], float(n)),
        "missing": np.zeros(values.shape[1]),
        "first": values[0],
        "last": values[-1],
        "min": values.min(axis=0),
        "max": values.max(axis=0),
        "mean": values.mean(axis=0),
        "std": values.std(axis=0, ddof=1) if n > 1 else np.full(values.shape[1], np.nan),
        "median": np.median(values, axis=0),
        "p05": np.quantile(values, 0.05, axis=0),
        "p95": np.quantile(values, 0.95, axis=0),
        "area": np.trapezoid(values, seconds, axis=0),
    }
    found["slope"] = centred @ (values - values.mean(axis=0)) / (centred @ centred) if n > 1 else np.full(values.shape[1], np.nan)
    return found


@pytest.fixture(scope="module")
def files(real_data: Path) -> list[Path]:
    found = sorted((real_data / "cmp_phm2016").glob("CMP-training-0*.csv"))
    assert len(found) == 30
    return found


@pytest.fixture(scope="module")
def wanted(files: list[Path]) -> Independent:
    return Independent(files)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "cmp.toml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def ingested(files: list[Path], config: Path, tmp_path_factory: pytest.TempPathFactory, assert_conserved: RUN) -> Any:
    """A lake of all 30 files in their order, and the summary."""
    with loadlock.open(tmp_path_factory.mktemp("cmp") / "fab.lake") as lake:
        lake.summary = assert_conserved(lake.ingest(files, config=config), lake)
        yield lake


def test_every_row_is_accounted_for(ingested: Any, wanted: Independent) -> None:
    records = ingested.summary["records"]
    assert records["decoded"] == wanted.rows == 145_280
    assert records["duplicate"] == wanted.duplicates == 370
    assert (records["accepted"], records["conflict"]) == (wanted.accepted, wanted.conflicts)
    assert wanted.accepted + wanted.conflicts + wanted.duplicates == wanted.rows
    assert ingested.summary["samples"] == wanted.accepted * len(wanted.sensors)
    assert ingested.summary["frames"]["quarantined"] == 0
    assert ingested.sql("select count(*) from traces").fetchall() == [(wanted.accepted * len(wanted.sensors),)]
    disputed = ingested.sql("select count(*) from conflicts where position = 1").fetchall()
    assert disputed == [(wanted.conflicts,)]
    assert ingested.sql("select distinct tool from traces").fetchall() == [("CMP2",)]


def test_wafers_that_span_files_have_the_features_of_all_their_samples(ingested: Any, wanted: Independent) -> None:
    rows = ingested.sql(
        "select chamber, wafer, step, sensor, n, missing, first, last, min, max, mean, std, median, p05, p95, slope, area from features"
    ).pl()
    found = rows.partition_by("chamber", "wafer", "step", as_dict=True)
    assert set(found) == set(wanted.windows)
    names_of: dict[str, set[str]] = defaultdict(set)
    for (_, wafer, _), names in wanted.files_of.items():
        names_of[wafer] |= names
    spanning = {wafer for wafer, names in names_of.items() if len(names) > 1}
    compared = [stream for stream in wanted.windows if stream not in wanted.disputed]
    assert len(spanning) == 76
    assert len(spanning & {wafer for _, wafer, _ in compared}) == 76
    assert any(len(wanted.files_of[stream]) > 1 for stream in compared)
    assert len(compared) > len(wanted.windows) / 2
    for stream in compared:
        times = np.asarray([row[0] for row in wanted.windows[stream]], np.int64)
        values = np.asarray([row[1] for row in wanted.windows[stream]], np.float64)
        part = dict(zip(found[stream]["sensor"], found[stream].iter_rows(named=True), strict=True))
        assert set(part) == set(wanted.sensors)
        scale = np.abs(values).max(axis=0)
        span_s = max(1.0, float(times[-1] - times[0]) / 1e6)
        for name, expected in statistics(times, values).items():
            actual = np.asarray([np.nan if part[s][name] is None else part[s][name] for s in wanted.sensors], np.float64)
            # The slope of a constant is rounding noise on both sides; it is measured against the largest value over the window.
            allowed = 1e-9 * np.abs(expected) + (1e-11 * scale / span_s if name == "slope" else 1e-12 * scale)
            equal = (np.abs(actual - expected) <= allowed) | (np.isnan(actual) & np.isnan(expected))
            assert equal.all(), (stream, name, np.asarray(wanted.sensors)[~equal], actual[~equal], expected[~equal])


def test_windows_begin_and_end_with_their_samples(ingested: Any, wanted: Independent) -> None:
    rows = ingested.sql(
        "select chamber, wafer, step, epoch_us(started_at), epoch_us(ended_at), complete, occurrence from windows"
    ).fetchall()
    expected = {stream: (found[0][0], found[-1][0], True, 1) for stream, found in wanted.windows.items()}
    assert {row[:3]: row[3:] for row in rows} == expected
    assert len(rows) == len(expected)


@pytest.mark.parametrize(("seed", "sizes"), [(1, (1, 2, 5, 9, 13)), (2, (30,))], ids=["five groups", "one group"])
def test_the_order_of_the_files_does_not_matter(
    seed: int, sizes: tuple[int, ...], ingested: Any, files: list[Path], config: Path, tmp_path: Path, assert_conserved: RUN
) -> None:
    shuffled = random.Random(seed).sample(files, len(files))
    with loadlock.open(tmp_path / "fab.lake") as lake:
        at = 0
        records: Counter[str] = Counter()
        for size in sizes:
            records.update(assert_conserved(lake.ingest(shuffled[at : at + size], config=config))["records"])
            at += size
        assert at == len(files)
        assert lake.verify().faults == []
        assert dict(records) == ingested.summary["records"]
        assert lake.digest() == ingested.digest()


def test_a_second_ingest_commits_nothing(ingested: Any, files: list[Path], config: Path, assert_conserved: RUN) -> None:
    before = ingested.store.head(), ingested.digest()
    summary = ingested.ingest(files, config=config)
    document = assert_conserved(summary)
    assert document["payloads"]["replayed"] == document["payloads"]["seen"] == 30
    assert document["batches"] == []
    assert document["records"]["decoded"] == 0
    assert summary.exit_code == 0
    assert (ingested.store.head(), ingested.digest()) == before
    first = {receipt["key"]: receipt["payload_id"] for receipt in ingested.summary["receipts"]}
    assert {receipt["key"]: receipt["payload_id"] for receipt in document["receipts"]} == first


def test_windows_whose_rows_are_dealt_over_many_payloads(files: list[Path], config: Path, tmp_path: Path, assert_conserved: RUN) -> None:
    header, *rows = files[0].read_text(encoding="utf-8").splitlines(keepends=True)
    with loadlock.open(tmp_path / "whole.lake") as lake:
        whole = assert_conserved(lake.ingest(files[0], config=config), lake)
        digest = lake.digest()
    folder = tmp_path / "cmp_phm2016"
    folder.mkdir()
    for i in range(5):
        (folder / f"CMP-training-0{i}.csv").write_text(header + "".join(rows[i::5]), encoding="utf-8")
    with loadlock.open(tmp_path / "dealt.lake") as lake:
        records: Counter[str] = Counter()
        for path in sorted(folder.iterdir(), reverse=True):
            records.update(assert_conserved(lake.ingest(path, config=config))["records"])
        assert lake.verify().faults == []
        assert dict(records) == whole["records"]
        assert lake.digest() == digest
