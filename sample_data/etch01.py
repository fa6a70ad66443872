"""ETCH01: two chambers at 10 Hz, names by configuration, and most of the traps."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from sample_data.etcher import Etcher, Message, Trace, answer, resend
from sample_data.expected import Frame, Payload
from sample_data.secs_encoder import control, frame, header, item, items, reply, s1f12, s2f23, text
from sample_data.sensors import ETCH01_SENSORS, Reading, Step, wafer_steps

TOOL = "ETCH01"
LENGTHS_DS = (100, 400, 150)
END_DS = 3350
RESTART_DS = 1530
STEP_NAMES: dict[str, str | int] = {"stabilise": "stabilise", "main": "main", "overetch": "overetch"}
RECIPE = "OXIDE_ETCH_V3"

TRACE_A = Trace(7, "A", ETCH01_SENSORS)
TRACE_B = Trace(8, "B", ETCH01_SENSORS, trid_format="I1", smpln_format="U2")

CUTS_DS = (600, 1250, 1850, 2450, 3000)
FILES = ("0001.hsms", "0002.hsms.gz", "0004.hsms", "0003.hsms", "0005.hsms", "0006.hsms")
"""Payloads in order of time; 0003 holds later samples than 0004."""

DROPPED = {(7, smpln) for smpln in (1101, 1102, 1103)} | {(8, 700)}
"""Never delivered: gaps."""
LATE = {(7, smpln) for smpln in range(1500, 1510)}
"""Went to the spool the first time: they arrive in the last payload only."""
RESENT = [*((7, smpln) for smpln in range(400, 420)), *((8, smpln) for smpln in range(1000, 1010)), (1002, 1250)]
"""Arrive again in the last payload, under new system bytes: duplicates."""
CONFLICT = (7, 900)
CONFLICT_POSITION = 1
CORRUPTED_DS = 2000
OVERLAP_FRAMES = 8
TORN_BYTES = 77


def steps_a() -> list[Step]:
    """Return chamber A's steps; the end of one overetch is lost, and the last wafer is still in the chamber."""
    steps = [s for i, at in enumerate((50, 750, 1550, 2250, 2950), 1) for s in wafer_steps(f"W0{i}", RECIPE, at, LENGTHS_DS)]
    steps = [s._replace(ended=not (s.wafer == "W02" and s.phase == "overetch") and s.stop_ds <= END_DS) for s in steps]
    return [s for s in steps if s.start_ds <= END_DS]


def steps_b() -> list[Step]:
    """Return chamber B's steps; wafer W13 is reworked: its main step runs twice."""
    wafers = [("W11", 150), ("W12", 850), ("W13", 1600), ("W14", 2650)]
    steps = [s for wafer, at in wafers for s in wafer_steps(wafer, RECIPE, at, LENGTHS_DS)]
    return sorted([*steps, Step(2300, 2620, "W13", RECIPE, "main")])


def messages(tool: Etcher) -> list[Message]:
    """Return all that the tool and its host say to each other, in order of time."""
    svids = [sensor.svid for sensor in ETCH01_SENSORS]
    out = tool.hello()
    for trace, at_ds in ((TRACE_A, 0), (TRACE_B, 0), (TRACE_B, RESTART_DS)):
        system = tool.next_system()
        out += [tool.other(at_ds, s2f23(trace.trid, "00000010", 1, svids, system=system)), tool.other(at_ds, reply(2, 24, system=system))]
    system = tool.next_system()
    out.append(tool.other(0, frame(items(), 1, 11, system=system, wait=True)))
    out.append(tool.other(0, s1f12(((s.svid, s.name, s.unit) for s in ETCH01_SENSORS), system=system)))
    for at_ds in range(300, END_DS, 300):
        out += tool.linktest(at_ds)
    out += [tool.event(1000, 20, lot="L2603-017"), tool.event(1000, 1520, lot="L2603-018")]
    out += tool.steps(steps_a(), "A", STEP_NAMES)
    out += tool.steps(steps_b(), "B", STEP_NAMES)
    out += [answer(message) for message in out if message.frame.event is not None]
    door = [item("U4", 17), text("OPEN"), item("BOOLEAN", True), items(item("F8", 1.25), item("U1"))]
    out.append(tool.unknown(4711, 1405, 99, door))
    out += [tool.alarm(599, 3021, "HE LEAK RATE HIGH", is_set=True), tool.alarm(668, 3021, "HE LEAK RATE HIGH", is_set=False)]
    data = list(tool.trace(TRACE_A, steps_a(), (0, END_DS), 71))
    data += tool.trace(TRACE_B, steps_b(), (0, RESTART_DS), 81)
    data += tool.trace(TRACE_B, steps_b(), (RESTART_DS, END_DS), 82)
    out += [answer(message) for message in data[:50]] + data
    return sorted(out, key=lambda message: (message.sent_us, message.frame.data[7] % 2 == 0))


def conflicting(tool: Etcher, original: Message) -> tuple[Frame, Frame]:
    """Return the message of ``original`` twice more with one value changed: a conflict, and that conflict again."""
    record = original.frame.records[0]
    values = list(record.values)
    values[CONFLICT_POSITION - 1] = 1.5
    texts = dict(record.texts)
    row = [_reading(sensor.format, value, texts.get(i)) for i, (sensor, value) in enumerate(zip(ETCH01_SENSORS, values, strict=True), 1)]
    changed = tool.sample(TRACE_A, [(record.seq, record.time_us, row)])
    return changed.frame, resend(changed, tool.next_system())


def _reading(name: str, value: float | None, said: str | None) -> Reading:
    if said is not None:
        return Reading(text(said), None, said)
    if value is None:
        return Reading(item(name), None)
    return Reading(item(name, value if name in ("F4", "F8") else int(value)), value)


def corrupted(message: Message) -> Frame:
    """Return the frame with one byte broken: an F4 item of 3 bytes."""
    data = bytearray(message.frame.data)
    data[data.index(header("F4", 4)) + 1] = 3
    return Frame(bytes(data), reason="malformed")


def cut(sent: Iterable[Message], start_us: int) -> list[list[Message]]:
    """Return the messages of each payload, in order of time."""
    pieces: list[list[Message]] = [[] for _ in FILES]
    for message in sent:
        pieces[sum(message.sent_us >= start_us + ds * 100_000 for ds in CUTS_DS)].append(message)
    return pieces


def payloads() -> list[Payload]:
    """Return the deliveries of ETCH01 in order of time."""
    tool = Etcher(TOOL, datetime(2026, 3, 17, 8, tzinfo=UTC), 0x5A3C_0F00)
    sent = messages(tool)
    first = {message.name: message for message in reversed(sent) if message.name is not None}
    held_back = {id(first[name]) for name in DROPPED | LATE}
    pieces = cut((message for message in sent if id(message) not in held_back), tool.start_us)
    broken_us = tool.at(CORRUPTED_DS)
    out = []
    for number, (name, piece) in enumerate(zip(FILES, pieces, strict=True)):
        frames = [message.frame for message in piece]
        if number == 1:  # a second logger, started a moment before the first one stopped
            frames = [message.frame for message in pieces[0][-OVERLAP_FRAMES:]] + frames
        if number == 3:
            target = next(m for m in piece if m.sent_us >= broken_us and m.name is not None and m.name[0] == TRACE_B.trid)
            frames[piece.index(target)] = corrupted(target)
        if number == 4:
            frames[-1] = Frame(frames[-1].data[:TORN_BYTES], reason="incomplete_tail")
        if number == 5:
            frames += [first[late].frame for late in sorted(LATE, reverse=True)]
            frames += [resend(first[again], tool.next_system()) for again in RESENT]
            frames += conflicting(tool, first[CONFLICT])
            frames.append(Frame(control("Separate.req", system=tool.next_system())))
        out.append(Payload(f"{TOOL}/{name}", TOOL, frames))
    return out
