"""A lake that is fed all day, every day, stays as quick as on its first day, and as small as its content.

The clock is simulated; catalog, files, ingest and maintenance are real. The short run is some days. `make soak` runs a year of 365 days:
three of them, the first, one in the middle and the last but one, with a batch a minute, the others with one every six hours. Half a million
commits would be more than a day of CPU; what a full day costs is seen on full days, what a year leaves behind on all of them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import loadlock
from ingest.config import Config, parse
from storage import expiry
from storage.store import utc_now
from tests.faults.soak import SCALE, scaled

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
    """So many days; ``full`` ones have ``often`` batches, the others ``seldom``."""

    days: int
    seldom: int
    often: int
    full: tuple[int, ...]
    config: Config
    start: datetime
    commit_s: list[list[float]] = field(default_factory=list)

    def batches(self, day: int) -> int:
        """The batches of a day."""
        return self.often if day in self.full else self.seldom

    def text(self, day: int, batch: int) -> bytes:
        """The batch's rows; a wafer spans five batches and two steps, and every seventh row of P3 is sent twice."""
        step_ms = 86_400_000 // self.batches(day) // ROWS
        lines = ["TOOL,CHAMBER,TIME,WAFER,STEP,PRESSURE,FLOW"]
        for tool in TOOLS:
            for i in range(batch * ROWS, (batch + 1) * ROWS):
                step = "ramp" if batch % 5 < 2 else "main"
                time_ms = day * 86_400_000 + i * step_ms
                lines.append(f"{tool},A,{time_ms},W{day}-{batch // 5},{step},{1 + i % 13 / 8},{(i * 7) % 5}")
                if tool == "P3" and i % 7 == 0:
                    lines.append(lines[-1])
        return ("\n".join(lines) + "\n").encode()

    def run(self, lake: Any) -> Iterator[int]:
        """Ingest day by day; yields the number of each finished day."""
        for day in range(self.days):
            self.commit_s.append([])
            for batch in range(self.batches(day)):
                now = self.start + timedelta(days=day, seconds=(batch + 1) * 86_400 / self.batches(day))
                lake.store.clock = lambda now=now: now
                begin = time.process_time()
                lake.ingest("batch.csv", data=self.text(day, batch), format="table", config=self.config)
                self.commit_s[-1].append(time.process_time() - begin)
                assert lake.last_upkeep is None
            yield day

    def commit_ms(self, days: Iterable[int]) -> float:
        """The CPU of a commit of these days, in the median."""
        return round(1e3 * statistics.median(took for day in days for took in self.commit_s[day]), 1)

    def query_ms(self, lake: Any, day: int) -> float:
        """The CPU that a day's query takes."""
        begin_of_day = self.start + timedelta(days=day)
        took = []
        for _ in range(5):
            begin = time.process_time()
            rows = lake.store.rows(A_DAY, [begin_of_day, begin_of_day])
            took.append(time.process_time() - begin)
        assert sum(row[2] for row in rows) == 2 * ROWS * self.batches(day)
        return round(1e3 * min(took), 1)


@pytest.mark.parametrize(
    ("days", "seldom", "often", "keep_days"),
    [
        pytest.param(5, 8, 8, 2, id="some days"),
        pytest.param(max(8, scaled(365)), 4, max(24, scaled(1440)), 30 if SCALE >= 1 else 2, id="a year", marks=pytest.mark.slow),
    ],
)
def test_a_lake_stays_as_quick_as_on_its_first_day(days: int, seldom: int, often: int, keep_days: int, tmp_path: Path, note: Any) -> None:
    today = utc_now()
    start = datetime(today.year, today.month, today.day) + timedelta(days=1)
    rules = {"keep_days": keep_days, "keep_all_hours": 24 * min(2, keep_days // 2), "commits": 500}
    full, sparse = (0, days // 2, days - 2), (1, days // 2 + 1, days - 1)
    width = max(1, days // 40)
    config = parse(CONFIG.format(origin=f"{start:%Y-%m-%d}", **rules))
    year = Year(days, seldom, often, full, config, start)
    evening_ms: dict[int, float] = {}
    """What a day's query takes in its evening, when none of its files is merged yet."""
    with loadlock.open(tmp_path / "fab.lake") as lake:
        for day in year.run(lake):
            if day in full + sparse:
                evening_ms[day] = year.query_ms(lake, day)
        closed_full_ms = [year.query_ms(lake, day) for day in full]
        closed_other_ms = [year.query_ms(lake, day) for day in (*sparse[:2], days - 3)]
        commit_full_ms = [year.commit_ms([day]) for day in full]
        others = [day for day in range(days) if day not in full]
        middle = len(others) // 2
        commit_other_ms = [year.commit_ms(some) for some in (others[:width], others[middle : middle + width], others[-width:])]
        upkeep_ms = [1e3 * (max(some) - statistics.median(some)) for some in year.commit_s[1:]]
        files = lake.store.rows(FILES)
        listed = expiry.snapshots(lake.store)
        size = (lake.store.path / "catalog.sqlite").stat().st_size
        samples = lake.store.rows("SELECT count(*) FROM traces")[0][0]
        dead = lake.store.rows("SELECT count(*) FROM lake.main.superseded")[0][0]
        disk = {file.name for file in (tmp_path / "fab.lake/data/main").rglob("*.parquet")}
        of_a_day = lake.store.rows(A_TOOLS_FILES, [start + timedelta(days=days - 1)])
        note(
            days=days,
            commits=sum(map(year.batches, range(days))),
            full_days=[day + 1 for day in full],
            batches_of_a_full_day=often,
            batches_of_other_days=seldom,
            tools=len(TOOLS),
            samples=samples,
            commit_cpu_ms_full=commit_full_ms,
            commit_cpu_ms_other=commit_other_ms,
            query_cpu_ms_full_that_evening=[evening_ms[day] for day in full],
            query_cpu_ms_full_at_the_end=closed_full_ms,
            query_cpu_ms_other_that_evening=[evening_ms[day] for day in sparse],
            query_cpu_ms_other_at_the_end=closed_other_ms,
            maintenance_cpu_ms_a_day=round(statistics.median(upkeep_ms)),
            most_files_of_a_tool_day=max(row[2] for row in of_a_day),
            live_files=sum(row[1] for row in files),
            files_on_disk=len(disk),
            snapshots=len(listed),
            superseded=dead,
            catalog_bytes=size,
        )
        assert len(of_a_day) == len(TOOLS) * (days - 1)
        assert max(row[2] for row in of_a_day) <= 3
        open_files = len(TOOLS) * seldom
        assert sum(row[1] for row in files) <= 3 * len(TOOLS) * days + open_files
        for times in (commit_full_ms, commit_other_ms):
            assert max(times) <= 2 * times[0]
        for like, closed_ms in ((full, closed_full_ms), (sparse, closed_other_ms)):
            assert max(*(evening_ms[day] for day in like), *closed_ms) <= 2 * evening_ms[like[0]]
        assert lake.store.rows("SELECT count(*) FROM windows") == lake.store.rows("SELECT count(DISTINCT window_id) FROM windows")
        assert dead <= 3 * len(TOOLS) * (seldom + often)
        kept_all = lake.store.clock() - timedelta(hours=rules["keep_all_hours"] + 25)
        old = [one for one in listed if one.time < kept_all]
        assert len(old) <= keep_days
        assert all(one.time >= lake.store.clock() - timedelta(days=keep_days + 1) for one in listed)
        assert len(disk) < len(TOOLS) * (seldom + often) * min(4, days - 1)
        assert lake.verify().faults == []
        digest = lake.digest()
    with loadlock.open(tmp_path / "plain.lake") as plain:
        texts = [year.text(day, batch) for day in range(days) for batch in range(year.batches(day))]
        plain.ingest("all.csv", data=b"".join([texts[0], *(text.split(b"\n", 1)[1] for text in texts[1:])]), format="table", config=config)
        assert plain.digest() == digest
