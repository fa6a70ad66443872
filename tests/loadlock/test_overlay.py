"""Overlays of long windows: what is sent stays small, extremes stay exact, and a zoom does not read what is at hand."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.exceptions import StarletteDeprecationWarning

import loadlock
from kernels.downsample import extremes
from loadlock.console import lines
from loadlock.console.app import application
from loadlock.console.series import CELLS, overlay
from loadlock.console.shelf import Shelf

with warnings.catch_warnings():
    warnings.simplefilter("ignore", StarletteDeprecationWarning)  # it would rather have another httpx
    from starlette.testclient import TestClient

CONFIG = """\
[[sources]]
match = "drop/*.parquet"
format = "table"
table = "etch"

[tables.etch]
tool = "E1"
time = { column = "TIME" }
key = ["HEAD"]
context = { wafer = "WAFER", step = "STEP" }
sensors = ["RF"]
"""
LONG, SHORT, SPIKE = 600_000, 1_000, 123_457
OFFSET = 1e9


def write(folder: Path, name: str, wafer: str, values: Any, *, start_ms: int, heads: int = 1) -> Path:
    """Write a delivery of one wafer, a sample a millisecond."""
    (folder / "drop").mkdir(exist_ok=True)
    n = len(values)
    time = pa.array((1_767_225_600_000 + start_ms + np.arange(n)) * 1000, pa.timestamp("us"))
    head = [f"H{i % heads}" for i in range(n)]
    columns = {"TIME": time, "HEAD": head, "WAFER": [wafer] * n, "STEP": ["main"] * n, "RF": np.asarray(values, np.float64)}
    pq.write_table(pa.table(columns), folder / "drop" / name)
    return folder / "drop" / name


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with a window of 600,000 samples around 1e9, one of them a spike, and four short ones; one of these has two streams."""
    folder = tmp_path_factory.mktemp("overlay")
    (folder / "loadlock.toml").write_text(CONFIG, encoding="utf-8")
    long = OFFSET + np.arange(LONG) % 7 / 7
    long[SPIKE] = OFFSET + 99.5
    write(folder, "0.parquet", "W0", long, start_ms=0)
    for i in range(1, 4):
        write(folder, f"{i}.parquet", f"W{i}", OFFSET + np.arange(SHORT) % 5, start_ms=LONG + 10_000 * i)
    write(folder, "4.parquet", "W4", np.arange(SHORT) % 2 * 50, start_ms=LONG + 90_000, heads=2)
    with loadlock.open(folder / "fab.lake") as lake:
        assert lake.ingest(folder / "drop", config=folder / "loadlock.toml").payloads["committed"] == 5
    return folder


@pytest.fixture(scope="module")
def lake(folder: Path) -> Iterator[Any]:
    with loadlock.open(folder / "fab.lake", read_only=True) as lake:
        yield lake


def window(lake: Any, wafer: str) -> int:
    ((found,),) = lake.sql("SELECT window_id FROM windows WHERE wafer = ?", [wafer]).fetchall()
    return int(found)


def test_the_whole_series_is_never_sent(folder: Path) -> None:
    asked = {"tool": "E1", "wafer": "W0", "step": "main", "sensor": "RF"}
    with TestClient(application(folder / "fab.lake"), base_url="http://localhost") as client:
        page = client.get("/wafer", params=asked)
        whole = client.get("/overlay", params=asked)
        part = client.get("/overlay", params=asked | {"from": "100", "to": "400"})
    assert len(page.content) < 20_000
    for answer, samples in ((whole, LONG + 4 * SHORT), (part, pytest.approx(300_001, rel=0.001))):
        document = answer.json()
        assert document["samples"] == samples
        assert document["shown"] == sum(len(line["x"]) for line in document["data"]) < 8_000
        assert len(answer.content) < 250_000
        line = document["data"][-1]
        place = int(np.argmax(line["y"]))
        assert (line["x"][place], line["y"][place]) == (SPIKE / 1000, OFFSET + 99.5)
    assert (whole.json()["counted"], part.json()["counted"]) == (True, False)


def test_a_zoom_reads_only_what_is_not_at_hand(lake: Any) -> None:
    connection, shelf, windows = lake.store.connection, Shelf(), [window(lake, f"W{i}") for i in range(4)]

    def zoom(*span: float) -> dict[str, Any]:
        return overlay(connection, "E1", "RF", windows, span or None, marked=windows[:1], shelf=shelf)

    zoom()
    zoom()
    zoom(20, 320)
    assert shelf.reads == 1
    near = zoom(123.4, 123.6)
    assert shelf.reads == 2, "one window is too long to hold all of it"
    line = near["lines"][0]
    at = np.round(np.array(line["x"]) * 1000).astype(int)
    assert at.tolist() == list(range(123_400, 123_601)), "every sample of the stretch"
    np.testing.assert_allclose(line["y"], np.where(at == SPIKE, OFFSET + 99.5, OFFSET + at % 7 / 7), rtol=0, atol=1e-4)
    assert near["samples"] == near["shown"] == 201
    zoom(123.5, 123.55)
    zoom(123.3, 123.5)
    assert shelf.reads == 2, "what is beside and inside a stretch is at hand"


def test_the_least_used_lines_leave(lake: Any) -> None:
    shelf = Shelf(points=2 * SHORT)
    for wafer, reads in (("W1", 1), ("W2", 2), ("W1", 2), ("W3", 3), ("W1", 3), ("W2", 4)):
        assert overlay(lake.store.connection, "E1", "RF", [window(lake, wafer)], shelf=shelf)["samples"] == SHORT
        assert shelf.reads == reads, wafer


def test_streams_of_one_window_are_lines_of_their_own(lake: Any) -> None:
    found = overlay(lake.store.connection, "E1", "RF", [window(lake, "W4")])
    assert sorted(sorted(set(line["y"])) for line in found["lines"]) == [[0.0], [50.0]]
    assert {line["trace"] for line in found["lines"]} == {"etch"}


def test_new_samples_of_a_window_are_seen(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "loadlock.toml").write_text(CONFIG, encoding="utf-8")
    shelf = Shelf()
    with loadlock.open(tmp_path / "fab.lake") as lake:
        for name, start_ms, samples in (("a", 0, SHORT), ("b", SHORT, 2 * SHORT)):
            file = write(tmp_path, f"{name}.parquet", "W1", np.arange(SHORT), start_ms=start_ms)
            lake.ingest(file, config=tmp_path / "loadlock.toml")
            assert overlay(lake.store.connection, "E1", "RF", [window(lake, "W1")], shelf=shelf)["samples"] == samples


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_a_line_that_grew_in_pieces_draws_as_one(data: Any) -> None:
    """Whatever the order of the pieces: what is drawn from the thinned line is what all samples would draw."""
    n, seed = data.draw(st.integers(1, 4000)), data.draw(st.integers(0, 99))
    random = np.random.default_rng(seed)
    since_us = np.cumsum(random.integers(1, 2000, n))
    values = random.normal(size=n)
    values[random.random(n) < 0.05] = np.nan
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=5)))
    pieces = data.draw(st.permutations(list(zip([0, *cuts], [*cuts, n], strict=True))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "FINE", 100)
        patch.setattr(lines, "MOST", 600)
        growing = lines.Growing()
        for begin, end in pieces:
            growing.add(since_us[begin:end], np.arange(begin, end), values[begin:end])
        line = growing.line(1, 0, "t")
    assert len(line.seq) <= 600
    assert line.weight.sum() == n
    cells = data.draw(st.integers(1, 20))
    places, samples = line.cut(-(2**60), 2**60, cells)
    assert samples == n
    if len(line.seq) > 6 * cells and line.cell_us:
        cell_us = lines.cell_of(int(since_us[-1] - since_us[0]), cells)
        assert line.seq[places].tolist() == extremes(since_us, values, cell_us).tolist()
    assert CELLS < lines.FINE / 50
