"""What configuration and dictionary say about a TRID: its stream, group, period and the names of its positions."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ingest.config import Model, TraceModel
from ingest.dictionary import Dictionary
from ingest.records import Int64, Layout, Sensor, StreamKey

SECOND_US = 1_000_000
MOST_PERIOD_US = 1 << 45
"""About a year: a period beyond is no period."""
NO_COUNT = -1


def ordinal_name(position: int) -> str:
    """Return the name of the nameless sensor at ``position`` (from 0)."""
    return f"sv{position + 1:04d}"


@dataclass(slots=True)
class TraceSetting:
    """The rules for one TRID from one point of the payload on. ``count``: sensors that are configured, NO_COUNT where none are."""

    key: StreamKey
    group: int
    period_us: int
    count: int
    names: Layout
    layouts: dict[int, Layout] = field(default_factory=dict)

    def layout(self, count: int) -> Layout:
        """Return the names of a record of ``count`` samples: ours where they fit, else ordinal ones."""
        if count == len(self.names):
            return self.names
        if count not in self.layouts:
            self.layouts[count] = tuple(Sensor(ordinal_name(i)) for i in range(count))
        return self.layouts[count]


def _configured(trace: TraceModel) -> Layout:
    return tuple(Sensor(s.name or s.column or "", s.unit, None, "configured") for s in trace.sensors or ())


def _learned(svids: tuple[str, ...], dictionary: Dictionary) -> Layout:
    """Name positions by their SVIDs; one without a name, or with one that is taken, keeps its ordinal name."""
    sensors: list[Sensor] = []
    taken: set[str] = set()
    for i, svid in enumerate(svids):
        label = dictionary.names.get(svid)
        if label is None or label.name in taken:
            sensors.append(Sensor(ordinal_name(i), None if label is None else label.unit, svid, "ordinal"))
        else:
            sensors.append(Sensor(label.name, label.unit, svid, "learned"))
        taken.add(sensors[-1].name)
    return tuple(sensors)


class Settings:
    """The settings of all traces of a payload; a change of the dictionary makes new ones and leaves old ones as they were."""

    def __init__(self, tool: str, chamber: str | None, model: Model | None, dictionary: Dictionary) -> None:
        self._tool, self._chamber, self._model, self._dictionary = tool, chamber, model or Model(), dictionary
        self.all: list[TraceSetting] = []
        self._current = np.full(64, -1, np.int64)
        self._columns = np.empty((3, 0), np.int64)

    def forget(self) -> None:
        """Give what follows new settings, for the dictionary has changed."""
        self._current[:] = -1

    def of(self, numbers: Int64, texts: list[str]) -> Int64:
        """Return the index in ``all`` of the setting of each of ``n`` trace numbers."""
        if len(texts) > len(self._current):
            self._current = np.concatenate([self._current, np.full(2 * len(texts), -1, np.int64)])
        found = self._current[numbers]
        if len(found) and found.min() < 0:
            for number in np.unique(numbers[found < 0]).tolist():
                self._current[number] = len(self.all)
                self.all.append(self._make(texts[number]))
            rows = [(s.group, s.period_us, s.count) for s in self.all[self._columns.shape[1] :]]
            self._columns = np.concatenate([self._columns, np.array(rows, np.int64).T], axis=1)
            found = self._current[numbers]
        return found

    def columns(self, settings: Int64) -> tuple[Int64, Int64, Int64]:
        """Return group, period in microseconds (0: none) and number of configured sensors of each setting."""
        return self._columns[0][settings], self._columns[1][settings], self._columns[2][settings]

    def _make(self, trid: str) -> TraceSetting:
        configured = self._model.traces.get(trid)
        learned = self._dictionary.traces.get(trid)
        trace = configured or TraceModel()
        period_s = trace.period or (learned.period_s if learned else None) or 0.0
        # A group of 1 beside configured names is a statement; without names it's only the default, which a learned one overrules.
        group = trace.group if trace.sensors is not None or trace.group > 1 or learned is None else learned.group
        names = _configured(trace) if trace.sensors is not None else _learned(learned.svids, self._dictionary) if learned else ()
        period_us = round(period_s * SECOND_US) if period_s * SECOND_US < MOST_PERIOD_US else 0
        key = StreamKey(self._tool, trace.chamber if trace.chamber is not None else self._chamber, trid, "")
        return TraceSetting(key, group, period_us, NO_COUNT if trace.sensors is None else len(trace.sensors), names)
