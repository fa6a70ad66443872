"""Queries read the files that hold the answer, and no others, also through the views."""

import re

import pytest

import loadlock
from ingest.config import parse
from sample_data import secs_encoder as secs

CONFIG = parse(
    """
[models.etcher.traces.7]
sensors = ["power", "pressure"]
[models.etcher.events.1]
values = ["ts", "wafer", "step"]
window = "start"
[tools."T*"]
model = "etcher"
"""
)
HOURS = 8


def delivery(hour):
    start = secs.s6f11(1, [(1, [secs.text(f"20260317{hour:02d}000000"), secs.text(f"W{hour}"), secs.text("main")])])
    values = [secs.item("F4", float(hour)), secs.item("F4", 2.0)]
    return start + b"".join(
        secs.s6f1(secs.item("U1", 7), secs.item("U4", 100 * hour + i), f"20260317{hour:02d}00{i:02d}00", values) for i in range(1, 50)
    )


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    with loadlock.open(tmp_path_factory.mktemp("pruning") / "t.lake") as opened:
        for hour in range(HOURS):
            for tool in ("T1", "T2"):
                opened.ingest(data=delivery(hour), tool=tool, config=CONFIG)
        yield opened


def files_read(lake, query):
    plan = lake.sql(f"explain analyze {query}").fetchall()[0][1]
    return [int(found) for found in re.findall(r"Total Files Read: (\d+)", plan)]


@pytest.mark.parametrize(
    ("where", "rows", "most"),
    [
        ("tool = 'T1' and wafer = 'W3'", 98, 1),
        ("tool = 'T2' and ts >= '2026-03-17 05:00' and ts < '2026-03-17 06:00'", 98, 1),
        ("wafer = 'W6' and sensor = 'power'", 98, 2),
    ],
)
def test_samples_of_a_wafer_or_an_hour_read_its_files_only(lake, where, rows, most):
    query = f"select count(*), sum(value) from samples where {where}"
    assert lake.sql(query).fetchall()[0][0] == rows
    assert max(files_read(lake, query)) <= most


def test_a_window_id_reads_one_file(lake):
    (window_id,) = lake.sql("select window_id from windows where tool = 'T1' and wafer = 'W4'").fetchall()[0]
    query = f"select sum(value) from traces where window_id = {window_id}"
    assert max(files_read(lake, query)) == 1
