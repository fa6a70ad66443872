"""Windows from events: a fold over a tool's events in time order, the same whatever order they arrived in.

Per chamber the fold holds the context in force and the open window. Events at one time stand in the order: ends, mere context
changes, starts; then by CEID and body, so that the result is a function of the set of events.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

NONE_YET = -(1 << 62)
"""Earlier than every event."""

RANK = {"end": 0, None: 1, "start": 2}


class ContextEvent(NamedTuple):
    """An event as the fold needs it. In chamber and values None means not stated, '' stated as none."""

    time_us: int
    role: str | None
    ceid: int
    digest: str
    chamber: str | None
    values: tuple[str | None, str | None, str | None, str | None]

    def order(self) -> tuple[int, int, int, str]:
        """Return the place in the fold."""
        return self.time_us, RANK[self.role], self.ceid, self.digest


class Span(NamedTuple):
    """A window before it has an id: chamber '' for none, context (lot, wafer, recipe, step)."""

    chamber: str
    started_us: int
    ordinal: int
    context: tuple[str | None, ...]
    ended_us: int | None
    complete: bool


@dataclass(slots=True)
class _Chamber:
    context: list[str | None] = field(default_factory=lambda: [None, None, None, None])
    started_us: int | None = None
    ordinal: int = 0
    opened_with: tuple[str | None, ...] = ()
    last_start_us: int = NONE_YET
    last_ordinal: int = 0


class Fold:
    """The state of a tool's windows after the events folded so far."""

    def __init__(self, chambers: Iterable[str], state: str | None = None) -> None:
        self.time_us = NONE_YET
        self._chambers: dict[str, _Chamber] = {chamber: _Chamber() for chamber in chambers}
        if state is not None:
            saved = json.loads(state)
            self.time_us = saved["time_us"]
            for name, (context, started, ordinal, opened_with, last_start, last_ordinal) in saved["chambers"].items():
                self._chambers[name] = _Chamber(context, started, ordinal, tuple(opened_with), last_start, last_ordinal)

    def state(self) -> str:
        """Return the state as JSON, for a checkpoint."""
        chambers = {
            name: [c.context, c.started_us, c.ordinal, list(c.opened_with), c.last_start_us, c.last_ordinal]
            for name, c in self._chambers.items()
        }
        return json.dumps({"time_us": self.time_us, "chambers": chambers}, sort_keys=True)

    def chambers(self) -> set[str]:
        """Return the chambers that the fold knows."""
        return set(self._chambers)

    def feed(self, events: Sequence[ContextEvent]) -> list[Span]:
        """Fold ``events`` (sorted, none before those folded already); return the windows that they closed."""
        closed: list[Span] = []
        for event in events:
            self.time_us = event.time_us
            names = [event.chamber] if event.chamber else list(self._chambers)
            for name in names:
                self._one(name, self._chambers.setdefault(name, _Chamber()), event, closed)
        return closed

    def open(self) -> list[Span]:
        """Return the windows that are open after the last event."""
        return [
            Span(name, c.started_us, c.ordinal, c.opened_with, None, False)
            for name, c in self._chambers.items()
            if c.started_us is not None
        ]

    def _one(self, name: str, chamber: _Chamber, event: ContextEvent, closed: list[Span]) -> None:
        if event.role is not None and chamber.started_us is not None:
            matches = event.role == "end" and all(
                stated is None or (stated or None) == own for stated, own in zip(event.values, chamber.opened_with, strict=True)
            )
            closed.append(Span(name, chamber.started_us, chamber.ordinal, chamber.opened_with, event.time_us, matches))
            chamber.started_us = None
        for i, stated in enumerate(event.values):
            if stated is not None:
                chamber.context[i] = stated or None
        if event.role == "start":
            chamber.ordinal = chamber.last_ordinal + 1 if chamber.last_start_us == event.time_us else 0
            chamber.last_start_us, chamber.last_ordinal = event.time_us, chamber.ordinal
            chamber.started_us, chamber.opened_with = event.time_us, tuple(chamber.context)


def context_event(row: Sequence[Any]) -> ContextEvent:
    """Build from a row (time_us, role, ceid, digest, chamber, lot, wafer, recipe, step)."""
    return ContextEvent(row[0], row[1], -1 if row[2] is None else row[2], row[3], row[4], tuple(row[5:9]))
