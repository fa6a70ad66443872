"""A lake that is fed all day, every day, stays as quick as on its first day, and as small as its content.

The clock is simulated; catalog, files, ingest and maintenance are real. The short run is some days; `make soak` runs a year, with
LOADLOCK_BATCHES_A_DAY batches a day (1440 is one a minute: half a million commits, more than a day of CPU).
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import loadlock
from ingest.config import Config, parse
from storage import expiry
from storage.store import utc_now

TOOLS = ("P1", "P2", "P3")
ROWS = 6
"""Rows of a tool in a batch."""

CONFIG = """
[[sources]]
match = "*.csv"
format = "table"
table = "polish"

[tables.polish]
tool = {{ column = "TOOL" }}
chamber = "CHAMBER"
time = {{ column = "TIME", unit = "ms", origin = "{origin}" }}
key = ["CHAMBER"]
context = {{ wafer = "WAFER", step = "STEP" }}
sensors = ["PRESSURE", "FLOW"]

[maintenance]
keep_days = {keep_days}
keep_all_hours = {keep_all_hours}
commits = {commits}
"""
FILES = (
    "SELECT t.table_name, count(*), sum(f.file_size_bytes) FROM __ducklake_metadata_lake.ducklake_data_file f "
    "JOIN __ducklake_metadata_lake.ducklake_table t USING (table_id) WHERE f.end_snapshot IS NULL GROUP BY 1 ORDER BY 1"
)
A_TOOLS_FILES = "SELECT tool, ts::DATE, count(DISTINCT filename) FROM lake.main.traces WHERE ts < ? GROUP BY ALL"
A_DAY = (
    "SELECT wafer, sensor, count(*), avg(value), max(value) FROM samples "
    "WHERE tool = 'P2' AND ts >= ? AND ts < ?::TIMESTAMP + INTERVAL 1 DAY GROUP BY ALL ORDER BY ALL"
)


@dataclass
class Year:
    """So many days, so many batches a day."""

    days: int
    batches: int
    config: Config
    start: datetime
    commit_s: list[list[float]] = field(default_factory=list)

    def text(self, number: int) -> bytes:
        """The batch's rows; a wafer spans five batches and two steps, and every seventh row of P3 is sent twice."""
        step_ms = 86_400_000 // self.batches // ROWS
        lines = ["TOOL,CHAMBER,TIME,WAFER,STEP,PRESSURE,FLOW"]
        for tool in TOOLS:
            for i in range(number * ROWS, (number + 1) * ROWS):
                step = "ramp" if number % 5 < 2 else "main"
                lines.append(f"{tool},A,{i * step_ms},W{number // 5},{step},{1 + i % 13 / 8},{(i * 7) % 5}")
                if tool == "P3" and i % 7 == 0:
                    lines.append(lines[-1])
        return ("\n".join(lines) + "\n").encode()

    def run(self, lake: Any) -> Iterator[int]:
        """Ingest day by day; yields the number of each finished day."""
        for day in range(self.days):
            self.commit_s.append([])
            for batch in range(self.batches):
                now = self.start + timedelta(days=day, seconds=(batch + 1) * 86_400 / self.batches)
                lake.store.clock = lambda now=now: now
                begin = time.process_time()
                lake.ingest("batch.csv", data=self.text(day * self.batches + batch), format="table", config=self.config)
                self.commit_s[-1].append(time.process_time() - begin)
                assert lake.last_upkeep is None
            yield day

    def query_s(self, lake: Any, day: int) -> float:
        """The CPU that a day's query takes."""
        begin_of_day = self.start + timedelta(days=day)
        took = []
        for _ in range(5):
            begin = time.process_time()
            rows = lake.store.rows(A_DAY, [begin_of_day, begin_of_day])
            took.append(time.process_time() - begin)
        assert sum(row[2] for row in rows) == 2 * ROWS * self.batches
        return min(took)


@pytest.mark.parametrize(
    ("days", "batches", "keep_days"),
    [
        pytest.param(6, 12, 2, id="some days"),
        pytest.param(365, int(os.environ.get("LOADLOCK_BATCHES_A_DAY", "24")), 30, id="a year", marks=pytest.mark.slow),
    ],
)
def test_a_lake_stays_as_quick_as_on_its_first_day(days: int, batches: int, keep_days: int, tmp_path: Path) -> None:
    today = utc_now()
    start = datetime(today.year, today.month, today.day) + timedelta(days=1)
    rules = {"keep_days": keep_days, "keep_all_hours": 24 * min(2, keep_days // 2), "commits": max(500, batches)}
    year = Year(days, batches, parse(CONFIG.format(origin=f"{start:%Y-%m-%d}", **rules)), start)
    with loadlock.open(tmp_path / "fab.lake") as lake:
        run = year.run(lake)
        next(run)
        first_query_s = year.query_s(lake, 0)
        for _day in run:
            pass
        last_query_s = [year.query_s(lake, day) for day in (0, days // 2, days - 2)]
        first_s, last_s = (statistics.median(year.commit_s[day]) for day in (0, -1))
        upkeep_s = [max(some) - statistics.median(some) for some in year.commit_s[1:]]
        files = lake.store.rows(FILES)
        listed = expiry.snapshots(lake.store)
        size = (lake.store.path / "catalog.sqlite").stat().st_size
        samples = lake.store.rows("SELECT count(*) FROM traces")[0][0]
        dead = lake.store.rows("SELECT count(*) FROM lake.main.superseded")[0][0]
        disk = {file.name for file in (tmp_path / "fab.lake/data/main").rglob("*.parquet")}
        print(
            f"\n{days} days x {batches} batches x {len(TOOLS)} tools: ingest {first_s * 1e3:.0f} -> {last_s * 1e3:.0f} ms CPU, "
            f"a day's query {first_query_s * 1e3:.0f} -> {max(last_query_s) * 1e3:.0f} ms CPU, maintenance a day "
            f"{statistics.median(upkeep_s) * 1e3:.0f} ms CPU; {sum(row[1] for row in files)} live files ({files}), {len(disk)} on disk, "
            f"{len(listed)} snapshots, {dead} superseded, catalog {size:,} bytes, {size / samples:.1f} a sample of {samples:,}"
        )
        closed = start + timedelta(days=days - 1)
        of_a_day = lake.store.rows(A_TOOLS_FILES, [closed])
        assert len(of_a_day) == len(TOOLS) * (days - 1)
        assert max(row[2] for row in of_a_day) <= 3
        open_files = len(TOOLS) * batches
        assert sum(row[1] for row in files) <= 3 * len(TOOLS) * days + open_files
        assert last_s <= 2 * first_s
        assert max(last_query_s) <= 2 * first_query_s
        assert lake.store.rows("SELECT count(*) FROM windows") == lake.store.rows("SELECT count(DISTINCT window_id) FROM windows")
        assert dead <= 3 * len(TOOLS) * batches
        kept_all = lake.store.clock() - timedelta(hours=rules["keep_all_hours"] + 25)
        old = [one for one in listed if one.time < kept_all]
        assert len(old) <= keep_days
        assert all(one.time >= lake.store.clock() - timedelta(days=keep_days + 1) for one in listed)
        assert len(disk) < open_files * (days - 1)
        assert lake.verify().faults == []
        digest = lake.digest()
    with loadlock.open(tmp_path / "plain.lake") as plain:
        text = b"".join(year.text(number).split(b"\n", 1)[number > 0] if number else year.text(0) for number in range(days * batches))
        plain.ingest("all.csv", data=text, format="table", config=year.config)
        assert plain.digest() == digest
