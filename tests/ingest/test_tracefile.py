"""The order of trace rows: sensor by sensor, and of each one stream after the other, while windows are reduced in order of time."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from ingest.tracefile import by_stream

CONFIG = """\
[[sources]]
match = "*.csv"
format = "table"
table = "bath"

[tables.bath]
tool = "BATH"
time = { column = "t", unit = "s", origin = "2026-01-01" }
key = ["wafer", "slot"]
context = { wafer = "wafer" }
sensors = ["a", "b"]
"""


def test_streams_that_follow_each_other_keep_the_order_of_time() -> None:
    assert by_stream(np.array([2, 2, 0, 1, 1])) is None
    assert by_stream(np.array([0])) is None


def test_streams_side_by_side_stand_one_after_the_other_as_they_begin() -> None:
    found = by_stream(np.array([2, 0, 2, 1, 0]))
    assert found is not None
    assert found.tolist() == [0, 2, 1, 4, 3]


@pytest.mark.parametrize("row_group_rows", [7, 262_144])
def test_interleaved_wafers_are_stored_apart_and_reduced_in_order_of_time(
    row_group_rows: int, lake: Callable[..., Any], tmp_path: Any
) -> None:
    random = np.random.default_rng(4)
    rows = [
        (t / 10, wafer, slot, *random.normal(size=2).tolist())
        for t, wafer, slot in itertools.product(range(40), ("w1", "w2", "w3"), ("front", "back"))
    ]
    drop = tmp_path / "bath.csv"
    drop.write_text("t,wafer,slot,a,b\n" + "".join(f"{t},{wafer},{slot},{a!r},{b!r}\n" for t, wafer, slot, a, b in rows))
    config = tmp_path / "loadlock.toml"
    config.write_text(CONFIG + f"\n[lake]\nrow_group_rows = {row_group_rows}\n")
    opened = lake()
    opened.ingest(drop, config=config)
    (path,) = (opened.store.data / "main" / "traces").glob("*.parquet")
    stored = pq.read_table(path).to_pylist()
    if row_group_rows > len(stored):
        streams = [key for key, _ in itertools.groupby((row["sensor"], row["stream"]) for row in stored)]
        assert len(streams) == len(set(streams)) == 12
    for (sensor, stream), some in itertools.groupby(stored, key=lambda row: (row["sensor"], row["stream"])):
        times = [row["ts"] for row in some]
        assert times == sorted(times), (sensor, stream)
    assert sorted((row["sensor"], row["value"]) for row in stored) == sorted(
        pair for _, _, _, a, b in rows for pair in (("a", a), ("b", b))
    )
    features = opened.sql("SELECT wafer, sensor, n, first, last, area FROM features").fetchall()
    assert len(features) == 6
    for wafer, sensor, n, first, last, area in features:
        own = sorted((t, slot, a if sensor == "a" else b) for t, w, slot, a, b in rows if w == wafer)  # as seq is the time: then by stream
        own = sorted(own, key=lambda row: (row[0], f'["{wafer}","{row[1]}"]'))
        values = np.array([value for _, _, value in own])
        seconds = np.array([t for t, _, _ in own])
        assert (n, first, last) == (80, values[0], values[-1])
        assert area == pytest.approx(np.trapezoid(values, seconds), rel=1e-9)
