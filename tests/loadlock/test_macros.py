"""The analysts' macros against numpy: on generated tables, and on a real etcher's. Every example of the page is run as it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import loadlock
from loadlock import Lake

PAGE = Path(__file__).resolve().parents[2] / "docs" / "macros.md"
CONFIG = """
[[sources]]
match = "{tool}/{lot}_{wafer}.csv"
format = "table"
table = "etch"
[tables.etch]
chamber = "CHAMBER"
time = { column = "T", unit = "s", origin = "2026-03-01" }
key = ["CHAMBER"]
context = { step = "STEP" }
"""
TOOL, SENSOR, STEP = "ETCH01", "power", "main"
WAFERS, ROWS = 24, 15


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """Two chambers, 24 wafers in two lots, two steps; chamber B runs 3 W higher, power rises slowly, wafer 20 is far off."""
    random = np.random.default_rng(5)
    drop = tmp_path_factory.mktemp("drop")
    (drop / TOOL).mkdir()
    for wafer in range(WAFERS):
        lines = ["T,CHAMBER,STEP,power,pressure"]
        for step in range(2):
            level = 300 + 0.1 * wafer + 3 * (wafer % 2) + 40 * (wafer == 20)
            power = level + random.normal(0, 0.5, ROWS)
            pressure = 12 + random.normal(0, 0.02, ROWS)
            start = 3600 * wafer + 30 * step
            lines += [
                f"{start + i},{'AB'[wafer % 2]},{('main', 'over')[step]},{power[i]!r},{pressure[i]!r}".replace("np.float64(", "").replace(
                    ")", ""
                )
                for i in range(ROWS)
            ]
        (drop / TOOL / f"L{wafer // 12}_W{wafer:02d}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (drop / "etch.toml").write_text(CONFIG, encoding="utf-8")
    with loadlock.open(tmp_path_factory.mktemp("macros") / "made.lake") as lake:
        assert lake.ingest(drop, config=drop / "etch.toml").exit_code == 0
        yield lake


@pytest.fixture(scope="module")
def real(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    with loadlock.open(tmp_path_factory.mktemp("macros") / "real.lake") as lake:
        lake.ingest(real_data / "lam9600_etch", config=PAGE.parent / "how-to" / "lam.toml")
        yield lake


@pytest.fixture(params=["made", "real"])
def case(request: pytest.FixtureRequest) -> tuple[Lake, str, str, str]:
    """(lake, tool, sensor, step)."""
    lake = request.getfixturevalue(request.param)
    return (lake, TOOL, SENSOR, STEP) if request.param == "made" else (lake, "LAM9600", "tcp_load", "4.0")


def _columns(lake: Lake, query: str, *parameters: Any) -> dict[str, np.ndarray]:
    return {name: np.asarray(column) for name, column in lake.sql(query, list(parameters)).fetchnumpy().items()}


def _series(lake: Lake, tool: str, sensor: str, step: str) -> np.ndarray:
    query = "SELECT mean FROM features WHERE tool = ? AND sensor = ? AND step = ? AND chamber = ? ORDER BY started_at, window_id"
    return _columns(lake, query, tool, sensor, step, _chamber(lake, tool))["mean"]


def _chamber(lake: Lake, tool: str) -> str:
    return str(lake.sql("SELECT min(chamber) FROM features WHERE tool = ?", [tool]).fetchall()[0][0])


def _mad(values: np.ndarray) -> float:
    return float(np.median(np.abs(values - np.median(values))))


@pytest.mark.parametrize("baseline", [8, 10_000])
def test_spc_limits_ewma_and_cusum_are_the_textbooks(case: tuple[Lake, str, str, str], baseline: int) -> None:
    lake, tool, sensor, step = case
    found = _columns(lake, "FROM spc(?, ?, step := ?, chamber := ?, baseline := ?)", tool, sensor, step, _chamber(lake, tool), baseline)
    x = _series(lake, tool, sensor, step)
    np.testing.assert_array_equal(found["value"], x)
    part = x[:baseline]
    center, sigma = part.mean(), np.abs(np.diff(part)).mean() / 1.1283791670955126  # d2 of two: 2 / sqrt(pi)
    np.testing.assert_allclose(found["center"], center, rtol=1e-12)
    np.testing.assert_allclose(found["ucl"], center + 3 * sigma, rtol=1e-12)
    np.testing.assert_allclose(found["lcl"], center - 3 * sigma, rtol=1e-12)
    ewma, high, low = center, 0.0, 0.0
    for i, value in enumerate(x):
        z = (value - center) / sigma
        ewma, high, low = 0.2 * value + 0.8 * ewma, max(0.0, high + z - 0.5), max(0.0, low - z - 0.5)
        half = 3 * sigma * np.sqrt(0.2 / 1.8 * (1 - 0.8 ** (2 * (i + 1))))
        assert found["ewma"][i] == pytest.approx(ewma, rel=1e-12)
        assert found["ewma_ucl"][i] == pytest.approx(center + half, rel=1e-12)
        assert found["ewma_lcl"][i] == pytest.approx(center - half, rel=1e-12)
        assert found["cusum_high"][i] == pytest.approx(high, rel=1e-9, abs=1e-9)
        assert found["cusum_low"][i] == pytest.approx(low, rel=1e-9, abs=1e-9)


def test_spc_rules_are_western_electrics(case: tuple[Lake, str, str, str]) -> None:
    lake, tool, sensor, step = case
    found = _columns(lake, "FROM spc(?, ?, step := ?, chamber := ?)", tool, sensor, step, _chamber(lake, tool))
    z = (found["value"] - found["center"]) / found["sigma"]

    def sides(i: int, last: int, limit: float) -> int:
        part = z[max(0, i - last + 1) : i + 1]
        return max(int((part > limit).sum()), int((part < -limit).sum()))

    for i in range(len(z)):
        expected = (abs(z[i]) > 3, sides(i, 3, 2) >= 2, sides(i, 5, 1) >= 4, sides(i, 8, 0) == 8)
        assert tuple(bool(found[f"rule_{rule}"][i]) for rule in (1, 2, 3, 4)) == expected


CALM = [0.5641895835477563, -0.5641895835477563] * 10
"""Twenty points of which the mean is 0 and the mean moving range that of sigma 1."""

BREACHES = {
    "one point beyond three sigmas": ([3.5], {1}),
    "two of three beyond two": ([2.5, -0.5, 2.5], {2}),
    "four of five beyond one": ([1.5, 1.5, -0.5, 1.5, 1.5], {3}),
    "eight on one side": ([0.5] * 8, {4}),
    "one point within three": ([2.9], set()),
    "two of four beyond two": ([2.5, -0.5, -0.5, 2.5], set()),
    "two beyond two on different sides": ([2.5, -2.5], set()),
    "three of five beyond one": ([1.5, 1.5, -0.5, -0.5, 1.5], set()),
    "seven on one side": ([0.5] * 7, set()),
}


@pytest.fixture(scope="module")
def breaches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """A tool for each case and side, a wafer for each of its points."""
    drop = tmp_path_factory.mktemp("breaches")
    for number, (points, _) in enumerate(BREACHES.values()):
        for side in (1, -1):
            folder = drop / f"{'over' if side > 0 else 'under'}{number}"
            folder.mkdir()
            for i, value in enumerate(side * point for point in [*CALM, *points]):
                lines = [f"{60 * i + second},A,main,{value!r}" for second in range(2)]
                (folder / f"L1_W{i:02d}.csv").write_text("\n".join(["T,CHAMBER,STEP,power", *lines]) + "\n", encoding="utf-8")
    (drop / "etch.toml").write_text(CONFIG, encoding="utf-8")
    with loadlock.open(tmp_path_factory.mktemp("macros") / "breaches.lake") as lake:
        assert lake.ingest(drop, config=drop / "etch.toml").exit_code == 0
        yield lake


@pytest.mark.parametrize("side", ["over", "under"])
@pytest.mark.parametrize("what", BREACHES)
def test_each_rule_is_broken_by_its_own_case_alone(breaches: Lake, what: str, side: str) -> None:
    """The last point breaks exactly the rule that it should, and none before it breaks any."""
    number = list(BREACHES).index(what)
    found = _columns(breaches, "FROM spc(?, 'power', baseline := 20)", f"{side}{number}")
    assert len(found["value"]) == 20 + len(BREACHES[what][0])
    assert found["sigma"][0] == pytest.approx(1.0)
    broken = [{rule for rule in (1, 2, 3, 4) if found[f"rule_{rule}"][i]} for i in range(len(found["value"]))]
    assert broken[-1] == BREACHES[what][1]
    assert not any(broken[:-1])


def test_spc_of_all_chambers_judges_each_by_itself(made: Lake) -> None:
    both = made.sql(f"SELECT chamber, value, center, ewma, rule_1 FROM spc('{TOOL}', '{SENSOR}', step := 'main')").fetchall()
    single = [
        row
        for chamber in "AB"
        for row in made.sql(
            f"SELECT chamber, value, center, ewma, rule_1 FROM spc('{TOOL}', '{SENSOR}', step := 'main', chamber := '{chamber}')"
        ).fetchall()
    ]
    assert both == single
    assert len(both) == WAFERS


def test_drift_is_a_least_squares_line(case: tuple[Lake, str, str, str]) -> None:
    lake, tool, sensor, step = case
    row = _columns(lake, "FROM drift(?, sensor := ?, step := ?, chamber := ?)", tool, sensor, step, _chamber(lake, tool))
    query = "SELECT epoch_us(started_at) AS t, mean FROM features WHERE tool = ? AND sensor = ? AND step = ? AND chamber = ?"
    points = _columns(lake, query, tool, sensor, step, _chamber(lake, tool))
    days = (points["t"] - points["t"].min()) / 86400e6
    slope = np.polyfit(days, points["mean"], 1)[0]
    assert row["n"][0] == len(days)
    assert row["slope_per_day"][0] == pytest.approx(slope, rel=1e-6)
    assert row["r2"][0] == pytest.approx(np.corrcoef(days, points["mean"])[0, 1] ** 2, rel=1e-6)
    assert row["change_sigmas"][0] == pytest.approx(slope * days.max() / (1.4826 * _mad(points["mean"])), rel=1e-6)


def test_chamber_match_names_the_offset(made: Lake) -> None:
    found = _columns(made, "FROM chamber_match(sensor := ?, step := ?) ORDER BY chamber", SENSOR, STEP)
    parts = {
        c: _columns(made, "SELECT mean FROM features WHERE sensor = ? AND step = ? AND chamber = ?", SENSOR, STEP, c)["mean"] for c in "AB"
    }
    means = {chamber: part.mean() for chamber, part in parts.items()}
    pooled = np.sqrt(sum((len(p) - 1) * p.var(ddof=1) for p in parts.values()) / sum(len(p) - 1 for p in parts.values()))
    for i, chamber in enumerate("AB"):
        assert found["chamber"][i] == chamber
        assert found["offset_sigmas"][i] == pytest.approx((means[chamber] - np.median(list(means.values()))) / pooled, rel=1e-9)
        assert found["std_ratio"][i] == pytest.approx(parts[chamber].std(ddof=1) / pooled, rel=1e-9)


def test_wafer_z_is_the_distance_in_robust_sigmas(case: tuple[Lake, str, str, str]) -> None:
    lake, tool, sensor, step = case
    query = "SELECT value, z FROM wafer_z(?, step := ?, chamber := ?) WHERE sensor = ? ORDER BY started_at, window_id"
    found = _columns(lake, query, tool, step, _chamber(lake, tool), sensor)
    x = _series(lake, tool, sensor, step)
    np.testing.assert_array_equal(found["value"], x)
    np.testing.assert_allclose(found["z"], (x - np.median(x)) / (1.4826 * _mad(x)), rtol=1e-9, atol=1e-12)


def test_wafer_z_finds_the_odd_wafer(made: Lake) -> None:
    assert made.sql(f"SELECT wafer, sensor FROM wafer_z('{TOOL}') LIMIT 2").fetchall() == [("W20", "power"), ("W20", "power")]
    assert {row[0] for row in made.sql(f"SELECT wafer FROM wafer_z('{TOOL}', lot := 'L1', wafer := 'W13')").fetchall()} == {"W13"}


def test_golden_distance_is_a_root_mean_square_over_the_band(made: Lake) -> None:
    query = f"SELECT * FROM golden_distance('{TOOL}', 'L0', sensor := 'power', step := 'main', grid_s := 3)"
    found = made.sql(query).fetchall()
    names = made.sql(query).columns
    assert dict(zip(names, found[0], strict=True))["wafer"] == "W20"
    samples = made.sql(
        "SELECT s.lot, s.wafer, s.chamber, epoch(s.ts - w.started_at), s.value FROM samples s JOIN windows w USING (window_id) "
        "WHERE s.sensor = 'power' AND s.step = 'main'"
    ).fetchall()
    cells: dict[tuple[str, str, str], dict[int, list[float]]] = {}
    for lot, wafer, chamber, elapsed, value in samples:
        cells.setdefault((lot, wafer, chamber), {}).setdefault(int(elapsed // 3), []).append(value)
    mean = {who: {cell: np.mean(values) for cell, values in of.items()} for who, of in cells.items()}
    for row in found:
        wafer = dict(zip(names, row, strict=True))
        golden = [of for (lot, _, chamber), of in mean.items() if lot == "L0" and chamber == wafer["chamber"]]
        own = mean[wafer["lot"], wafer["wafer"], wafer["chamber"]]
        z = np.array(
            [(own[cell] - np.median([g[cell] for g in golden])) / np.std([g[cell] for g in golden], ddof=1) for cell in sorted(own)]
        )
        assert wafer["cells"] == len(z) == 5
        assert wafer["distance"] == pytest.approx(np.sqrt((z**2).mean()), rel=1e-9)
        assert wafer["farthest"] == pytest.approx(np.abs(z).max(), rel=1e-9)
        assert wafer["outside"] == pytest.approx((np.abs(z) > 3).mean())


def test_overlay_brings_runs_to_one_clock(made: Lake) -> None:
    rows = made.sql(
        f"SELECT wafer, min(elapsed_s), max(elapsed_s), count(*) FROM trace_overlay('{TOOL}', 'power', step := 'over') GROUP BY 1"
    ).fetchall()
    assert len(rows) == WAFERS
    assert {row[1:] for row in rows} == {(0.0, ROWS - 1.0, ROWS)}


def test_wide_has_all_sensors_of_a_record(made: Lake) -> None:
    rows = made.sql(
        f"SELECT sensors['power'], sensors['pressure'] FROM wide('{TOOL}', 'etch', '2026-03-01', '2026-03-01 01:00')"
    ).fetchall()
    assert len(rows) == 2 * ROWS
    narrow = "SELECT sum(value) FROM traces WHERE sensor = '{}' AND ts < '2026-03-01 01:00'"
    for i, sensor in enumerate(("power", "pressure")):
        assert sum(row[i] for row in rows) == pytest.approx(made.sql(narrow.format(sensor)).fetchall()[0][0])


def test_quality_and_gaps_add_up_to_the_tables(made: Lake) -> None:
    total = made.sql("SELECT sum(payloads), sum(bytes_in), sum(records), max(duplicate_share) FROM data_quality()").fetchall()
    assert total == made.sql("SELECT count(*), sum(bytes_in), sum(records_decoded), 0.0 FROM payloads").fetchall()
    assert made.sql("SELECT count(*) FROM gap_report()").fetchall() == made.sql("SELECT count(DISTINCT stream) FROM gaps").fetchall()


def test_an_unknown_statistic_is_named(made: Lake) -> None:
    with pytest.raises(Exception, match=r"no statistic 'avg'; there are mean, std"):
        made.sql(f"FROM drift('{TOOL}', statistic := 'avg')").fetchall()


@pytest.mark.parametrize("query", re.findall(r"```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S))
def test_every_example_of_the_page_answers(sample_lake: Lake, query: str) -> None:
    assert sample_lake.sql(query).fetchall()


@pytest.fixture(scope="module")
def sample_lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    sample = PAGE.parents[1] / "sample_data"
    with loadlock.open(tmp_path_factory.mktemp("macros") / "sample.lake") as lake:
        lake.ingest(sample / "deliveries", config=sample / "loadlock.toml")
        yield lake
