"""The analysts' macros on the real data against numpy: what the macros say is computed anew from the rows of samples and features."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import loadlock
from loadlock import Lake

ROOT = Path(__file__).resolve().parents[2]
CMP = """\
[[sources]]
match = "*.csv"
format = "table"
table = "cmp"

[tables.cmp]
tool = { column = "MACHINE_ID", prefix = "CMP" }
chamber = "CHAMBER"
time = { column = "TIMESTAMP", unit = "s", origin = "1970-01-01" }
period = 1.0
key = ["CHAMBER", "WAFER_ID", "STAGE"]
context = { lot = "MACHINE_DATA", wafer = "WAFER_ID", step = "STAGE" }
"""


@pytest.fixture(scope="module")
def polisher(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """Two files of the polisher: six chambers, tools of which are told by the rows."""
    folder = tmp_path_factory.mktemp("cmp")
    (folder / "cmp.toml").write_text(CMP, encoding="utf-8")
    files = sorted((real_data / "cmp_phm2016").glob("CMP-training-0*.csv"))[:2]
    with loadlock.open(folder / "fab.lake") as lake:
        assert lake.ingest(files, config=folder / "cmp.toml").payloads["committed"] == 2
        yield lake


@pytest.fixture(scope="module")
def etcher(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    with loadlock.open(tmp_path_factory.mktemp("lam") / "etch.lake") as lake:
        lake.ingest(real_data / "lam9600_etch", config=ROOT / "docs" / "how-to" / "lam.toml")
        yield lake


def rows(lake: Lake, query: str, *parameters: Any) -> list[dict[str, Any]]:
    return list(lake.sql(query, list(parameters)).pl().iter_rows(named=True))


def test_chamber_match_pools_the_polishers_chambers(polisher: Lake) -> None:
    sensor = "SLURRY_FLOW_LINE_A"
    found = rows(polisher, "FROM chamber_match(sensor := ?)", sensor)
    points = rows(polisher, "SELECT step, tool, chamber, mean FROM features WHERE sensor = ? AND n > 0", sensor)
    by_step: dict[str, dict[tuple[str, str], list[float]]] = {}
    for point in points:
        by_step.setdefault(point["step"], {}).setdefault((point["tool"], point["chamber"]), []).append(point["mean"])
    assert max(len(chambers) for chambers in by_step.values()) >= 3
    assert len(found) == sum(map(len, by_step.values()))
    judged = 0
    for row in found:
        chambers = {name: np.array(values) for name, values in by_step[row["step"]].items()}
        own = chambers[row["tool"], row["chamber"]]
        assert row["n"] == len(own)
        assert row["mean"] == pytest.approx(own.mean(), rel=1e-12)
        spread = [values for values in chambers.values() if len(values) > 1]
        freedom = sum(len(values) - 1 for values in spread)
        pooled = np.sqrt(sum((len(values) - 1) * values.var(ddof=1) for values in spread) / freedom) if freedom else 0.0
        if pooled > 0:
            center = np.median([values.mean() for values in chambers.values()])
            assert row["offset_sigmas"] == pytest.approx((own.mean() - center) / pooled, rel=1e-9, abs=1e-9)
            judged += 1
    assert judged >= 6


def test_golden_distance_of_etched_wafers(etcher: Lake) -> None:
    sensor, step, grid_s = "tcp_load", "4.0", 2.0
    ((golden, _),) = etcher.sql("SELECT lot, count(*) AS n FROM windows GROUP BY lot ORDER BY n DESC LIMIT 1").fetchall()
    found = rows(etcher, "FROM golden_distance('LAM9600', ?, sensor := ?, step := ?, grid_s := ?)", golden, sensor, step, grid_s)
    cells: dict[int, dict[int, list[float]]] = {}
    lots: dict[int, str] = {}
    samples = (
        "SELECT s.window_id, s.lot, epoch_us(s.ts) - epoch_us(w.started_at) AS us, s.value FROM samples s JOIN windows w USING (window_id)"
    )
    for row in rows(etcher, f"{samples} WHERE s.sensor = ? AND s.step = ?", sensor, step):
        lots[row["window_id"]] = row["lot"]
        cells.setdefault(row["window_id"], {}).setdefault(int(row["us"] / 1e6 // grid_s), []).append(row["value"])
    means = {window: {cell: float(np.mean(values)) for cell, values in of.items()} for window, of in cells.items()}
    assert len(found) > 70
    for row in found:
        z = []
        for cell, value in means[row["window_id"]].items():
            band = [of[cell] for window, of in means.items() if lots[window] == golden and cell in of]
            if len(band) > 1 and np.std(band, ddof=1) > 0:
                z.append((value - np.median(band)) / np.std(band, ddof=1))
        assert row["cells"] == len(z)
        assert row["distance"] == pytest.approx(np.sqrt(np.mean(np.square(z))), rel=1e-7)
        assert row["farthest"] == pytest.approx(np.max(np.abs(z)), rel=1e-7)
        assert row["outside"] == pytest.approx(np.mean(np.abs(z) > 3))


def test_trace_overlay_is_the_samples_on_one_clock(etcher: Lake) -> None:
    found = rows(etcher, "SELECT window_id, elapsed_s, value FROM trace_overlay('LAM9600', 'tcp_load', step := '4.0')")
    wanted = rows(
        etcher,
        "SELECT t.window_id, t.ts, t.value, w.started_at FROM traces t JOIN windows w USING (window_id) WHERE t.sensor = 'tcp_load' "
        "AND w.step = '4.0' ORDER BY ALL",
    )
    ours = sorted((row["window_id"], (row["ts"] - row["started_at"]).total_seconds(), row["value"]) for row in wanted)
    np.testing.assert_allclose(sorted(tuple(row.values()) for row in found), ours, rtol=1e-12)
    assert len({window for window, _, _ in ours}) > 70


def test_wide_holds_every_value_of_every_record(etcher: Lake) -> None:
    ((trace, records, values, total),) = etcher.sql(
        "SELECT any_value(trace), count(DISTINCT (stream, seq, ts)), count(*), sum(value) FROM traces"
    ).fetchall()
    found = rows(etcher, "SELECT map_values(sensors) AS x, map_keys(sensors) AS names FROM wide('LAM9600', ?)", trace)
    assert len(found) == records
    assert sum(len(row["x"]) for row in found) == values
    assert float(np.sum([np.sum(row["x"]) for row in found])) == pytest.approx(total, rel=1e-9)
    assert {len(set(row["names"])) for row in found} == {len(found[0]["names"])}


def test_gap_report_adds_up_the_gaps_of_the_polisher(polisher: Lake) -> None:
    gaps = rows(polisher, "SELECT tool, chamber, trace, stream, missing, after_ts, before_ts FROM gaps")
    assert gaps
    found = {(row["tool"], row["chamber"], row["trace"], row["stream"]): row for row in rows(polisher, "FROM gap_report()")}
    streams = {(gap["tool"], gap["chamber"], gap["trace"], gap["stream"]) for gap in gaps}
    assert found.keys() == streams
    for stream in streams:
        own = [gap for gap in gaps if (gap["tool"], gap["chamber"], gap["trace"], gap["stream"]) == stream]
        row = found[stream]
        assert (row["gaps"], row["missing"]) == (len(own), sum(gap["missing"] for gap in own))
        assert (row["longest"], row["first_after"]) == (max(gap["missing"] for gap in own), min(gap["after_ts"] for gap in own))


def test_data_quality_is_the_accounts(polisher: Lake, etcher: Lake) -> None:
    for lake in (polisher, etcher):
        (found,) = rows(lake, "FROM data_quality()")
        payloads = rows(lake, "FROM payloads")
        decoded = sum(p["records_decoded"] for p in payloads)
        assert (found["payloads"], found["records"]) == (len(payloads), decoded)
        for share in ("duplicate", "conflict"):
            assert found[f"{share}_share"] == pytest.approx(sum(p[f"records_{share}"] for p in payloads) / decoded)
        assert found["quarantined_share"] == pytest.approx(
            sum(p["bytes_quarantined"] for p in payloads) / sum(p["bytes_in"] for p in payloads)
        )
