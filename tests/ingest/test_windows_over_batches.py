"""Windows do not depend on how a tool's deliveries were cut into batches, nor on a working index that was lost in between."""

import pytest

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


def test_a_lost_index_names_the_same_chambers(tmp_path):
    payloads = [b"ch,t,w,a\nC,1,W1,1\n", trace(7, 3), event(2, 10, "", "W5"), event(3, 20)]

    def lose(path):
        for file in path.glob("index.sqlite*"):
            file.unlink()

    assert digest_of(tmp_path / "lost", payloads, lose) == digest_of(tmp_path / "kept", payloads)
