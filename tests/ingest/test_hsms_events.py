"""Events by plans against events by trees: the same columns, event by event."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingest.config import EventModel, Limits, Model
from ingest.dictionary import Dictionary
from ingest.event_plans import MOST_TOKENS
from ingest.event_trees import EventTree, TreeReader
from ingest.formats.hsms import HsmsDecoder
from ingest.hsms_events import EventReader
from ingest.records import NO_TIME, EventKind, Events
from ingest.zone import to_utc
from kernels import secs
from kernels.reference.encode import LETTERS, alarm, event, frame, item, listed, raw_item, report, text
from kernels.secs_text import LOCAL, UNREADABLE, parse_stimes

MODEL = Model(
    timezone="Europe/Berlin",
    events={
        "9": EventModel(name="Start", values=("ts", "lot", "chamber", "wafer", "P", "recipe", "step"), window="start"),
        "10": EventModel(values=("T", "ts", "ts", "value3", "lot"), chamber="B"),
        "11": EventModel(values=("T", "T")),
        "12": EventModel(values=("value2",)),
        "DOOR": EventModel(values=("Öffnung", "ts"), window="end"),
    },
)
LIMITS = Limits(frame_bytes=1 << 20, depth=12, children=1 << 17)
NAMES = [listed(item("U4", i), text(name), text("")) for i, name in ((1, "temp"), (2, "druck µ"), (3, "1"), (4, '"q"'))]
REPORTS = [(1, (1, 2)), (2, (3,)), (4, (4, 2)), (5, (1, 99))]


def dictionary() -> Dictionary:
    """Names of four SVs and reports that use them."""
    links = listed(*(listed(item("U4", r), listed(*(item("U4", v) for v in vids))) for r, vids in REPORTS))
    learn = frame(1, 12, listed(*NAMES)) + frame(2, 33, listed(item("U4", 0), links))
    decoder = HsmsDecoder("T", {}, None, Dictionary(), LIMITS)
    assert not any(part.rejected for part in [*decoder.feed(learn), *decoder.finish()])
    return decoder.dictionary


LEARNED = dictionary()


def spans_of(frames: list[bytes]) -> np.ndarray:
    spans = np.zeros((secs.SPAN, len(frames)), np.int64)
    spans[secs.SPAN_STOP] = np.cumsum([len(one) for one in frames])
    spans[secs.SPAN_START] = spans[secs.SPAN_STOP] - [len(one) for one in frames]
    spans[secs.SPAN_KIND] = [secs.ALARM if one[6] & 0x7F == 5 else secs.EVENT for one in frames]
    return spans


def time_of(tree: EventTree, zone: str) -> tuple[int, int] | None:
    """Return both readings of the tree's time, or None where it is none."""
    raw = tree.ts.encode("latin-1", "replace")
    flag, us = np.zeros(1, np.int64), np.zeros(1, np.int64)
    parse_stimes(np.frombuffer(raw + b"\0", np.uint8), np.array([0]), np.array([len(raw)]), flag, us)
    if flag[0] == UNREADABLE:
        return None
    early, late = to_utc(us, zone) if flag[0] == LOCAL else (us, us)
    return (int(early[0]), int(late[0])) if flag[0] else (NO_TIME, NO_TIME)


def expected(frames: list[bytes], model: Model) -> list[tuple[Any, ...]]:
    reader = TreeReader("A", model, LEARNED)
    out = []
    for one in frames:
        tree = reader.read(one)
        times = time_of(tree, model.timezone)
        if times is not None:
            kind = EventKind(tree.event, tree.ceid, tree.role, tree.chamber, tree.context)
            out.append((kind, tree.dataid, *times, tree.vars, one[14:], int.from_bytes(one[10:14], "big")))
    return out


def rows(e: Events | None) -> list[tuple[Any, ...]]:
    if e is None:
        return []
    kinds = [e.kinds[i] for i in e.kind.tolist()]
    columns = (e.dataid, e.time_us, e.late_us, e.vars, e.body, e.system)
    return list(zip(kinds, *(column.tolist() for column in columns), strict=True))


def agree(frames: list[bytes], model: Model = MODEL, reader: EventReader | None = None) -> None:
    reader = reader or EventReader("T", "A", model, LEARNED, LIMITS)
    found = reader.read(np.frombuffer(b"".join(frames), np.uint8), spans_of(frames))
    assert rows(found.columns) == expected(frames, model)
    assert len(found.starts) + len(found.bad) == len(frames)
    assert found.columns is None or found.columns.frame.tolist() == list(range(len(found.starts)))


SPECIAL = [
    0.0,
    -0.0,
    1.5,
    0.1,
    1e15,
    1e16,
    1e-4,
    9.9e-5,
    999999999999999.0,
    1e22,
    5e-324,
    -1.7976931348623157e308,
    123456.789,
    0.30000000000000004,
]
FLOATS = st.one_of(
    st.floats(),
    st.sampled_from([*SPECIAL, math.nan, math.inf, -math.inf]),
    st.builds(lambda m, k: m / 10**k, st.integers(-(10**16), 10**16), st.integers(0, 12)),
)
RANGES = {form: (-(1 << 8 * int(form[1]) - 1), (1 << 8 * int(form[1]) - 1) - 1) for form in LETTERS if form[0] == "I"}
RANGES |= {form: (0, (1 << 8 * int(form[1])) - 1) for form in LETTERS if form[0] == "U"}
TEXTS = st.one_of(
    st.sampled_from(
        ["", " ", "IDLE", " L1\0", 'a"b\\c', "\n\t\x01\x7f", "µm", "20261123143500", "2026-10-25T02:30:00", "20261025023000", "12"]
    ),
    st.text(max_size=8),
).map(lambda s: s.encode("utf-8", "replace"))


@st.composite
def leaves(draw: st.DrawFn) -> bytes:
    form = draw(st.sampled_from([*LETTERS, "A", "A", "A", "B", "BOOL", "J", "C"]))
    width = draw(st.integers(0, 3))
    if form in ("A", "J"):
        return raw_item(form, draw(TEXTS | st.binary(max_size=6)), width)
    if form == "C":
        return raw_item(form, draw(st.sampled_from([b"", b"\0\2", b"\0\2x\xc2\xb5", b"\0\1\0a", b"\0\x08\x83A", b"\0\7a"])), width)
    count = draw(st.sampled_from([1, 1, 1, 0, 2, 5]))
    if form in ("B", "BOOL"):
        return raw_item(form, draw(st.binary(min_size=count, max_size=count)), width)
    if form == "F4":
        return raw_item(form, draw(st.binary(min_size=4 * count, max_size=4 * count)), width)
    value = FLOATS if form == "F8" else st.integers(*RANGES[form])
    return item(form, *draw(st.lists(value, min_size=count, max_size=count)), count=width)


VALUES = st.recursive(leaves(), lambda inner: st.lists(inner, max_size=4).map(lambda some: listed(*some)), max_leaves=6)
IDS = st.one_of(
    st.integers(0, 12).map(lambda i: item("U4", i)),
    st.integers(8, 12).map(lambda i: item("I1", i)),
    st.sampled_from([text("DOOR"), text(" 9 "), text("+010"), text("Ä"), text(b"\xff"), raw_item("J", b"a\\\xb1"), raw_item("J", b" 9\0")]),
    st.sampled_from(
        [item("U8", (1 << 64) - 1), item("I8", -(1 << 63)), text("9" * 19), text("-9223372036854775808"), text("0" * 30 + "7")]
    ),
)
STIMES = st.sampled_from(["20261123143500", "2026112314350012", "20261025023000", "", "never", "2026-11-23T14:35:00Z"]).map(text)
REPORT = st.builds(lambda rptid, values: listed(rptid, listed(*values)), IDS, st.lists(STIMES | VALUES, max_size=5))
EVENT = st.builds(
    lambda ceid, reports, dataid, system: event(ceid, *reports, dataid=dataid, system=system),
    *(IDS, st.lists(REPORT, max_size=4), IDS | st.sampled_from([listed(), text(""), item("F4")]), st.integers(0, (1 << 32) - 1)),
)
ALARM = st.builds(
    lambda code, alid, altx: frame(5, 1, listed(code, alid, altx)),
    st.integers(0, 255).flatmap(lambda code: st.sampled_from([raw_item("B", bytes([code])), item("U1", code)])),
    *(
        IDS,
        st.one_of(
            TEXTS.map(text), st.sampled_from([raw_item("J", b"\\"), raw_item("C", b"\0\2x"), raw_item("C", b"\0\2"), item("U4"), listed()])
        ),
    ),
)


@settings(deadline=None)
@given(st.lists(EVENT | ALARM, min_size=1, max_size=6))
@example(
    [event(9, report(1, text("2026112314350000"), text(" L1"), text(""), item("U8", 1 << 60), listed(listed(), item("F8", 0.1, 2.0))))]
)
@example([event(10, report(1, *[item("F8", value) for value in SPECIAL]))])
@example([event(7, report(1, item("U1", 1), text("µ")), report(2, text("x")), report(1), report(1, item("F4", 0.1)))])
def test_plans_and_trees_agree(frames: list[bytes]) -> None:
    agree(frames)
    agree(frames, Model())


@settings(deadline=None)
@given(st.lists(FLOATS, min_size=1, max_size=40))
def test_doubles_are_written_as_python_does(values: list[float]) -> None:
    agree([event(7, report(1, item("F8", *values), *(item("F8", value) for value in values)))])


def test_singles_are_written_as_python_does() -> None:
    random = np.random.default_rng(5)
    for exponents in (random.integers(0, 256, 300), random.integers(110, 150, 300)):
        bits = random.integers(0, 1 << 23, 300) | exponents << 23
        agree([event(7, report(1, raw_item("F4", struct.pack(f">{len(bits)}I", *bits.tolist()), 3)))])


def test_each_text_is_utf_8_or_latin_1_by_itself() -> None:
    agree(
        [
            event(7, report(1, text("µ"), text(b"\xb5"))),
            event(7, report(1, text("µ"), text("m"))),
            event(9, report(1, text(""), text(b"\xc2"))),
        ]
    )


def test_one_reader_over_many_stretches() -> None:
    reader = EventReader("T", "A", MODEL, LEARNED, LIMITS)
    for n in range(30):
        agree(
            [event(9, report(1, text(f"202611231435{n:02d}"), text("L" * n))), event(n, report(n, *[item("U2", n)] * (n % 4)))],
            MODEL,
            reader,
        )


@pytest.mark.parametrize("count", [MOST_TOKENS - 2, MOST_TOKENS + 1])
def test_an_event_of_very_many_values(count: int) -> None:
    reader = EventReader("T", "A", Model(), LEARNED, LIMITS)
    values = raw_item("BOOL", b"\1") * count
    body = listed(item("U4", 1), item("U4", 7), listed(listed(item("U4", 1), b"\3" + count.to_bytes(3, "big") + values)))
    for _ in range(3):
        agree([frame(6, 11, body), event(9, report(1, text("never")))], Model(), reader)


def test_what_was_learned_since_counts() -> None:
    one = event(5, report(1000, item("U1", 1)))
    learn = frame(1, 12, listed(NAMES[0])) + frame(2, 33, listed(item("U4", 0), listed(listed(item("U4", 1000), listed(item("U4", 1))))))
    decoder = HsmsDecoder("T", {}, None, Dictionary(), LIMITS)
    parts = [*decoder.feed(one + learn + one), *decoder.finish()]
    assert [text for part in parts if part.events for text in part.events.vars.to_pylist()] == ['{"1000":[1]}', '{"temp":1}']


def test_a_bad_time_among_good_ones() -> None:
    frames = [alarm(1, 1, "a"), event(9, report(1, text("never"))), event(9, report(1, text("20261123143500")))]
    reader = EventReader("T", "A", MODEL, LEARNED, LIMITS)
    found = reader.read(np.frombuffer(b"".join(frames), np.uint8), spans_of(frames))
    assert [bad.detail for bad in found.bad] == ["CEID 9: ts 'never' is no time"]
    assert found.starts.tolist() == [0, len(frames[0] + frames[1])]
    agree(frames)
