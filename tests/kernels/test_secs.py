"""The frame kernel against its twin, and its way through buffers."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import config
from ingest.hsms_frames import FrameWalker
from kernels import secs
from kernels import secs_items as codes
from kernels.reference.encode import alarm, control, event, f4s, frame, item, listed, raw_item, report, text, trace, trace_body
from kernels.reference.frames import Limits, Unit, units
from kernels.reference.secs import is_text_number, parse_time
from kernels.secs_values import SIDE_NUMBER, SIDE_SIGNED, SIDE_UNSIGNED

LIMITS = Limits(frame_bytes=4096, depth=6, children=300)
KINDS = {secs.EVENT: "event", secs.ALARM: "alarm", secs.DICTIONARY: "dictionary", secs.REJECTED: "rejected"}
FLAGS = ["empty", "local", "utc", "unreadable"]


def walked(data: bytes, limits: Limits = LIMITS, final: bool = True) -> tuple[list[Unit], int, FrameWalker]:
    """Units as the kernel finds them, and how many bytes were other; other frames themselves are only counted."""
    walker = FrameWalker(config.Limits(frame_bytes=limits.frame_bytes, depth=limits.depth, children=limits.children))
    buf = np.frombuffer(data, np.uint8)
    out, other = [], 0
    while True:
        why, stretch = walker.run(buf, final)
        other += stretch.other_bytes
        out += [
            Unit(KINDS[kind], start, stop, code if kind == secs.REJECTED else codes.OK)
            for start, stop, kind, code, *_ in stretch.spans.T.tolist()
            if kind != secs.DICTIONARY
        ]
        sides: dict[int, list[tuple[int, int, int, int]]] = {}
        for message, position, kind, a, length in stretch.sides.T.tolist():
            sides.setdefault(message, []).append((position, kind, a, length))
        for i, (start, stop, number, seq, us, flag, first, count) in enumerate(stretch.messages.T.tolist()):
            values: list[Any] = stretch.values[first : first + count].tolist()
            bits = stretch.values[first : first + count].astype(np.float64).view(np.int64)
            exact = {position: (kind, a, length) for position, kind, a, length in sides.get(i, [])}
            trid = walker.traces[number].encode("latin-1")
            out.append(Unit("trace", start, stop, 0, (trid, seq, (FLAGS[flag], us), normal(values, bits.tolist(), exact, data))))
        if why in (secs.END, secs.NEED):
            return sorted(out, key=lambda u: u.start), other, walker


def normal(values: list[Any], bits: list[int], exact: dict[int, tuple[int, int, int]], data: bytes) -> list[Any]:
    out: list[Any] = []
    for i, value in enumerate(values):
        if i not in exact:
            out.append(None if bits[i] == secs_null() else "nan" if math.isnan(value) else value)
            continue
        kind, a, length = exact[i]
        if kind == SIDE_SIGNED:
            out.append((a, float(a) == value))
        elif kind == SIDE_UNSIGNED:
            out.append((a & (1 << 64) - 1, float(a & (1 << 64) - 1) == value))
        else:
            assert bits[i] == secs_null()
            out.append((kind == SIDE_NUMBER, data[a : a + length]))
    return out


def secs_null() -> int:
    from kernels.missing import NULL_BITS

    return int(NULL_BITS)


def expected(data: bytes, limits: Limits = LIMITS) -> tuple[list[Unit], int]:
    out, other = [], 0
    for unit in units(data, limits):
        if unit.kind in ("other", "dictionary"):
            other += unit.stop - unit.start
        elif unit.kind == "trace":
            name, number, stime, positions = unit.content
            content = (name, number, parse_time(stime), [twin_value(v) for v in positions])
            out.append(unit._replace(content=content))
        else:
            out.append(unit)
    return out, other


def twin_value(value: Any) -> Any:
    if isinstance(value, tuple):
        kind, raw = value
        number = is_text_number(raw) if kind != codes.LOCALIZED else None
        if number is None:
            return False, raw
        mantissa = raw.strip().lower().split(b"e")[0]
        difficult = sum(c in b"0123456789" for c in mantissa.lstrip(b"+-0.")) > 15
        return (True, raw) if difficult else number
    if isinstance(value, int) and abs(value) > 1 << 53:
        return value, True
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    return None if value is None else float(value)


def agree(data: bytes, limits: Limits = LIMITS) -> None:
    assert walked(data, limits)[:2] == expected(data, limits)


EVERY_FORM = listed(
    item("F4", 1.5),
    item("F8", -0.0),
    item("F4", math.nan),
    item("F8", math.inf),
    item("I1", -1),
    item("I2", -300),
    item("I4", -70_000),
    item("I8", -(1 << 60) + 1),
    item("U1", 255),
    item("U2", 65_535),
    item("U4", 1 << 31),
    item("U8", (1 << 64) - 1),
    item("U8", 1 << 53),
    item("U8", (1 << 53) + 1),
    item("I8", -(1 << 53)),
    item("I8", -(1 << 63)),
    raw_item("BOOL", b"\2"),
    raw_item("BOOL", b"\0\1"),
    raw_item("B", b"\x80"),
    raw_item("B", b"\1\2\3"),
    text(" 12.5 "),
    text("IDLE"),
    text(""),
    text("0.1234567890123456789"),
    text("1e5"),
    text(".5"),
    text("5."),
    text("."),
    text("1e"),
    raw_item("J", b"-7"),
    raw_item("C", b"\0\2x"),
    raw_item("C", b""),
    listed(),
    listed(item("U2", 1, 2, 3), listed(item("F4", 2.5), listed(item("F4")))),
    item("F4", 3.5, count=2),
    item("F4", 3.5, 4.5, count=3),
    item("U8", 1, 1 << 60, 2),
)


def test_every_form():
    agree(trace(EVERY_FORM))


@pytest.mark.parametrize("count", [1, 15, 16, 17, 32, 40])
@pytest.mark.parametrize("odd", [None, 0, 15, 16, -1])
def test_runs_of_f4_with_one_other_item(count: int, odd: int | None):
    values = [item("F4", 0.25 * i if i % 7 else math.nan) for i in range(count)]
    if odd is not None and -1 <= odd < count:
        values[odd] = item("I2", 5)
    agree(trace(listed(*values)) + trace())


def test_nan_and_null_bit_patterns():
    walker = FrameWalker(config.Limits())
    values = raw_item("F4", b"\xff\xc1\x23\x45") + raw_item("F8", b"\x7f\xf8\0\0NULL") + item("F4")
    body = listed(*[raw_item("F4", b"\x7f\x80\0\1")] * 16)
    _, stretch = walker.run(np.frombuffer(trace(b"\x01\x03" + values) + trace(body), np.uint8), True)
    from kernels.missing import NAN_BITS, NULL_BITS

    assert stretch.values.view(np.int64).tolist() == [NAN_BITS, NAN_BITS, NULL_BITS] + [NAN_BITS] * 16


IDS = [item("U1", 7), item("I2", 7), item("U8", 7), item("I8", 7), text("7"), text(" 007 "), text("+7"), raw_item("J", b"7")]


def test_one_trace_whatever_the_width_of_its_id():
    data = b"".join(trace(trid=trid) for trid in IDS)
    assert walked(data)[2].traces == ["7"]
    agree(data)


ODD_IDS = [item("I1", -5), item("U8", (1 << 64) - 1), item("I8", -(1 << 63)), text("RF"), text("x" * 1024), text(b"\xe9"), item("U4", 5000)]
BAD_IDS = [
    item("U4"),
    item("U4", 1, 2),
    text(""),
    text("  "),
    text("x" * 1025),
    item("F4", 1),
    raw_item("B", b"\1"),
    listed(),
    raw_item("C", b""),
]


def test_ids_of_all_kinds():
    agree(b"".join(trace(trid=trid) for trid in ODD_IDS))
    agree(b"".join(trace(trid=trid) for trid in BAD_IDS))
    smplns = [
        item("I8", -3),
        text("12"),
        text("-12"),
        item("U8", (1 << 63) - 1),
        item("U8", 1 << 63),
        text("9" * 19),
        text("1.0"),
        *BAD_IDS,
    ]
    agree(b"".join(trace(smpln=smpln) for smpln in smplns))


def test_many_traces_grow_the_table():
    data = b"".join(trace(trid=text(f"TRACE-{i}") if i % 3 else i * 1000) for i in range(900))
    assert len(walked(data)[2].traces) == 900
    agree(data * 2)


SHAPES = [
    frame(6, 1),
    frame(6, 11),
    frame(5, 1),
    frame(6, 1, listed(item("U4", 1), item("U4", 1), text(""))),
    frame(6, 1, item("F4", 1.0)),
    frame(6, 1, trace_body(item("F4", 1, 2, 3))),
    frame(6, 1, trace_body(text("12"))),
    frame(6, 1, trace_body(item("F4"))),
    frame(6, 1, trace_body(listed())),
    frame(6, 1, trace_body(f4s(1), stime=listed())),
    frame(6, 1, trace_body(f4s(1), stime=item("U4", 5))),
    frame(6, 11, listed(item("U4", 1), item("U4", 1))),
    frame(6, 11, listed(item("U4", 1), item("U4", 1), listed(item("U4", 1)))),
    frame(6, 11, listed(item("U4", 1), item("F4", 1), listed())),
    frame(6, 11, listed(item("U4"), text("CE"), listed(report(1, f4s(1))))),
    frame(6, 11, listed(listed(), item("U4", 1), listed(listed(item("U4", 1), item("U4", 1))))),
    event(5, report(1), report(2, text("a"))),
    alarm(129, 5, "hot"),
    frame(5, 1, listed(raw_item("B", b"\1\2"), item("U4", 1), text(""))),
    frame(5, 1, listed(item("U1", 1), text("A1"), listed())),
    frame(5, 1, listed(item("U1", 1), text(""), listed())),
    frame(1, 13, listed()),
    frame(1, 1),
    frame(2, 23, listed()),
    control(1),
    control(7, session=3),
]


def test_shapes():
    agree(b"".join(SHAPES))


FAULTY = [
    b"\0\0\0\x09" + bytes(9),
    b"\x7f\xff\xff\xff" + bytes(20),
    frame(1, 1, session=0x8001),
    control(8),
    frame(0, 0, b"\0\0", stype=5, session=0xFFFF),
    frame(6, 1, b"\x03"),
    frame(6, 1, b"\xfd\x00"),
    frame(6, 1, trace_body(f4s(1)) + b"\0"),
    frame(6, 1, b"\xb0\x00"),
    frame(6, 1, b"\xb1\x03\1\2\3"),
    frame(6, 1, b"\x91\x08\1\2\3\4"),
    frame(6, 1, b"\x01\x09\1\2"),
    frame(6, 1, b"\x49\x01a"),
    frame(6, 3, b"\x01\x01" * 7 + b"\x41\0"),
    frame(6, 3, b"\x02\x01\x2d" + b"\x41\0" * 301),
    frame(6, 3, listed(b"\x42\x00")),
    frame(9, 9, raw_item("B", bytes(10)))[:-3],
]


@pytest.mark.parametrize("bad", FAULTY)
def test_faults_between_sound_frames(bad: bytes):
    agree(bad)
    agree(trace() + bad + trace(smpln=2) + event(5) + control(5))
    agree(bad + bad + trace())


def test_region_longer_than_a_frame_is_cut():
    limits = Limits(64, 6, 300)
    for extra in range(0, 150):
        agree(trace(f4s(1)) + b"\xff" * extra + frame(1, 1) + trace(f4s(1)), limits)
        agree(b"\xff" * extra, limits)


def test_torn_tails():
    data = trace() + control(5) + trace(smpln=2)
    for stop in range(len(data)):
        agree(data[:stop])


def test_frame_inside_a_frame_whose_length_runs_past_the_end():
    agree(b"\0\0\x0f\x00" + trace()[4:] + trace(smpln=2) + control(5))


def test_budget_stops_walks_in_vain():
    """Each byte of the hostile payload begins a candidate whose check walks far: time stays linear, bytes still tile."""
    unit = b"\0\0\x40\0\0\1\x06\3\0\0" + bytes(4) + b"\x01\xff" + b"\x41\0" * 20
    data = unit * 3000
    walker = FrameWalker(config.Limits())
    walker.state[secs.CREDIT] = 1000
    _, stretch = walker.run(np.frombuffer(data, np.uint8), True)
    spans = stretch.spans[:2].T
    assert spans[0, 0] == 0
    assert spans[-1, 1] == len(data)
    assert walker.state[secs.CREDIT] >= 0


SOUND = [trace(), trace(EVERY_FORM, smpln=3), event(5, report(1, item("F4", 1))), control(5), frame(1, 1), alarm(1, 2, "x"), *SHAPES]


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_damaged_captures_agree_with_the_twin(data: st.DataObject):
    frames = data.draw(st.lists(st.sampled_from(SOUND + FAULTY), min_size=1, max_size=6))
    payload = bytearray(b"".join(frames))
    rng = random.Random(data.draw(st.integers(0, 1 << 30)))
    for _ in range(data.draw(st.integers(0, 3))):
        at = rng.randrange(len(payload))
        kind = rng.randrange(3)
        if kind == 0:
            payload[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            payload.insert(at, rng.choice([0, 1, 10, 255]))
        elif len(payload) > 1:
            del payload[at]
    agree(bytes(payload))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_noise_agrees_with_the_twin(noise: bytes):
    agree(noise, Limits(100, 6, 300))
    agree(trace() + noise + trace(), Limits(200, 6, 300))
