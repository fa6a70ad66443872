"""A real metal etcher: files without names, late rows, and the page that finds its faults, whose SQL is run as it stands there."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import loadlock

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "find-etch-faults.md"
CONFIG = PAGE.with_name("lam.toml")
LIMIT_SIGMAS = 5
FAULTY = 9

FALSE_ALARMS = {28: 1, 35: 2, 56: 16, 71: 1}
"""Normal wafer -> its statistics at 5 sigmas or more, each wafer left out of its own baseline: 4 of the 71 that have one.

Wafer 56 has three rows. Recorded as found; the page names the same wafers.
"""


@pytest.fixture(scope="module")
def folder(real_data: Path) -> Path:
    return real_data / "lam9600_etch"


@pytest.fixture(scope="module")
def etcher(folder: Path, tmp_path_factory: pytest.TempPathFactory, assert_conserved: Callable[..., Any]) -> Any:
    with loadlock.open(tmp_path_factory.mktemp("lam") / "etch.lake") as lake:
        summary = lake.ingest(folder, config=CONFIG)
        lake.summary = assert_conserved(summary, lake)
        lake.code = summary.exit_code
        yield lake


@pytest.fixture(scope="module")
def queries() -> dict[str, str]:
    """The page's SQL blocks by the comment in their first line."""
    blocks = re.findall(r"```sql\n-- (.*?)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 3
    return dict(blocks)


@pytest.fixture(scope="module")
def distances(etcher: Any, queries: dict[str, str]) -> list[dict[str, Any]]:
    return list(etcher.sql(queries["distance of every wafer from normal, in standard deviations"]).pl().iter_rows(named=True))


def rows_of(path: Path) -> list[tuple[float, ...]]:
    with open(path, encoding="utf-8", newline="") as file:
        return [tuple(map(float, row)) for row in list(csv.reader(file))[1:]]


def test_every_row_is_accounted_for(etcher: Any, folder: Path) -> None:
    rows = sum(len(rows_of(path)) for path in folder.glob("*/wafer_*.csv"))
    assert etcher.summary["payloads"]["committed"] == 72 + FAULTY
    assert etcher.summary["records"] == {"decoded": rows, "accepted": rows - 2, "duplicate": 0, "conflict": 2}
    assert etcher.summary["samples"] == (rows - 2) * 19
    assert etcher.code == 3


def test_the_columns_have_the_names_of_the_mapping(etcher: Any) -> None:
    names = [row[0] for row in etcher.sql("select sensor from sensors order by position").fetchall()]
    assert len(names) == 19
    assert (names[0], names[6], names[18]) == ("bcl3_flow", "pressure", "vat_valve")


def test_two_windows_a_wafer(etcher: Any, queries: dict[str, str]) -> None:
    assert etcher.sql(queries["windows per wafer"]).fetchall() == [(1, 1), (2, 80)]
    single = "select lot, wafer from windows group by all having count(*) = 1"
    assert etcher.sql(single).fetchall() == [("normal", "56")]


def test_the_late_rows_that_repeat_a_time_are_conflicts(etcher: Any, folder: Path, queries: dict[str, str]) -> None:
    found = etcher.sql(queries["late rows that contradict an earlier one"]).fetchall()
    assert [(row[0], row[1], row[4]) for row in found] == [("normal", 11, 19), ("normal", 72, 19)]
    for wafer in (11, 72):
        *rows, late = rows_of(folder / "normal" / f"wafer_{wafer}.csv")
        assert late[0] in {row[0] for row in rows}
        stored = etcher.sql(
            f"select value from conflicts join windows using (window_id) where wafer = '{wafer}' order by position"
        ).fetchall()
        assert tuple(row[0] for row in stored) == late[2:]


def test_late_rows_are_sorted_into_their_place(etcher: Any, folder: Path) -> None:
    late = 0
    for path in sorted(folder.glob("*/wafer_*.csv")):
        lot, wafer = path.parent.name, path.stem.removeprefix("wafer_")
        if (lot, wafer) in {("normal", "11"), ("normal", "72")}:
            continue
        rows = rows_of(path)
        late += rows[-1][0] < rows[0][0] or rows != sorted(rows, key=lambda row: row[0])
        found = etcher.sql(
            "select step, sensor, n, first, last, mean, std, area from features f join sensors s using (sensor) "
            f"where lot = '{lot}' and wafer = '{wafer}' order by step, s.position"
        ).fetchall()
        expected = []
        for step in sorted({row[1] for row in rows}):
            part = np.asarray(sorted((row for row in rows if row[1] == step), key=lambda row: row[0]))
            for column in range(2, 21):
                values = part[:, column]
                std = float(values.std(ddof=1)) if len(values) > 1 else np.nan
                area = float(np.trapezoid(values, part[:, 0]))
                expected.append((float(len(values)), values[0], values[-1], float(values.mean()), std, area))
        actual = np.asarray([row[2:] for row in found], np.float64)
        np.testing.assert_allclose(actual, np.asarray(expected), rtol=1e-9, atol=1e-6)
    assert late >= 75


def test_all_faulty_wafers_are_far_from_normal_in_either_experiment(distances: list[dict[str, Any]]) -> None:
    faulty = [row for row in distances if row["lot"] == "faulty"]
    assert sorted((row["wafer"], row["experiment"]) for row in faulty) == [(w, e) for w in range(1, FAULTY + 1) for e in (1, 2)]
    assert all(row["furthest"] >= LIMIT_SIGMAS for row in faulty)
    page = PAGE.read_text(encoding="utf-8")
    for wafer in range(1, FAULTY + 1):
        first, second = ((row["furthest"], row["where_found"].removesuffix(".0")) for row in faulty if row["wafer"] == wafer)
        line = next(line for line in page.splitlines() if line.startswith(f"| {wafer} |"))
        assert line.endswith(f"| {first[0]:.1f} | {first[1]} | {second[0]:.1f} | {second[1]} |")


def test_false_alarms_on_normal_wafers_are_those_that_the_page_names(distances: list[dict[str, Any]]) -> None:
    normal = [row for row in distances if row["lot"] == "normal"]
    alarms = {row["wafer"]: row["outside"] for row in normal if row["outside"]}
    print(f"false alarms at {LIMIT_SIGMAS} sigmas, leave-one-out: {len(alarms)} of {len(normal)} normal wafers: {sorted(alarms)}")
    assert len(normal) == 71
    assert alarms == FALSE_ALARMS


def test_the_query_is_leave_one_out(etcher: Any, distances: list[dict[str, Any]]) -> None:
    """Compare the closed form with a baseline that really leaves the wafer out."""
    features = etcher.sql("select wafer::int as wafer, step, sensor, mean, std from features where lot = 'normal'").fetchall()
    found = {(row["wafer"]): row["furthest"] for row in distances if row["lot"] == "normal"}
    for wafer in (1, 28, 40, 56):
        members = range(1, 35) if wafer <= 34 else range(35, 72)
        furthest = 0.0
        for kind in (3, 4):
            groups: dict[tuple[str, str], dict[int, float]] = {}
            for row in features:
                if row[0] in members and row[kind] is not None:
                    groups.setdefault((row[1], row[2]), {})[row[0]] = row[kind]
            for group in groups.values():
                if wafer in group:
                    others = np.asarray([value for member, value in group.items() if member != wafer])
                    if others.std() > 0:
                        furthest = max(furthest, abs(group[wafer] - others.mean()) / others.std(ddof=1))
        assert found[wafer] == pytest.approx(furthest, rel=1e-6)
