"""S6F11 and S5F1 to ``Events``: configured values to their columns, all else to ``vars``."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ingest.config import EventModel, Model
from ingest.dictionary import Dictionary
from ingest.items import INTEGER, TEXTS, Item, context_text, id_of, json_text, json_value, read
from ingest.records import NO_TIME, Context, Events
from ingest.zone import to_utc
from kernels.secs_text import EMPTY, LOCAL, UNREADABLE, parse_stimes

CONTEXTS = Context._fields
NAMED = ("ts", "chamber", *CONTEXTS)
INT64 = range(-(1 << 63), 1 << 63)
Report = tuple[str, list[Item]]


@dataclass(slots=True)
class _Event:
    """One event, its time still text."""

    start: int
    stop: int
    system: int
    digest: bytes
    event: str | None
    ceid: int | None
    dataid: int | None
    role: str | None
    vars: str
    ts: str = ""
    chamber: str | None = None
    context: Context = field(default_factory=Context)


@dataclass(slots=True)
class BadTime:
    """An event whose time can't be read: its frame is rejected."""

    start: int
    stop: int
    detail: str


def _integer(text: str | None) -> int | None:
    return int(text) if text is not None and len(text) <= 20 and INTEGER.fullmatch(text) and int(text) in INT64 else None


def _single(values: list[Item]) -> list[Any]:
    return [json_value(item) for item in values]


class EventReader:
    """Reads the event frames of one tool; ``take`` them in payload order, then ``build`` the columns."""

    def __init__(self, tool: str, chamber: str | None, model: Model | None, dictionary: Dictionary) -> None:
        self._tool, self._chamber, self._model, self._dictionary = tool, chamber, model or Model(), dictionary
        self._events: list[_Event] = []

    def take(self, alarm: bool, frame: bytes, start: int) -> None:
        """Read the sound frame (length prefix included) at byte ``start`` of the payload."""
        body = frame[14:]
        system, digest = int.from_bytes(frame[10:14], "big"), hashlib.sha256(body).digest()
        items = read(body).value
        event = self._alarm(items) if alarm else self._report(items)
        event.start, event.stop, event.system, event.digest = start, start + len(frame), system, digest
        self._events.append(event)

    def _alarm(self, items: list[Item]) -> _Event:
        code = items[0].value[0]
        alid = id_of(items[1])
        number = _integer(alid)
        values = {"ALCD": code, "ALID": alid if number is None else number, "ALTX": json_value(items[2]) or "", "set": code >= 128}
        return _Event(0, 0, 0, b"", "alarm", None, None, None, json_text(values), "", self._chamber)

    def _report(self, items: list[Item]) -> _Event:
        ceid = id_of(items[1]) or ""
        dataid = _integer(id_of(items[0])) if len(items[0].value) else None
        reports: list[Report] = [(id_of(report.value[0]) or "", report.value[1].value) for report in items[2].value]
        model = self._model.events.get(ceid)
        number = _integer(ceid)
        if model is None:
            event = _Event(0, 0, 0, b"", None if number is not None else ceid, number, dataid, None, self._unknown(reports))
            event.chamber = self._chamber
            return event
        return self._configured(model, ceid, number, dataid, reports)

    def _unknown(self, reports: list[Report]) -> str:
        """Return vars by learned names where all of a report's are known, else as {RPTID: values}."""
        out: dict[str, Any] = {}
        for rptid, values in reports:
            vids = self._dictionary.reports.get(rptid, ())
            names = [self._dictionary.names[vid].name for vid in vids if vid in self._dictionary.names]
            if len(names) == len(values) == len(vids) and len({*names}) == len(names) and not out.keys() & {*names}:
                out.update(zip(names, _single(values), strict=True))
            elif rptid in out and isinstance(out[rptid], list):
                out[rptid].extend(_single(values))
            else:
                out[rptid] = _single(values)
        return json_text(out)

    def _configured(self, model: EventModel, ceid: str, number: int | None, dataid: int | None, reports: list[Report]) -> _Event:
        values = [value for _, items in reports for value in items]
        rest: dict[str, Any] = {}
        stated: dict[str, Item] = {}
        for i, value in enumerate(values):
            name = model.values[i] if i < len(model.values) else f"value{i + 1}"
            if name in NAMED and name not in stated:
                stated[name] = value
            else:
                rest[name] = json_value(value)
        event = _Event(0, 0, 0, b"", model.name or (None if number is not None else ceid), number, dataid, model.window, json_text(rest))
        if "ts" in stated:
            value = stated["ts"]
            event.ts = value.value if value.code in TEXTS else context_text(value)
        chamber = model.chamber if model.chamber is not None else self._chamber
        event.chamber = context_text(stated["chamber"]) if "chamber" in stated else chamber
        event.context = Context(**{name: context_text(stated[name]) for name in CONTEXTS if name in stated})
        return event

    def build(self) -> tuple[list[_Event], Events | None, list[BadTime]]:
        """Return the sound events, their columns (``frame`` counts among them) and those whose time can't be read."""
        events, self._events = self._events, []
        if not events:
            return [], None, []
        texts = [event.ts.encode("latin-1", "replace") for event in events]
        stops = np.cumsum([len(text) for text in texts], dtype=np.int64)
        starts = stops - np.array([len(text) for text in texts], np.int64)
        flags, times = np.empty(len(events), np.int64), np.empty(len(events), np.int64)
        parse_stimes(np.frombuffer(b"".join(texts) + b"\0", np.uint8), starts, stops, flags, times)
        late = times.copy()
        local = flags == LOCAL
        times[local], late[local] = to_utc(times[local], self._model.timezone)
        times[flags == EMPTY] = late[flags == EMPTY] = NO_TIME
        bad = [
            BadTime(e.start, e.stop, f"CEID {e.ceid if e.ceid is not None else e.event}: ts {e.ts[:48]!r} is no time")
            for e, flag in zip(events, flags.tolist(), strict=True)
            if flag == UNREADABLE
        ]
        good = flags != UNREADABLE
        kept = [e for e, fine in zip(events, good.tolist(), strict=True) if fine]
        if not kept:
            return [], None, bad
        columns = Events(
            tool=self._tool,
            event=[e.event for e in kept],
            ceid=[e.ceid for e in kept],
            dataid=[e.dataid for e in kept],
            time_us=times[good],
            late_us=late[good],
            chamber=[e.chamber for e in kept],
            context=[e.context for e in kept],
            role=[e.role for e in kept],
            vars=[e.vars for e in kept],
            digest=[e.digest for e in kept],
            system=np.array([e.system for e in kept], np.int64),
            frame=np.arange(len(kept), dtype=np.int64),
        )
        return kept, columns, bad
