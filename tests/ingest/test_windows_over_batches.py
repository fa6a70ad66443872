"""Windows do not depend on how a tool's deliveries were cut into batches, nor on a working index that was lost in between."""

import random

import pytest

import ingest.batch
import ingest.unpack
import loadlock
from ingest.config import parse
from sample_data import secs_encoder as secs

CONFIG = parse(
    """
[[sources]]
match = "cmp/*.csv"
format = "table"
table = "cmp"
[models.etcher]
timezone = "UTC"
[models.etcher.traces.7]
chamber = "A"
[models.etcher.events.2]
name = "StepStarted"
values = ["ts", "chamber", "wafer"]
window = "start"
[models.etcher.events.3]
name = "StepEnded"
values = ["ts"]
window = "end"
[tools.T]
model = "etcher"
[tables.cmp]
tool = "T"
chamber = "ch"
time = { column = "t", unit = "s", origin = "2026-03-17T08:00:00" }
context = { wafer = "w" }
sensors = ["a"]
"""
)


def stime(second):
    return f"202603170800{second:02d}00"


def trace(trid, second, value=1.0):
    return secs.s6f1(secs.item("U1", trid), secs.item("U4", 1), stime(second), [secs.item("F8", value)])


def event(ceid, second, *values):
    return secs.s6f11(ceid, [(1, [secs.text(stime(second)), *(secs.text(value) for value in values)])])


def digest_of(path, payloads, between=lambda path: None):
    for data in payloads:
        with loadlock.open(path) as lake:
            if data.startswith(b"ch,"):
                lake.ingest("cmp/x.csv", data=data, format="table", config=CONFIG)
            else:
                lake.ingest(data=data, tool="T", format="hsms", config=CONFIG)
        between(path)
    with loadlock.open(path) as lake:
        return lake.digest()


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param([event(2, 10, "", "W1"), trace(7, 11), trace(9, 12), event(3, 20)], id="a trace without a chamber comes late"),
        pytest.param([trace(7, 11), event(2, 10, "A", "W1"), event(2, 10, "A", "W2"), event(3, 20)], id="two starts at one time"),
        pytest.param([trace(7, 11), trace(7, 11, 2.0), event(2, 10, "A", "W1")], id="a start before a conflict comes late"),
    ],
)
def test_one_batch_gives_the_windows_of_many(frames, tmp_path):
    assert digest_of(tmp_path / "one", [b"".join(frames)]) == digest_of(tmp_path / "many", frames)


def windows_of(path, data, config):
    with loadlock.open(path) as lake:
        lake.ingest(data=data, tool="T", format="hsms", config=config)
        rows = lake.sql("select * exclude (window_id) from windows order by all").fetchall()
        return lake.digest(), rows, lake.sql("select count(*), count(distinct window_id) from windows").fetchall()


@pytest.mark.parametrize("seed", range(12))
def test_events_that_come_in_many_stretches_of_a_batch_give_the_windows_of_one(seed, tmp_path, monkeypatch):
    rng = random.Random(seed)
    seconds = sorted(rng.choices(range(60), k=40), key=lambda second: second + rng.choice([0, 0, 0, 0, 3, 30]))
    frames = []
    for second in seconds:
        kind = rng.choice(["trace", "start", "start", "end"])
        frames.append(
            trace(rng.choice([7, 9]), second, float(second))
            if kind == "trace"
            else event(2, second, rng.choice(["", "A", "B"]), rng.choice(["W1", "W2"]))
            if kind == "start"
            else event(3, second)
        )
    whole = windows_of(tmp_path / "whole", b"".join(frames), CONFIG)
    monkeypatch.setattr(ingest.batch, "SEGMENT_SAMPLES", 1)
    monkeypatch.setattr(ingest.unpack, "CHUNK_BYTES", rng.choice([50, 150, 400]))
    assert windows_of(tmp_path / "stretches", b"".join(frames), CONFIG) == whole


def test_a_lost_index_names_the_same_chambers(tmp_path):
    payloads = [b"ch,t,w,a\nC,1,W1,1\n", trace(7, 3), event(2, 10, "", "W5"), event(3, 20)]

    def lose(path):
        for file in path.glob("index.sqlite*"):
            file.unlink()

    assert digest_of(tmp_path / "lost", payloads, lose) == digest_of(tmp_path / "kept", payloads)
