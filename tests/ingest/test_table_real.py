"""Real files: a CMP tool, a metal etcher, a water pump, a simulated plant. They lie outside the repository."""

from __future__ import annotations

import csv
import os
import sys
from datetime import datetime
from pathlib import Path

import pytest

if str(Path(__file__).parent) not in sys.path:  # test files are no package
    sys.path.insert(0, str(Path(__file__).parent))
from table_support import decode, table

REAL = Path(os.environ.get("LOADLOCK_REAL_DATA") or Path(__file__).parents[3] / "shared" / "data")
CMP = {
    "tool": {"column": "MACHINE_ID", "prefix": "CMP"},
    "chamber": "CHAMBER",
    "time": {"column": "TIMESTAMP", "unit": "s", "origin": "1970-01-01"},
    "key": ["CHAMBER", "WAFER_ID", "STAGE"],
    "context": {"wafer": "WAFER_ID", "step": "STAGE"},
}
LAM = [
    "BCl3 Flow",
    "Cl2 Flow",
    "RF Btm Pwr",
    "RF Btm Rfl Pwr",
    "Endpt A",
    "He Press",
    "Pressure",
    "RF Tuner",
    "RF Load",
    "RF Phase Err",
    "RF Pwr",
    "RF Impedance",
    "TCP Tuner",
    "TCP Phase Err",
    "TCP Impedance",
    "TCP Top Pwr",
    "TCP Rfl Pwr",
    "TCP Load",
    "Vat Valve",
]


def folder(name):
    if not (REAL / name).is_dir():
        pytest.skip("the real data are not here")
    return REAL / name


def test_cmp_all_rows_of_all_files():
    files = sorted(folder("cmp_phm2016").glob("CMP-training-0??.csv"))
    assert len(files) == 30
    rows, wafers = 0, set()
    for path in files:
        found = decode(path.read_bytes(), table(**CMP), 300_000)
        assert found.rejected == []
        assert len(found.names) == 20  # 19 sensors and MACHINE_DATA
        rows += len(found.rows)
        wafers |= {row[1].wafer for row in found.rows}
    assert rows == 145_280
    assert len(wafers) == 346


def test_cmp_values_and_times_are_exact():
    path = folder("cmp_phm2016") / "CMP-training-000.csv"
    found = decode(path.read_bytes(), table(**CMP))
    with path.open(newline="") as file:
        for row, want in zip(found.rows, csv.DictReader(file, delimiter="\t"), strict=True):
            stream, context, seq, time_us, _, frame, _ = row
            assert stream == (
                f"CMP{want['MACHINE_ID']}",
                want["CHAMBER"],
                "tab",
                f'["{want["CHAMBER"]}","{want["WAFER_ID"]}","{want["STAGE"]}"]',
            )
            assert (context.wafer, context.step) == (want["WAFER_ID"], want["STAGE"])
            assert seq == time_us == round(float(want["TIMESTAMP"]) * 1000) * 1000
            assert frame[1] > frame[0]
    with path.open(newline="") as file:
        wanted = list(csv.DictReader(file, delimiter="\t"))
    for place, name in enumerate(found.names):
        assert found.column(place) == [float(want[name]) for want in wanted]


def test_cmp_as_a_spreadsheet_saved_it():
    data = (folder("cmp_phm2016") / "comma_dialect" / "CMP-training-000.csv").read_bytes()
    found = decode(data, table(**CMP))
    assert len(found.rows) == data.count(b"\n") - 1 + (not data.endswith(b"\n"))
    assert found.rows[0][3] == 481637082_300_000
    assert found.rows[0][0].chamber == "1"


def test_lam_headerless_names_by_mapping():
    sensors = [{"column": str(place + 2), "name": name} for place, name in enumerate(LAM)]
    section = table(tool="LAM9600", time={"column": "0", "unit": "s"}, context={"step": "1"}, sensors=sensors)
    rows = {}
    for path in sorted(folder("lam9600_etch").glob("*/wafer_*.csv")):
        data = path.read_bytes()
        found = decode(data, section, captured={"wafer": path.stem})
        assert found.rejected == []
        assert found.names == LAM
        assert {row[1].step for row in found.rows} == {"4.0", "5.0"} or path.stem == "wafer_56"
        rows[f"{path.parent.name}/{path.stem}"] = found.rows
        assert len(found.rows) == len(data.split()) - 1
    assert len(rows) == 81
    assert len(rows["normal/wafer_56"]) == 3
    first = rows["normal/wafer_1"]
    assert first[0][3] == 11_946_000
    assert first[0][0].stream == '["wafer_1","4.0"]'
    assert first[-1][3] < first[0][3]  # the late row


def test_skab_semicolons_and_times_as_text():
    data = (folder("skab_valve") / "valve1" / "0.csv").read_bytes()
    found = decode(data, table(tool="PUMP", time={"column": "datetime", "format": "%Y-%m-%d %H:%M:%S"}))
    assert found.names[0] == "Accelerometer1RMS"
    assert len(found.names) == 10
    assert found.rejected == []
    assert found.rows[0][3] == int((datetime(2020, 3, 9, 10, 14, 33) - datetime(1970, 1, 1)).total_seconds()) * 1_000_000
    assert len(found.rows) == len(data.split(b"\n")) - 2


def test_tennessee_eastman_runs_of_blanks_without_header():
    data = (folder("tennessee_eastman") / "d01.dat").read_bytes()
    found = decode(data, table(tool="TE", time={"column": "0", "unit": "s"}))
    assert len(found.names) == 51
    assert len(found.rows) == len(data.split()) // 52
    assert found.rejected == []
