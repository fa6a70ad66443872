"""S6F11 and S5F1 read one by one from their trees: what the plans don't cover, and the twin of what they do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ingest.config import EventModel, Model
from ingest.dictionary import Dictionary
from ingest.items import INTEGER, TEXTS, Item, context_text, id_of, json_text, json_value, read
from ingest.records import Context

CONTEXTS = Context._fields
NAMED = ("ts", "chamber", *CONTEXTS)
INT64 = range(-(1 << 63), 1 << 63)
Report = tuple[str, list[Item]]


@dataclass(slots=True)
class EventTree:
    """One event, its time still text."""

    event: str | None
    ceid: int | None
    dataid: int | None
    role: str | None
    vars: str
    ts: str = ""
    chamber: str | None = None
    context: Context = field(default_factory=Context)


def integer(text: str | None) -> int | None:
    """Return the integer of int64 that an id is, or None."""
    return int(text) if text is not None and len(text) <= 20 and INTEGER.fullmatch(text) and int(text) in INT64 else None


def _single(values: list[Item]) -> list[Any]:
    return [json_value(item) for item in values]


def learned_names(dictionary: Dictionary, rptid: str, count: int) -> list[str] | None:
    """Return the names of a report's ``count`` values where all are known, and no two alike."""
    vids = dictionary.reports.get(rptid, ())
    names = [dictionary.names[vid].name for vid in vids if vid in dictionary.names]
    return names if len(names) == count == len(vids) and len({*names}) == len(names) else None


class TreeReader:
    """Reads event frames of one tool one at a time."""

    def __init__(self, chamber: str | None, model: Model, dictionary: Dictionary) -> None:
        self._chamber, self._model, self._dictionary = chamber, model, dictionary

    def read(self, frame: bytes) -> EventTree:
        """Read a sound S6F11 or S5F1 (length prefix included)."""
        items = read(frame[14:]).value
        return self._alarm(items) if frame[6] & 0x7F == 5 else self._report(items)

    def _alarm(self, items: list[Item]) -> EventTree:
        code = items[0].value[0]
        alid = id_of(items[1])
        number = integer(alid)
        values = {"ALCD": code, "ALID": alid if number is None else number, "ALTX": json_value(items[2]) or "", "set": code >= 128}
        return EventTree("alarm", None, None, None, json_text(values), "", self._chamber)

    def _report(self, items: list[Item]) -> EventTree:
        ceid = id_of(items[1]) or ""
        dataid = integer(id_of(items[0])) if len(items[0].value) else None
        reports: list[Report] = [(id_of(report.value[0]) or "", report.value[1].value) for report in items[2].value]
        model = self._model.events.get(ceid)
        number = integer(ceid)
        if model is None:
            return EventTree(None if number is not None else ceid, number, dataid, None, self._unknown(reports), "", self._chamber)
        return self._configured(model, ceid, number, dataid, reports)

    def _unknown(self, reports: list[Report]) -> str:
        """Return vars by learned names where all of a report's are known, else as {RPTID: values}."""
        out: dict[str, Any] = {}
        for rptid, values in reports:
            names = learned_names(self._dictionary, rptid, len(values))
            if names is not None and not out.keys() & {*names}:
                out.update(zip(names, _single(values), strict=True))
            elif rptid in out and isinstance(out[rptid], list):
                out[rptid].extend(_single(values))
            else:
                out[rptid] = _single(values)
        return json_text(out)

    def _configured(self, model: EventModel, ceid: str, number: int | None, dataid: int | None, reports: list[Report]) -> EventTree:
        values = [value for _, items in reports for value in items]
        rest: dict[str, Any] = {}
        stated: dict[str, Item] = {}
        for i, value in enumerate(values):
            name = model.values[i] if i < len(model.values) else f"value{i + 1}"
            if name in NAMED and name not in stated:
                stated[name] = value
            else:
                rest[name] = json_value(value)
        event = EventTree(model.name or (None if number is not None else ceid), number, dataid, model.window, json_text(rest))
        if "ts" in stated:
            value = stated["ts"]
            event.ts = value.value if value.code in TEXTS else context_text(value)
        chamber = model.chamber if model.chamber is not None else self._chamber
        event.chamber = context_text(stated["chamber"]) if "chamber" in stated else chamber
        event.context = Context(**{name: context_text(stated[name]) for name in CONTEXTS if name in stated})
        return event
