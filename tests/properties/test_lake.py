"""The whole lake: any cut, order, repetition and damage of a tool's deliveries gives the same content, and the account balances."""

import functools
import random
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import loadlock
from ingest.config import parse
from sample_data import secs_encoder as secs

CONFIG = parse(
    """
[models.etcher]
timezone = "UTC"
[models.etcher.traces.7]
chamber = "A"
period = 1.0
sensors = ["power", "pressure"]
[models.etcher.traces.8]
chamber = "B"
period = 1.0
sensors = ["flow"]
[models.etcher.events.1]
name = "LotStarted"
values = ["ts", "lot"]
[models.etcher.events.2]
name = "StepStarted"
values = ["ts", "chamber", "wafer", "step"]
window = "start"
[models.etcher.events.3]
name = "StepEnded"
values = ["ts", "step"]
window = "end"
[tools.T]
model = "etcher"
"""
)
FEW = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def stime(second):
    return f"2026031708{second // 60:02d}{second % 60:02d}00"


def sample(trid, number, second, value):
    values = [secs.item("F4", value), secs.item("U2", 7)] if trid == 7 else [secs.item("F8", value)]
    return secs.s6f1(secs.item("U1", trid), secs.item("U4", number), stime(second), values)


def event(ceid, second, *values):
    return secs.s6f11(ceid, [(1, [secs.text(stime(second)), *(secs.text(value) for value in values)])])


SECOND = st.one_of(st.integers(0, 8), st.integers(0, 50))
FRAME = st.one_of(
    st.builds(sample, st.sampled_from([7, 7, 8, 9]), st.integers(1, 6), SECOND, st.sampled_from([1.0, 2.5, 4.0])),
    st.builds(lambda s, lot: event(1, s, lot), SECOND, st.sampled_from(["L1", "L2"])),
    st.builds(
        lambda s, c, w, p: event(2, s, c, w, p),
        SECOND,
        st.sampled_from(["A", "B", ""]),
        st.sampled_from(["W1", "W2"]),
        st.sampled_from(["1", "2"]),
    ),
    st.builds(lambda s, p: event(3, s, p), SECOND, st.sampled_from(["1", "2"])),
)


def ingest(lake, payloads):
    for data in payloads:
        summary = lake.ingest(data=data, tool="T", format="hsms", config=CONFIG)
        balanced(summary)
    return lake


def balanced(summary):
    size, records = summary.bytes, summary.records
    assert size["in"] == sum(size[name] for name in ("accepted", "duplicate", "conflict", "quarantined", "other"))
    assert records["decoded"] == sum(records[name] for name in ("accepted", "duplicate", "conflict"))


@functools.cache
def template():
    """An empty lake to copy: making one takes longer than filling it."""
    folder = tempfile.TemporaryDirectory()
    loadlock.open(Path(folder.name) / "t.lake").close()
    return folder


@contextmanager
def fresh_lake():
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(Path(template().name) / "t.lake", Path(folder) / "t.lake")
        with loadlock.open(Path(folder) / "t.lake") as lake:
            yield lake


def with_lake(payloads):
    """Return (digest, content of the views that digests leave out, verify's faults) of a fresh lake."""
    with fresh_lake() as lake:
        ingest(lake, payloads)
        joined = lake.sql(
            "select tool, chamber, trace, seq, ts, position, lot, wafer, step, occurrence from samples order by all"
        ).fetchall()
        return lake.digest(), joined, lake.verify().faults


@given(st.lists(FRAME, min_size=2, max_size=40), st.randoms(use_true_random=False))
@FEW
def test_any_cut_order_and_repetition_gives_the_same_digest(frames, chance):
    whole, joined, faults = with_lake([b"".join(frames)])
    assert faults == []
    mixed = frames * 1
    chance.shuffle(mixed)
    mixed += chance.sample(mixed, min(3, len(mixed)))
    cuts = sorted(chance.sample(range(len(mixed) + 1), min(3, len(mixed))))
    payloads = [b"".join(mixed[a:b]) for a, b in zip([0, *cuts], [*cuts, len(mixed)], strict=True) if a < b]
    digest, also_joined, faults = with_lake(payloads)
    assert faults == []
    assert digest == whole
    assert also_joined == joined


@given(st.lists(FRAME, min_size=3, max_size=15), st.data())
@FEW
def test_a_frame_cut_by_two_payloads_is_joined_by_replay(frames, data):
    stream = b"".join(frames)
    cut = data.draw(st.integers(1, len(stream) - 1))
    whole, _, _ = with_lake([stream])
    with fresh_lake() as lake:
        ingest(lake, [stream[:cut], stream[cut:]])
        open_spans = lake.sql("select count(*) from quarantine where state = 'open'").fetchall()[0][0]
        balanced(lake.replay(config=CONFIG))
        assert lake.sql("select count(*) from quarantine where state = 'open'").fetchall() == [(0,)], open_spans
        assert lake.digest() == whole
        assert lake.verify().faults == []


@given(st.lists(FRAME, min_size=1, max_size=12), st.integers(0, 2**32), st.sampled_from(["flip", "insert", "remove"]))
@FEW
def test_a_damaged_byte_never_raises_and_the_account_balances(frames, seed, kind):
    chance = random.Random(seed)
    stream = bytearray(b"".join(frames))
    at = chance.randrange(len(stream))
    if kind == "flip":
        stream[at] ^= 1 << chance.randrange(8)
    elif kind == "insert":
        stream.insert(at, chance.randrange(256))
    else:
        del stream[at]
    with fresh_lake() as lake:
        ingest(lake, [bytes(stream)])
        assert lake.verify().faults == []
