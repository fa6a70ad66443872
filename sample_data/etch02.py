"""ETCH02: five samples in a message (REPGSZ 5), 12-character STIME, names that only the capture itself tells."""

from __future__ import annotations

from datetime import UTC, datetime

from sample_data.etcher import EVENT_VALUES, REPORT_IDS, Etcher, Message, Trace, resend
from sample_data.expected import Frame, Payload
from sample_data.secs_encoder import frame, item, items, reply, s1f12, s2f23, s2f33, s2f35
from sample_data.sensors import ETCH02_SENSORS, Step, wafer_steps

TOOL = "ETCH02"
LENGTHS_DS = (80, 450, 120)
END_DS = 3500
STEP_NAMES: dict[str, str | int] = {"stabilise": 1, "main": 2, "overetch": 3}
TRACE = Trace(21, "A", ETCH02_SENSORS, period_ds=2, group=5, trid_format="U2", stime="%y%m%d%H%M%S")
FIRST_DS = 2
"""Five samples of 0.2 s end on a whole second, which is all that a 12-character STIME can say."""

VIDS = {"ts": 1, "lot": 2, "chamber": 3, "wafer": 4, "recipe": 5, "step": 6}
DROPPED = (21, 900)
RESENT = [(21, smpln) for smpln in range(300, 325, 5)]
CUT_DS = (1200, 2300)
TORN = (21, 595)
TORN_BYTES = 200


def steps() -> list[Step]:
    """Return the steps of five wafers."""
    return [s for i in range(5) for s in wafer_steps(f"P{i + 1}", "POLY_GATE_7", 40 + 690 * i, LENGTHS_DS)]


def dictionary(tool: Etcher) -> list[Message]:
    """Return what names the columns: S1F12, S2F23, and S2F33/S2F35 for the events."""
    names, trace, reports, links = (tool.next_system() for _ in range(4))
    report_vids = [(REPORT_IDS[ceid], [VIDS[name] for name in values]) for ceid, values in EVENT_VALUES.items()]
    frames = [
        frame(items(), 1, 11, system=names, wait=True),
        s1f12(((s.svid, s.name, s.unit) for s in ETCH02_SENSORS), system=names),
        s2f23(TRACE.trid, "000000" + "20", TRACE.group, [s.svid for s in ETCH02_SENSORS], system=trace),
        reply(2, 24, system=trace),
        s2f33(report_vids, system=reports),
        reply(2, 34, system=reports),
        s2f35([(ceid, [rptid]) for ceid, rptid in REPORT_IDS.items()], system=links),
        reply(2, 36, system=links),
        frame(items(item("U4", 2009)), 1, 3, system=links + 1, wait=True),
        frame(items(item("F4", 0.5)), 1, 4, system=links + 1),
    ]
    tool.next_system()
    return [tool.other(0, data) for data in frames]


def payloads() -> list[Payload]:
    """Return the deliveries of ETCH02 in order of time; one frame is cut by the first two."""
    tool = Etcher(TOOL, datetime(2026, 3, 17, 9, 30, tzinfo=UTC), 0x0000_0001)
    head = tool.hello() + dictionary(tool)
    sent = [tool.event(1000, 10, lot="L2603-031")]
    sent += tool.steps([s for s in steps() if s.stop_ds <= END_DS], TRACE.chamber, STEP_NAMES)
    sent += tool.trace(TRACE, steps(), (FIRST_DS, END_DS + 1), 21)
    sent.sort(key=lambda message: message.sent_us)
    first = {message.name: message for message in sent}
    pieces: list[list[Frame]] = [[message.frame for message in head], [], []]
    for message in sent:
        if message.name not in (DROPPED, TORN):
            pieces[sum(message.sent_us >= tool.at(ds) for ds in CUT_DS)].append(message.frame)
    torn = first[TORN].frame.data
    pieces[0].append(Frame(torn[:TORN_BYTES], reason="incomplete_tail"))
    pieces[1].insert(0, Frame(torn[TORN_BYTES:], reason="malformed"))
    pieces[2] += [resend(first[again], tool.next_system()) for again in RESENT]
    return [Payload(f"{TOOL}/{i:04d}.hsms", TOOL, frames) for i, frames in enumerate(pieces, 1)]
