"""What captures show of a tool: its traces and events, read by the decoder itself, without any configuration."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ingest.config import Limits
from ingest.dictionary import Dictionary
from ingest.formats.hsms import HsmsDecoder
from ingest.records import Decoded, Events, Layout, Records
from ingest.unpack import Unpacked

MOST_BYTES = 256 << 20
"""What is read of one tool's captures; names stand at the beginning of a connection, and traces repeat."""

EXAMPLES = 200
"""Events of one kind by which their values are judged."""

ROLES = (
    ("ts", r"(time|date|clock|timestamp|ts)"),
    ("chamber", r"(chamber|module|process_?module|pm)(_?(id|name|no))?"),
    ("lot", r"lot(_?(id|name|no))?"),
    ("wafer", r"(wafer|wfr|substrate)(_?(id|name|no|number))?"),
    ("recipe", r"(recipe|ppid|pp)(_?(id|name))?"),
    ("step", r"(recipe_?)?(step|stage)(_?(id|name|no|nr|number))?"),
)
"""Which names mean which part of the context; separators count as one underscore or none."""

_MOMENT = re.compile(r"(19|20)\d{2}[01]\d[0-3]\d[0-2]\d[0-5]\d[0-5]\d\d{0,2}|\d{4}-\d\d-\d\d[T ]\d\d:\d\d.*")


def role_of(name: str) -> str | None:
    """Return the part of the context that a column or variable of this name means, or ts, or None."""
    plain = re.sub(r"[\s._-]+", "_", name.strip()).casefold()
    return next((role for role, words in ROLES if re.fullmatch(words, plain)), None)


@dataclass(slots=True)
class TraceSeen:
    """One TRID: samples met by their number of values, the names that the captures give, and the time between samples."""

    widths: Counter[int] = field(default_factory=Counter)
    layouts: set[Layout] = field(default_factory=set)
    steps_us: list[int] = field(default_factory=list)

    @property
    def period_s(self) -> float | None:
        """The usual time between two samples, in seconds."""
        return float(np.median(self.steps_us)) / 1e6 if self.steps_us else None

    @property
    def named(self) -> Layout | None:
        """The names of all positions, where the captures give one list of them, if late, that fits every sample."""
        learned = [layout for layout in self.layouts if all(sensor.source == "learned" for sensor in layout)]
        nameless = [layout for layout in self.layouts if all(sensor.source == "ordinal" for sensor in layout)]
        one_list = len(learned) == 1 and len(learned) + len(nameless) == len(self.layouts)
        return learned[0] if one_list and len(self.widths) == 1 else None


@dataclass(slots=True)
class EventSeen:
    """One CEID: how often, with how many values, their names where the captures give them, and examples of each value."""

    count: int = 0
    widths: Counter[int] = field(default_factory=Counter)
    names: tuple[str | None, ...] = ()
    examples: list[tuple[str, ...]] = field(default_factory=list)

    def values(self) -> list[str]:
        """Return a name for each value: what it means where that can be told, else its learned name, else its number."""
        found: list[str] = []
        for place, name in enumerate(self.names):
            column = [row[place] for row in self.examples if place < len(row)]
            role = role_of(name) if name else None
            if role is None and column and all(_MOMENT.fullmatch(text) for text in column):
                role = "ts"
            wanted = role if role and role not in found else name or f"value{place + 1}"
            found.append(wanted if wanted not in found else f"value{place + 1}")
        return found


@dataclass(slots=True)
class ToolSeen:
    """What one tool's captures hold. ``partly``: not all of their bytes were looked at."""

    traces: dict[str, TraceSeen] = field(default_factory=dict)
    events: dict[str, EventSeen] = field(default_factory=dict)
    dictionary: Dictionary = field(default_factory=Dictionary)
    files: int = 0
    rejected: int = 0
    partly: bool = False


def look_at_captures(tool: str, files: Iterable[Path], limits: Limits) -> ToolSeen:
    """Decode the captures of ``tool``, up to ``MOST_BYTES`` in all, and return what they hold."""
    seen, read = ToolSeen(), 0
    for path in files:
        if read >= MOST_BYTES:
            seen.partly = True
            break
        seen.files += 1
        decoder = HsmsDecoder(tool, {}, None, seen.dictionary, limits)
        with open(path, "rb") as file:
            for chunk in Unpacked().read(file):
                read += len(chunk)
                for part in decoder.feed(chunk):
                    _take(seen, part)
                if read >= MOST_BYTES:
                    seen.partly = True
                    break
            else:
                for part in decoder.finish():
                    _take(seen, part)
        seen.dictionary = decoder.dictionary
    return seen


def _take(seen: ToolSeen, part: Decoded) -> None:
    seen.rejected += len(part.rejected)
    if part.records is not None:
        _traces(seen, part.records)
    if part.events is not None:
        _events(seen, part.events)


def _traces(seen: ToolSeen, records: Records) -> None:
    for number, stream in enumerate(records.streams):
        mine = records.stream == number
        if not mine.any():
            continue
        trace = seen.traces.setdefault(stream.trace, TraceSeen())
        kinds, counts = np.unique(records.layout[mine], return_counts=True)
        for kind, count in zip(kinds.tolist(), counts.tolist(), strict=True):
            trace.widths[len(records.layouts[kind])] += count
            trace.layouts.add(records.layouts[kind])
        steps = np.diff(records.time_us[mine])
        trace.steps_us += steps[steps > 0][: 10 * EXAMPLES].tolist()


def _events(seen: ToolSeen, events: Events) -> None:
    vars_ = events.vars.to_pylist()
    for number, text in zip(events.kind.tolist(), vars_, strict=True):
        kind = events.kinds[number]
        if kind.ceid is None:
            continue
        event = seen.events.setdefault(str(kind.ceid), EventSeen())
        event.count += 1
        if event.count > EXAMPLES:
            continue
        names: list[str | None] = []
        values: list[str] = []
        for name, value in json.loads(text).items():
            listed = value if isinstance(value, list) else [value]
            names += [name if not isinstance(value, list) else None] * len(listed)
            values += [item if isinstance(item, str) else json.dumps(item) for item in listed]
        event.widths[len(values)] += 1
        if len(names) > len(event.names) or (len(names) == len(event.names) and any(names)):
            event.names = tuple(names)
        event.examples.append(tuple(values))
