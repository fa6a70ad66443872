"""An etcher that speaks SECS-II: the frames that it sends, each with what must be read from it."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from sample_data.expected import EPOCH, Event, Frame, Record, Stream, microseconds
from sample_data.secs_encoder import control, frame, item, items, reply, s5f1, s6f1, s6f11, text
from sample_data.sensors import DECISECOND_US, Reading, Sensor, Step, readings

HEADER_BYTES = 14
REPORT_IDS = {1000: 10, 1001: 11, 1002: 12}
EVENT_VALUES = {
    1000: ("ts", "lot"),
    1001: ("ts", "chamber", "wafer", "recipe", "step"),
    1002: ("ts", "chamber", "wafer", "step"),
}
"""CEID to the names of its report's values: LotStarted, StepStarted, StepEnded."""

ROLES = {1001: "start", 1002: "end"}


class Message(NamedTuple):
    """A frame with the time at which it was sent; ``name`` lets a trap find it: (TRID, SMPLN) or (CEID, deciseconds)."""

    sent_us: int
    frame: Frame
    name: tuple[int, int] | None = None


class Trace(NamedTuple):
    """A trace request: TRID and SMPLN formats are the tool's choice; ``stime`` is a strftime format, ``cs`` stands for centiseconds."""

    trid: int
    chamber: str
    sensors: Sequence[Sensor]
    period_ds: int = 1
    group: int = 1
    trid_format: str = "U1"
    smpln_format: str = "U4"
    stime: str = "%Y%m%d%H%M%Scs"


class Etcher:
    """One tool: its clock starts at ``start``, its system bytes at ``system``."""

    def __init__(self, tool: str, start: datetime, system: int) -> None:
        self.tool = tool
        self.start_us = microseconds(start)
        self.system = system

    def next_system(self) -> int:
        """Return the system bytes of the next message."""
        self.system += 1
        return self.system

    def at(self, moment_ds: int) -> int:
        """Return the time of ``moment_ds`` deciseconds after the start."""
        return self.start_us + moment_ds * DECISECOND_US

    def stime(self, time_us: int, layout: str) -> str:
        """Return a time as the tool writes it (UTC, no zone)."""
        moment = EPOCH.astimezone(UTC) + timedelta(microseconds=time_us)
        return moment.strftime(layout).replace("cs", f"{moment.microsecond // 10_000:02d}")

    def trace(self, trace: Trace, steps: Sequence[Step], span_ds: tuple[int, int], seed: int) -> Iterator[Message]:
        """Yield the trace data of ``span_ds``; SMPLN starts at 1; a message holds ``group`` samples and the last one's time."""
        moments_ds = range(*span_ds, trace.period_ds)
        rows = list(readings(trace.sensors, steps, moments_ds, seed))
        for last in range(trace.group, len(rows) + 1, trace.group):
            group = list(zip(range(last - trace.group + 1, last + 1), moments_ds[last - trace.group : last], strict=True))
            yield self.sample(trace, [(smpln, self.at(ds), rows[smpln - 1]) for smpln, ds in group])

    def sample(self, trace: Trace, rows: Sequence[tuple[int, int, Sequence[Reading]]]) -> Message:
        """Return one S6F1 of the samples ``rows``: (SMPLN, time, readings)."""
        smpln, time_us, _ = rows[-1]
        sent = [reading.sent for _, _, row in rows for reading in row]
        identity = item(trace.trid_format, trace.trid), item(trace.smpln_format, smpln)
        data = s6f1(*identity, self.stime(time_us, trace.stime), sent, system=self.next_system(), wait=True)
        stream = Stream(self.tool, trace.chamber, str(trace.trid))
        records = tuple(
            Record(
                stream,
                seq,
                us,
                tuple(reading.value for reading in row),
                tuple((i, reading.text) for i, reading in enumerate(row, 1) if reading.text is not None),
            )
            for seq, us, row in rows
        )
        return Message(time_us, Frame(data, records), (trace.trid, smpln))

    def event(self, ceid: int, moment_ds: int, chamber: str | None = None, *, step: str | int = "", **said: str) -> Message:
        """Return an S6F11 with one report, named by the model; ``step`` may be an integer."""
        time_us = self.at(moment_ds)
        known: dict[str, str | int | None] = {"ts": self.stime(time_us, "%Y%m%d%H%M%Scs"), "chamber": chamber, "step": step, **said}
        values = [known[name] for name in EVENT_VALUES[ceid]]
        sent = [item("U1", value) if isinstance(value, int) else text(str(value)) for value in values]
        data = s6f11(ceid, [(REPORT_IDS[ceid], sent)], system=self.next_system())
        context = {name: str(known[name]) for name in EVENT_VALUES[ceid] if name not in ("ts", "chamber")}
        event = Event(self.tool, ceid, time_us, data[HEADER_BYTES:], self.system, chamber, tuple(context.items()), ROLES.get(ceid))
        return Message(time_us, Frame(data, event=event), (ceid, moment_ds))

    def steps(self, steps: Sequence[Step], chamber: str, names: dict[str, str | int]) -> Iterator[Message]:
        """Yield the start and end events of ``steps``; ``names`` maps a phase to the step's name in the events."""
        for step in steps:
            yield self.event(1001, step.start_ds, chamber, wafer=step.wafer, recipe=step.recipe, step=names[step.phase])
            if step.ended:
                yield self.event(1002, step.stop_ds, chamber, wafer=step.wafer, step=names[step.phase])

    def unknown(self, ceid: int, moment_ds: int, rptid: int, values: Sequence[bytes]) -> Message:
        """Return an S6F11 that no model describes: it has no time."""
        data = s6f11(ceid, [(rptid, values)], system=self.next_system())
        return Message(self.at(moment_ds), Frame(data, event=Event(self.tool, ceid, None, data[HEADER_BYTES:], self.system)))

    def alarm(self, moment_ds: int, alarm: int, message: str, *, is_set: bool) -> Message:
        """Return an S5F1, set or cleared."""
        data = s5f1(alarm, message, is_set=is_set, system=self.next_system())
        return Message(self.at(moment_ds), Frame(data, event=Event(self.tool, None, None, data[HEADER_BYTES:], self.system)))

    def other(self, moment_ds: int, data: bytes) -> Message:
        """Return a frame that is understood and holds no data."""
        return Message(self.at(moment_ds), Frame(data))

    def linktest(self, moment_ds: int) -> list[Message]:
        """Return a linktest and its answer."""
        system = self.next_system()
        return [self.other(moment_ds, control(kind, system=system)) for kind in ("Linktest.req", "Linktest.rsp")]

    def hello(self) -> list[Message]:
        """Return the opening of a session: select, and are-you-there as a header-only message with its answer."""
        select, there = self.next_system(), self.next_system()
        answer = items(text("LL-3000"), text("4.2.1"))
        frames = control("Select.req", system=select), control("Select.rsp", system=select)
        both = frame(b"", 1, 1, system=there, wait=True), frame(answer, 1, 2, system=there)
        return [self.other(0, data) for data in (*frames, *both)]


def answer(message: Message) -> Message:
    """Return the host's reply to a primary message: next function, same system bytes, ACK 0."""
    data = message.frame.data
    system = struct.unpack(">I", data[10:HEADER_BYTES])[0]
    return Message(message.sent_us, Frame(reply(data[6] & 0x7F, data[7] + 1, system=system)))


def resend(message: Message, system: int) -> Frame:
    """Return the same body under new system bytes, as a spool sends it."""
    old = message.frame
    data = old.data[:10] + struct.pack(">I", system) + old.data[HEADER_BYTES:]
    return Frame(data, old.records, None if old.event is None else old.event._replace(system=system))
