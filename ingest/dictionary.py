"""What a capture itself says about names: SVIDs (S1F12), traces (S2F23), reports (S2F33) and event links (S2F35)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import NamedTuple

from ingest.items import ASCII, JIS8, LIST, TEXTS, Item, id_of


class SensorLabel(NamedTuple):
    """The name and unit of an SVID."""

    name: str
    unit: str | None


class TraceRequest(NamedTuple):
    """What an S2F23 asked for: the SVIDs in order, the period, samples per message (REPGSZ)."""

    svids: tuple[str, ...]
    period_s: float | None
    group: int


def period_of(item: Item) -> float | None:
    """Return DSPER (hhmmss, or hhmmsscc with hundredths) in seconds, or None where it is neither."""
    if item.code not in (ASCII, JIS8):
        return None
    text = item.value.strip()
    if len(text) not in (6, 8) or not (text.isascii() and text.isdigit()):
        return None
    hundredths = int(text[6:] or 0)
    seconds = int(text[:2]) * 3600 + int(text[2:4]) * 60 + int(text[4:6]) + hundredths / 100
    return seconds or None


def _pair_list(item: Item) -> list[tuple[str, list[str]]] | None:
    """Return [(id, [id, ...]), ...] of L[a] of L[2] id, L[b] id; None where the item has another shape."""
    if item.code != LIST:
        return None
    pairs = []
    for entry in item.value:
        if entry.code != LIST or len(entry.value) != 2 or entry.value[1].code != LIST:
            return None
        key = id_of(entry.value[0])
        ids = [id_of(child) for child in entry.value[1].value]
        known = [text for text in ids if text is not None]
        if key is None or len(known) != len(ids):
            return None
        pairs.append((key, known))
    return pairs


@dataclass(slots=True)
class Dictionary:
    """Names learned from captures; a message of another shape than its own changes nothing."""

    names: dict[str, SensorLabel] = field(default_factory=dict)
    traces: dict[str, TraceRequest] = field(default_factory=dict)
    reports: dict[str, tuple[str, ...]] = field(default_factory=dict)
    events: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def learn(self, message: int, body: Item) -> None:
        """Take in a dictionary message; ``message`` is stream << 8 | function."""
        rule = {0x010C: self._svids, 0x0217: self._trace, 0x0221: self._reports, 0x0223: self._links}.get(message)
        if rule is not None and body.code == LIST:
            rule(body.value)

    def _svids(self, items: list[Item]) -> None:
        for item in items:
            if item.code != LIST or len(item.value) != 3:
                continue
            svid, name, unit = item.value
            key = id_of(svid)
            if key is None or name.code not in TEXTS or not name.value.strip():
                continue
            text = unit.value.strip() if unit.code in TEXTS else ""
            self.names[key] = SensorLabel(name.value.strip(), text or None)

    def _trace(self, items: list[Item]) -> None:
        if len(items) != 5 or items[4].code != LIST:
            return
        trid, total, group = id_of(items[0]), id_of(items[2]), id_of(items[3])
        svids = [id_of(item) for item in items[4].value]
        known = tuple(svid for svid in svids if svid is not None)
        if trid is None or len(known) != len(svids):
            return
        if total == "0":
            self.traces.pop(trid, None)
            return
        size = int(group) if group is not None and group.isascii() and group.isdigit() else 1
        self.traces[trid] = TraceRequest(known, period_of(items[1]), max(size, 1))

    def _reports(self, items: list[Item]) -> None:
        pairs = _pair_list(items[1]) if len(items) == 2 else None
        if pairs is None:
            return
        if not pairs:
            self.reports.clear()
            self.events.clear()
        for rptid, vids in pairs:
            if vids:
                self.reports[rptid] = tuple(vids)
            else:
                self.reports.pop(rptid, None)

    def _links(self, items: list[Item]) -> None:
        pairs = _pair_list(items[1]) if len(items) == 2 else None
        for ceid, rptids in pairs or []:
            if rptids:
                self.events[ceid] = tuple(rptids)
            else:
                self.events.pop(ceid, None)

    def to_json(self) -> str:
        """Return canonical JSON (sorted keys, no spaces)."""
        tables = {"names": self.names, "traces": self.traces, "reports": self.reports, "events": self.events}
        return json.dumps(tables, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    def copy(self) -> Dictionary:
        """Return another dictionary of the same content."""
        return Dictionary(dict(self.names), dict(self.traces), dict(self.reports), dict(self.events))

    @classmethod
    def from_json(cls, text: str) -> Dictionary:
        """Read what :meth:`to_json` wrote."""
        tables = json.loads(text)
        return cls(
            {svid: SensorLabel(*label) for svid, label in tables["names"].items()},
            {trid: TraceRequest(tuple(svids), period, group) for trid, (svids, period, group) in tables["traces"].items()},
            {rptid: tuple(vids) for rptid, vids in tables["reports"].items()},
            {ceid: tuple(rptids) for ceid, rptids in tables["events"].items()},
        )
