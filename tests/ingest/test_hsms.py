"""Captures to records, events and rejected spans."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from ingest.config import EventModel, Limits, Model, SensorName, TraceModel
from ingest.dictionary import Dictionary, SensorLabel, TraceRequest
from ingest.formats.hsms import HsmsDecoder
from ingest.records import NO_TIME, Context, Decoded, Rejected, StreamKey
from kernels.missing import NULL_BITS
from kernels.reference.encode import LINKTEST, alarm, event, f4s, frame, item, listed, raw_item, report, text, trace

T0 = 1_795_444_500_000_000
"""2026-11-23 14:35:00 UTC, the encoder's default STIME."""
HOUR = 3_600_000_000


def decoded(data: bytes, model: Model | None = None, captured: dict[str, str] | None = None, **kw: Any) -> list[Decoded]:
    return list(run(HsmsDecoder("T1", captured or {}, model, kw.get("dictionary", Dictionary()), kw.get("limits", Limits())), data))


def run(decoder: HsmsDecoder, data: bytes) -> Iterable[Decoded]:
    yield from decoder.feed(data)
    yield from decoder.finish()


def rows(parts: Iterable[Decoded]) -> list[tuple[Any, ...]]:
    """(frame start, stream, seq, time, late time, [(name, value or None)], {position: text}) of each record."""
    out = []
    for part in parts:
        r = part.records
        if r is None:
            continue
        assert len(r.timed) == len(r.period_us) == len(r.streams)
        for i in range(len(r.seq)):
            layout = r.layouts[r.layout[i]]
            values = r.values[r.value_start[i] : r.value_start[i] + len(layout)]
            cells = [None if v.view(np.int64) == NULL_BITS else float(v) for v in values.astype(np.float64)]
            texts = dict(r.texts.of(i))
            names = [s.name for s in layout]
            out.append(
                (
                    int(part.frame_start[r.frame[i]]),
                    r.streams[r.stream[i]],
                    int(r.seq[i]),
                    int(r.time_us[i]),
                    int(r.late_us[i]),
                    dict(zip(names, cells, strict=True)),
                    texts,
                )
            )
    return out


def events(parts: Iterable[Decoded]) -> list[dict[str, Any]]:
    out = []
    for part in parts:
        e = part.events
        for i in range(len(e.kind) if e else 0):
            assert e is not None
            times = {"time": int(e.time_us[i]), "late": int(e.late_us[i]), "start": int(part.frame_start[e.frame[i]])}
            said = {
                "dataid": e.dataid[i].as_py(),
                "vars": json.loads(e.vars[i].as_py()),
                "system": int(e.system[i]),
                "body": e.body[i].as_py(),
            }
            out.append(e.kinds[e.kind[i]]._asdict() | times | said)
    return out


def spans(parts: Iterable[Decoded]) -> list[Rejected]:
    return [r for part in parts for r in part.rejected]


def reasons(parts: Iterable[Decoded]) -> list[str]:
    return [r.reason for r in spans(parts)]


def traces(**fields: Any) -> Model:
    return Model(timezone=fields.pop("timezone", "UTC"), traces={"7": TraceModel(**fields)})


def test_a_message_is_a_record_with_ordinal_names():
    ((start, key, seq, time, late, values, texts),) = rows(decoded(LINKTEST + trace(smpln=12)))
    assert (start, key, seq, time, late) == (len(LINKTEST), StreamKey("T1", None, "7", ""), 12, T0, T0)
    assert (values, texts) == ({"sv0001": 1.5, "sv0002": -2.25}, {})


def test_configured_names_chamber_and_zone():
    model = traces(timezone="Europe/Berlin", chamber="A", sensors=[SensorName(name="rf", unit="W"), SensorName(name="p")])
    (part,) = decoded(trace(), model, {"chamber": "B"})
    assert part.records is not None
    assert part.records.layouts == [part.records.layouts[0]]
    assert [(s.name, s.unit, s.source) for s in part.records.layouts[0]] == [("rf", "W", "configured"), ("p", None, "configured")]
    assert part.records.streams == [StreamKey("T1", "A", "7", "")]
    assert int(part.records.time_us[0]) == T0 - HOUR


def test_captured_chamber():
    assert rows(decoded(trace(), None, {"chamber": "B"}))[0][1].chamber == "B"


def test_a_repeated_hour_has_two_readings():
    (row,) = rows(decoded(trace(stime="20261025023000"), traces(timezone="Europe/Berlin")))
    assert row[4] - row[3] == HOUR


def test_a_time_with_a_zone_is_not_local():
    (row,) = rows(decoded(trace(stime="2026-11-23T14:35:00.000000+02:00"), traces(timezone="Europe/Berlin")))
    assert row[3] == row[4] == T0 - 2 * HOUR


def test_values_that_are_text_or_too_exact():
    texts_sent = [text(" IDLE "), text(" 12 "), text("0.1000000000000000055511151231257827"), text("9007199254740993")]
    localized = [raw_item("C", b"\0\1\x004\x002"), raw_item("C", b"\0\1\x00\xb0")]
    others = [raw_item("J", b"\xb1"), text(b"\xb0C"), text(""), listed()]
    values = listed(item("U8", (1 << 53) + 1), item("I8", -(1 << 62) - 1), *texts_sent, *localized, *others)
    ((*_, cells, texts),) = rows(decoded(trace(values)))
    assert list(cells.values()) == [
        float(1 << 53),
        -float(1 << 62),
        None,
        12.0,
        0.1,
        9007199254740992.0,
        42.0,
        None,
        None,
        None,
        None,
        None,
    ]
    assert texts == {0: str((1 << 53) + 1), 1: str(-(1 << 62) - 1), 2: " IDLE ", 5: "9007199254740993", 7: "°", 8: "ｱ", 9: "°C"}


def test_bad_time_is_rejected_as_a_frame():
    parts = decoded(trace() + trace(smpln=2, stime="2026x") + trace(smpln=3))
    assert [row[2] for row in rows(parts)] == [1, 3]
    (span,) = spans(parts)
    assert (span.start, span.stop, span.reason) == (len(trace()), len(trace()) + len(trace(stime="2026x")), "bad_time")
    assert "'2026x'" in span.detail or "2026x" in span.detail
    assert span.data == trace(smpln=2, stime="2026x")


def test_values_move_together_when_a_neighbour_is_rejected():
    parts = decoded(trace(f4s(1)) + trace(f4s(9, 9, 9), smpln=2, stime="x") + trace(listed(item("F4", 3), text("T")), smpln=3))
    assert [list(row[5].values()) for row in rows(parts)] == [[1.0], [3.0, None]]
    assert rows(parts)[1][6] == {1: "T"}


def test_group():
    values = listed(*(item("F4", i) for i in range(6)), text("x"), item("F4", 7))
    parts = decoded(trace(values, smpln=10), traces(group=4, period=0.5))
    assert [(row[2], row[3] - T0) for row in rows(parts)] == [(7, -1_500_000), (8, -1_000_000), (9, -500_000), (10, 0)]
    assert [list(row[5].values()) for row in rows(parts)] == [[0, 1], [2, 3], [4, 5], [None, 7]]
    assert rows(parts)[3][6] == {0: "x"}
    assert parts[0].records is not None
    assert parts[0].records.period_us == [500_000]


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (traces(group=3, period=1.0), "group_mismatch"),
        (traces(group=2), "no_time"),
        (traces(sensors=[SensorName(name="a")]), "sensor_count"),
        (traces(sensors=[SensorName(name="a"), SensorName(name="b")], group=2, period=1.0), "sensor_count"),
    ],
)
def test_counts_that_do_not_fit(model: Model, reason: str):
    parts = decoded(trace(), model)
    assert (rows(parts), reasons(parts)) == ([], [reason])


def test_lowest_sequence_number_of_a_group():
    assert reasons(decoded(trace(smpln=item("I8", -(1 << 63))), traces(group=2, period=1.0))) == ["bad_shape"]
    assert rows(decoded(trace(smpln=item("I8", -(1 << 63)))))[0][2] == -(1 << 63)


def s2f23(trid: int, svids: list[int], period: str = "00000010", group: int = 1, total: int = 100) -> bytes:
    body = listed(item("U4", trid), text(period), item("U4", total), item("U4", group), listed(*(item("U2", svid) for svid in svids)))
    return frame(2, 23, body, wait=True)


def s1f12(*names: tuple[int, str, str]) -> bytes:
    return frame(1, 12, listed(*(listed(item("U4", svid), text(name), text(unit)) for svid, name, unit in names)))


def test_names_are_learned_from_where_they_stand():
    data = trace() + s1f12((1, "temp", "C"), (2, "flow", "")) + s2f23(7, [1, 2]) + trace(smpln=2) + trace(f4s(1, 2, 3), smpln=3)
    decoder = HsmsDecoder("T1", {}, None, Dictionary(), Limits())
    parts = list(run(decoder, data))
    assert [list(row[5]) for row in rows(parts)] == [["sv0001", "sv0002"], ["temp", "flow"], ["sv0001", "sv0002", "sv0003"]]
    assert decoder.learned
    assert sum(part.other_frames for part in parts) == 2
    layout = next(x for part in parts if part.records for x in part.records.layouts if x[0].name == "temp")
    assert layout[0] == ("temp", "C", "1", "learned")
    assert not HsmsDecoder("T1", {}, None, decoder.dictionary, Limits()).learned
    assert list(rows(decoded(trace(), dictionary=decoder.dictionary))[0][5]) == ["temp", "flow"]


def test_a_trace_without_all_names_keeps_svids():
    data = s1f12((1, "temp", "C"), (3, "temp", "F")) + s2f23(7, [1, 2, 3]) + trace(f4s(1, 2, 3))
    (layout,) = [x for part in decoded(data) if part.records for x in part.records.layouts]
    assert [(s.name, s.svid, s.source) for s in layout] == [
        ("temp", "1", "learned"),
        ("sv0002", "2", "ordinal"),
        ("sv0003", "3", "ordinal"),
    ]


def test_a_cancelled_trace_and_one_sent_again():
    data = s1f12((1, "a", ""), (2, "b", "")) + s2f23(7, [1, 2]) + s2f23(7, [2, 1]) + trace() + s2f23(7, [], total=0) + trace(smpln=2)
    assert [list(row[5]) for row in rows(decoded(data))] == [["b", "a"], ["sv0001", "sv0002"]]


def test_a_learned_group():
    parts = decoded(s2f23(7, [1], period="000001", group=2) + trace(smpln=2))
    assert [(row[2], row[3] - T0) for row in rows(parts)] == [(1, -1_000_000), (2, 0)]


def test_configured_names_state_the_group():
    model = traces(sensors=[SensorName(name="a"), SensorName(name="b")])
    assert len(rows(decoded(s2f23(7, [1], group=2) + trace(), model))) == 1


def test_configured_beats_learned():
    model = traces(sensors=[SensorName(name="x"), SensorName(name="y")])
    assert list(rows(decoded(s1f12((1, "a", "")) + s2f23(7, [1, 1]) + trace(), model))[0][5]) == ["x", "y"]


def test_dictionary_json():
    dictionary = Dictionary({"1": SensorLabel("a", "W")}, {"7": TraceRequest(("1",), 0.1, 5)}, {"3": ("1", "2")}, {"9": ("3",)})
    assert Dictionary.from_json(dictionary.to_json()) == dictionary
    assert Dictionary.from_json(dictionary.to_json()).to_json() == dictionary.to_json()


def test_dictionary_messages_of_another_shape_change_nothing():
    odd = [frame(1, 12, item("U4", 1)), frame(2, 23, listed(item("U4", 1))), frame(2, 33, listed()), frame(2, 35, listed(listed()))]
    decoder = HsmsDecoder("T1", {}, None, Dictionary(), Limits())
    parts = list(run(decoder, b"".join(odd)))
    assert not decoder.learned
    assert sum(part.other_frames for part in parts) == 4


def empty(smpln: int, **kw: Any) -> bytes:
    return trace(smpln=smpln, stime="", **kw)


def test_empty_times_come_from_the_nearest_record():
    late = "2026112314360000"
    data = empty(8) + trace(smpln=10) + empty(12) + empty(15) + empty(18) + trace(smpln=20, stime=late) + empty(25)
    parts = decoded(data, traces(period=1.0))
    times = {row[2]: (row[3] - T0) / 1e6 for row in rows(parts)}
    assert times == {8: -2, 10: 0, 12: 2, 15: 5, 18: 58, 20: 60, 25: 65}
    starts = {row[2]: row[0] for row in rows(parts)}
    assert [seq for seq, _ in sorted(starts.items(), key=lambda kv: kv[1])] == [8, 10, 12, 15, 18, 20, 25]


def test_empty_times_without_help():
    assert reasons(decoded(empty(1) + trace(smpln=2))) == ["no_time"]
    assert reasons(decoded(empty(1) + trace(smpln=2, trid=8), traces(period=1.0))) == ["no_time"]
    parts = decoded(trace() + empty(1 << 31), traces(period=1e6))
    assert reasons(parts) == ["no_time"]


def test_too_many_frames_without_a_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ingest.hsms_held.HELD_BYTES", 3 * len(empty(1)))
    parts = decoded(b"".join(empty(i) for i in range(5)) + trace(smpln=5), traces(period=1.0))
    assert sorted(row[2] for row in rows(parts)) == [0, 1, 2, 5]
    assert reasons(parts) == ["no_time", "no_time"]


STEP = EventModel(name="StepStarted", values=("ts", "chamber", "lot", "wafer", "recipe", "step", "power"), window="start", chamber="Z")
EVENTS = Model(events={"1001": STEP})


def test_configured_event():
    values = [text("20261123143500"), text("A"), text(" LOT1 "), item("U4", 7), text(""), listed(), item("F4", 0.5), item("U1", 3)]
    (e,) = events(decoded(LINKTEST + event(1001, report(1, *values[:3]), report(2, *values[3:]), dataid=9, system=77), EVENTS))
    assert (e["event"], e["ceid"], e["dataid"], e["time"], e["chamber"], e["role"]) == ("StepStarted", 1001, 9, T0, "A", "start")
    assert e["context"] == Context("LOT1", "7", "", "")
    assert e["vars"] == {"power": 0.5, "value8": 3}
    assert (e["system"], e["start"]) == (77, len(LINKTEST))


def test_event_that_states_little():
    (e,) = events(decoded(event(1001, report(1, text(""))), EVENTS))
    assert (e["time"], e["chamber"], e["context"]) == (NO_TIME, "Z", Context(None, None, None, None))


def test_event_with_unreadable_time():
    parts = decoded(event(1001, report(1, text("yesterday"))) + trace(), EVENTS)
    assert (events(parts), reasons(parts), len(rows(parts))) == ([], ["bad_time"], 1)


def test_unknown_event_and_learned_reports():
    values = [text("LOT"), item("F4", 50.5), raw_item("BOOL", b"\2"), item("U8", (1 << 64) - 1), item("F8", math.nan), listed()]
    values += [raw_item("B", b"\5"), item("I2", 1, 2), listed(item("U1", 1), listed(text("x")))]
    (e,) = events(decoded(event(1337, report(1000, *values))))
    assert (e["event"], e["ceid"], e["chamber"]) == (None, 1337, None)
    assert e["vars"] == {"1000": ["LOT", 50.5, True, (1 << 64) - 1, None, None, [5], [1, 2], [1, ["x"]]]}
    s2f33 = frame(2, 33, listed(item("U4", 0), listed(listed(item("U4", 1000), listed(item("U4", 1), item("U4", 2))))))
    s2f35 = frame(2, 35, listed(item("U4", 0), listed(listed(item("U4", 5), listed(item("U4", 1000))))))
    decoder = HsmsDecoder("T1", {}, None, Dictionary(), Limits())
    (e,) = events(run(decoder, s1f12((1, "a", ""), (2, "b", "")) + s2f33 + s2f35 + event(5, report(1000, item("U1", 1), item("U1", 2)))))
    assert e["vars"] == {"a": 1, "b": 2}
    assert decoder.dictionary.events == {"5": ("1000",)}


def test_event_whose_ceid_is_text():
    (e, f) = events(decoded(event(text("DOOR"), report(1)) + event(text("0012"), report(1), dataid=text("x"))))
    assert (e["event"], e["ceid"], f["event"], f["ceid"], f["dataid"]) == ("DOOR", None, None, 12, None)


def test_alarm():
    (e,) = events(decoded(alarm(0x85, 12, 'Hot "N2"')))
    assert (e["event"], e["ceid"], e["time"]) == ("alarm", None, NO_TIME)
    assert e["vars"] == {"ALCD": 0x85, "ALID": 12, "ALTX": 'Hot "N2"', "set": True}


def test_the_body_is_kept_whole():
    data = event(5, report(1, text("a")))
    assert events(decoded(data))[0]["body"] == data[14:]


def test_events_come_after_the_records_that_they_stand_among():
    data = [event(5, report(1)), trace(), alarm(1, 1, ""), trace(smpln=2), event(6, report(1))]
    starts = [sum(map(len, data[:i])) for i in range(5)]
    records, events = decoded(b"".join(data))
    assert (records.more, records.frame_start.tolist()) == (True, [starts[1], starts[3]])
    assert (events.more, events.frame_start.tolist()) == (False, [starts[0], starts[2], starts[4]])
    assert records.records is not None
    assert events.events is not None
    assert (records.records.frame.tolist(), events.events.frame.tolist()) == ([0, 1], [0, 1, 2])


BAD = [
    (b"\0\0\0\x03abc", "bad_length"),
    (b"\0\xff\xff\xff" + bytes(10), "too_large"),
    (frame(1, 1, session=0x9000), "bad_header"),
    (frame(1, 1, stype=8), "bad_header"),
    (frame(6, 1, b"\xfd\0"), "bad_item"),
    (frame(6, 1, b"\xb0\0"), "bad_item"),
    (frame(6, 1, b"\xb1\3abc"), "bad_item"),
    (frame(6, 1, listed(*[b"\x01\1"] * 5 + [text("")])), "bad_item"),
    (frame(6, 3, b"\1\1" * 8 + text("")), "too_deep"),
    (frame(6, 3, listed(*[text("")] * 101)), "too_large"),
    (frame(6, 3, text("") + b"\0"), "trailing_bytes"),
    (frame(6, 1, text("")), "bad_shape"),
]


@pytest.mark.parametrize(("bad", "reason"), BAD)
def test_every_reason(bad: bytes, reason: str):
    limits = Limits(frame_bytes=4096, depth=6, children=100)
    parts = decoded(trace() + bad + trace(smpln=2), limits=limits)
    assert [row[2] for row in rows(parts)] == [1, 2]
    (span,) = spans(parts)
    assert (span.reason, span.start, span.stop, span.data, span.tool) == (reason, len(trace()), len(trace()) + len(bad), bad, "T1")
    assert span.detail
    assert "{" not in span.detail


def test_every_reason_has_a_sentence():
    from ingest.hsms_reasons import REASONS, explain
    from kernels import secs_items as codes

    assert set(REASONS) == {codes.TORN, *range(codes.BAD_LENGTH, codes.BAD_SHAPE + 1)}
    assert all(explain(code, 5, 0x0601, 3)[1] for code in REASONS)


def test_torn_tail_is_one_span():
    data = trace() + trace(smpln=2)
    for cut in range(1, len(trace())):
        parts = decoded(data[:-cut])
        assert reasons(parts) == ["incomplete_tail"]
        assert spans(parts)[0].stop == len(data) - cut


def test_an_empty_payload():
    assert decoded(b"") == []


def test_noise_is_cut_at_the_limit():
    parts = decoded(b"\xff" * 10_000, limits=Limits(frame_bytes=4096))
    assert [(s.start, s.stop) for s in spans(parts)] == [(0, 4096), (4096, 8192), (8192, 10_000)]
