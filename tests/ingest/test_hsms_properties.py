"""Any cut gives the same; any damage is walled off: bytes tile, and every frame but the damaged one comes through."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.config import EventModel, Limits, Model, TraceModel
from ingest.dictionary import Dictionary
from ingest.formats.hsms import HsmsDecoder
from ingest.records import Decoded
from kernels.reference.encode import LINKTEST, alarm, event, f4s, frame, item, listed, raw_item, report, text, trace
from kernels.reference.frames import Limits as TwinLimits
from kernels.reference.frames import in_step
from kernels.reference.secs import Fault

MODEL = Model(
    timezone="Europe/Berlin",
    traces={"7": TraceModel(period=0.5), "8": TraceModel(period=0.1, group=2)},
    events={"9": EventModel(name="Start", values=("ts", "lot"), window="start")},
)
LIMITS = Limits(frame_bytes=4096, depth=8, children=500)
NAMES = frame(1, 12, listed(listed(item("U4", 1), text("temp"), text("C"))))
REQUEST = frame(2, 23, listed(item("U4", 5), text("000001"), item("U4", 9), item("U4", 1), listed(item("U4", 1))))

SOUND = [
    trace(),
    trace(smpln=3, stime=""),
    trace(smpln=5, trid=text("RF"), stime="20261025023000"),
    trace(listed(*[item("F4", i / 3) for i in range(40)]), trid=8, smpln=8),
    trace(listed(text("IDLE"), item("U8", (1 << 60) + 1), listed()), trid=9),
    trace(f4s(1), trid=5),
    event(9, report(1, text("20261123143500"), text("L1"))),
    event(10, report(1, item("F8", math.pi)), dataid=4),
    alarm(130, 6, "hot"),
    LINKTEST,
    NAMES,
    REQUEST,
]
FAULTY = [
    frame(6, 1, b"\x91\x03abc"),
    trace(stime="no time"),
    trace(f4s(1, 2, 3), trid=8),
    frame(1, 1, session=0x9000),
    b"\0\0\0\1" * 3,
    b"\xff" * 50,
    b"\0\0\x0f\0\0\1\6\3\0\0" + bytes(7),
    trace()[:-4],
    trace(f4s(*range(50)), trid=5)[20:],
]


def run(data: bytes, cuts: Iterable[int] = (), model: Model | None = MODEL) -> tuple[list[Decoded], HsmsDecoder]:
    decoder = HsmsDecoder("T", {"chamber": "A"}, model, Dictionary(), LIMITS)
    parts, last = [], 0
    for cut in [*sorted(cuts), len(data)]:
        parts += list(decoder.feed(data[last:cut]))
        last = cut
    parts += list(decoder.finish())
    return parts, decoder


def normal(parts: list[Decoded]) -> dict[str, Any]:
    """All that came out, in the order of the payload, free of how it was cut."""
    records, events, rejected = [], [], []
    for part in parts:
        r, e = part.records, part.events
        for i in range(len(r.seq) if r else 0):
            assert r is not None
            layout, frame_no = r.layouts[r.layout[i]], int(r.frame[i])
            values = r.values[r.value_start[i] : r.value_start[i] + len(layout)].tobytes()
            texts = list(r.texts.of(i))
            stream = int(r.stream[i])
            key = (r.streams[stream], r.period_us[stream], layout, int(r.seq[i]), int(r.time_us[i]), int(r.late_us[i]), values, texts)
            records.append((int(part.frame_start[frame_no]), int(part.frame_stop[frame_no]), *key))
        if e is not None:
            kinds = [tuple(e.kinds[i]) for i in e.kind.tolist()]
            columns = (kinds, e.dataid.to_pylist(), e.time_us, e.late_us, e.vars.to_pylist(), e.body.to_pylist(), e.system)
            starts = part.frame_start[e.frame].tolist()
            events += [(start, *row) for start, *row in zip(starts, *columns, strict=True)]
        rejected += [(s.start, s.stop, s.reason, s.detail, s.data) for s in part.rejected]
    return {
        "records": sorted(records, key=lambda row: (row[0], row[5])),
        "events": sorted(events, key=lambda row: row[0]),
        "rejected": sorted(rejected),
        "other": (sum(p.other_bytes for p in parts), sum(p.other_frames for p in parts)),
    }


def tiles(data: bytes, parts: list[Decoded]) -> None:
    """Frames and rejected spans don't overlap, hold the payload's bytes, and what is left is counted as other."""
    taken = np.zeros(len(data), np.int64)
    for part in parts:
        for start, stop in zip(part.frame_start.tolist(), part.frame_stop.tolist(), strict=True):
            taken[start:stop] += 1
        for span in part.rejected:
            assert data[span.start : span.stop] == span.data
            taken[span.start : span.stop] += 1
    assert not len(taken) or taken.max() <= 1
    assert sum(part.other_bytes for part in parts) == int((taken == 0).sum())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(SOUND + FAULTY), max_size=12), st.data())
def test_any_cut_gives_the_same(frames: list[bytes], data: st.DataObject):
    payload = b"".join(frames)
    whole, decoder = run(payload)
    tiles(payload, whole)
    cuts = data.draw(st.lists(st.integers(0, len(payload)), max_size=8))
    parts, other = run(payload, cuts)
    assert normal(parts) == normal(whole)
    assert other.dictionary == decoder.dictionary


def test_one_byte_at_a_time():
    payload = b"".join(SOUND + FAULTY[:6] + SOUND)
    assert normal(run(payload, range(len(payload)))[0]) == normal(run(payload)[0])


NEIGHBOURS = [
    trace(f4s(1.25, 2.5, -3.75, 1e6), smpln=100),
    event(10, report(1, item("F4", 7.5), text("LOT7"))),
    trace(listed(item("F8", 0.1), item("I2", -5), raw_item("BOOL", b"\1")), smpln=101),
    LINKTEST,
    trace(f4s(*(0.5 * i for i in range(30))), smpln=102),
    alarm(129, 77, "door"),
    trace(f4s(9.5), smpln=103),
]


def still_sound(payload: bytes, start: int) -> bool:
    try:
        in_step(payload, start, TwinLimits(LIMITS.frame_bytes, LIMITS.depth, LIMITS.children))
    except Fault:
        return False
    return True


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damage_costs_no_frame_but_the_damaged_one(data: st.DataObject):
    """One byte flipped, inserted or removed in frame k: every other frame is decoded as without the damage, byte for byte.

    One case is beyond reach: with a byte gone, the first byte of the next frame can complete frame k to a sound one, which no
    reader can tell, and then the next frame has lost its beginning. All rejected bytes are within frame k (there: k + 1).
    """
    k = data.draw(st.integers(0, len(NEIGHBOURS) - 1))
    at = data.draw(st.integers(0, len(NEIGHBOURS[k]) - 1))
    kind = data.draw(st.sampled_from(["flip", "insert", "remove"]))
    byte = data.draw(st.integers(1, 255))
    victim = bytearray(NEIGHBOURS[k])
    if kind == "flip":
        victim[at] ^= byte
    elif kind == "insert":
        victim.insert(at, byte)
    else:
        del victim[at]
    frames = [*NEIGHBOURS[:k], bytes(victim), *NEIGHBOURS[k + 1 :]]
    payload = b"".join(frames)
    parts, _ = run(payload, model=None)
    tiles(payload, parts)
    edges = np.cumsum([0, *map(len, frames)]).tolist()
    found = {(a, b) for part in parts for a, b in zip(part.frame_start.tolist(), part.frame_stop.tolist(), strict=True)}
    lost = {k, k + 1} if kind == "remove" and still_sound(payload, edges[k]) else {k}
    for i, sound in enumerate(frames):
        if i not in lost and sound != LINKTEST:
            assert (edges[i], edges[i + 1]) in found
    for part in parts:
        for span in part.rejected:
            assert edges[k] <= span.start
            assert span.stop <= edges[min(max(lost) + 1, len(frames))]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(SOUND), st.binary(max_size=60)), max_size=8))
def test_noise_between_frames_never_raises(pieces: list[bytes]):
    payload = b"".join(pieces)
    tiles(payload, run(payload)[0])
