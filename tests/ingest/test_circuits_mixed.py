"""Circuits where rows of several tools come in one table: only the rows of the bad one are kept out."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage.circuits import CLOSED, OPEN, TOOL, Circuit

HERE = Path(__file__).resolve().parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))
from circuit_support import ROWS, Site, rows, states, traces  # noqa: E402


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)
    yield made
    assert made.lake.verify().faults == []
    made.lake.close()


def test_in_a_table_of_several_tools_only_the_rows_of_the_bad_one_are_kept_out(site, assert_conserved):
    site.put("mixed/1.csv", rows(0, bad=30) + rows(0, tool="Y") + rows(0, tool="Z", bad=5))
    summary = site.ingest()
    assert_conserved(summary, site.lake)
    assert (states(summary), summary.exit_code) == (["committed"], 3)
    assert traces(site.lake) == {"Y": ROWS, "Z": ROWS - 5}
    found = site.lake.sql("select tool, reason, count(*) from quarantine group by all order by all").fetchall()
    assert found == [("X", "bad_time", 30), ("X", "circuit_open", 10), ("Z", "bad_time", 5)]
    assert [site.circuit(tool).state for tool in "XYZ"] == [OPEN, CLOSED, CLOSED]
    site.put("mixed/2.csv", rows(100) + rows(100, tool="Y"))  # sound, but the circuit is open
    assert_conserved(site.ingest(), site.lake)
    assert traces(site.lake) == {"Y": 2 * ROWS, "Z": ROWS - 5}
    assert site.lake.replay(config=site.config).payloads["seen"] == 0
    site.now += timedelta(seconds=60)
    site.put("mixed/3.csv", rows(200) + rows(200, tool="Y"))
    site.ingest()
    assert site.circuit().state == CLOSED
    assert_conserved(site.lake.replay(config=site.config), site.lake)
    assert traces(site.lake) == {"X": 10 + 2 * ROWS, "Y": 3 * ROWS, "Z": ROWS - 5}
    assert site.lake.sql("select count(*) from quarantine where reason = 'circuit_open' and state = 'open'").fetchall() == [(0,)]


def test_a_table_in_which_no_tool_is_sound_is_deferred_whole(site):
    site.put("mixed/1.csv", rows(0, bad=30) + rows(0, bad=30, tool="Y"))
    assert states(site.ingest()) == ["deferred"]
    assert site.lake.sql("select count(*) from quarantine").fetchall() == [(0,)]
    site.put("mixed/1.csv", rows(0) + rows(0, tool="Y"))
    assert states(site.ingest()) == ["deferred"]  # both are open now
    site.put("mixed/2.csv", rows(0, bad=ROWS))
    assert states(site.ingest()) == ["deferred", "deferred"]


def test_rows_whose_tool_can_not_be_told_are_judged_together(site):
    lines = rows(0, tool="Y", count=10)
    site.put("mixed/1.csv", [*lines, *(f"{i},broken" for i in range(30))])
    summary = site.ingest()
    assert states(summary) == ["deferred"]
    assert "can't be told" in summary.receipts[0].reason
    assert site.circuit("Y") == Circuit(TOOL, "Y")


def test_parquet_rows_are_judged_by_their_number(site, tmp_path, assert_conserved):
    def table(tools, times):
        return pa.table({"TOOL": tools, "TIME": pa.array(times, pa.float64()), "A": pa.array([1.0] * len(times))})

    (tmp_path / "drop" / "mixed").mkdir(parents=True)
    (tmp_path / "drop" / "X").mkdir()
    pq.write_table(table(["X"] * 40 + ["Y"] * 40, [None] * 30 + [*range(10)] + [*range(40)]), tmp_path / "drop" / "mixed" / "1.parquet")
    pq.write_table(table(["W"] * 40, [None] * 30 + [*range(10)]), tmp_path / "drop" / "X" / "1.parquet")
    summary = site.ingest()
    assert_conserved(summary, site.lake)
    assert states(summary) == ["deferred", "committed"]
    assert traces(site.lake) == {"Y": 40}
    found = site.lake.sql("select tool, reason, count(*) from quarantine group by all order by all").fetchall()
    assert found == [("X", "circuit_open", 10), ("X", "no_time", 30)]
