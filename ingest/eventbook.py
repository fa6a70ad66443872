"""Events: identified by (tool, ceid, time, whole body), or without a time by (tool, body, system bytes); kept once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from ingest.records import NO_TIME, Events
from ingest.windows import ContextEvent
from storage.schema import rows_table
from storage.store import Store

Identity = tuple[int | None, int, str]
"""(ceid or system bytes, time_us or NO_TIME, digest)."""


@dataclass(slots=True)
class EventBook:
    """The events of a batch: which are new, and their rows."""

    store: Store
    _seen: dict[str, set[Identity]] = field(default_factory=dict)
    _rows: list[tuple[object, ...]] = field(default_factory=list)
    ambiguous: int = 0
    last_us: dict[str, int] = field(default_factory=dict)
    """tool -> time of its last new event."""

    def __len__(self) -> int:
        """Return how many new events there are."""
        return len(self._rows)

    def look_up(self, stretches: Sequence[Events]) -> None:
        """Learn which of the events to come are stored already: one look per tool."""
        wanted: dict[str, list[Identity]] = {}
        for events in stretches:
            wanted.setdefault(events.tool, []).extend(_identities(events, [*events.time_us.tolist(), *events.late_us.tolist()]))
        for tool, identities in wanted.items():
            self._seen.setdefault(tool, set()).update(self._stored(tool, identities))

    def take(self, events: Events, payload_id: str, byte_start: Sequence[int]) -> tuple[list[bool], list[ContextEvent]]:
        """Keep what is new of ``events``; return a mask of the new ones and what the windows need of them."""
        times = self._times(events)
        identities = _identities(events, times)
        seen = self._seen.setdefault(events.tool, set())
        fresh: list[bool] = []
        context: list[ContextEvent] = []
        for i, identity in enumerate(identities):
            new = identity not in seen
            fresh.append(new)
            if not new:
                continue
            seen.add(identity)
            chamber = events.chamber[i] or None
            timed = times[i] != NO_TIME
            if timed:
                self.last_us[events.tool] = max(times[i], self.last_us.get(events.tool, times[i]))
            self._rows.append(
                (
                    *(events.tool, chamber, events.event[i], events.ceid[i], events.dataid[i], times[i] if timed else None, events.vars[i]),
                    *(payload_id, byte_start[i], *events.context[i], events.role[i], int(events.system[i]), identity[2]),
                )
            )
            if timed:
                ceid = events.ceid[i]
                context.append(
                    ContextEvent(times[i], events.role[i], -1 if ceid is None else ceid, identity[2], chamber, events.context[i])
                )
        return fresh, context

    def _times(self, events: Events) -> list[int]:
        """Settle repeated local hours: the reading that keeps the order of the payload, else the earlier one."""
        times: list[int] = events.time_us.tolist()
        for i in np.flatnonzero(events.late_us != events.time_us).tolist():
            self.ambiguous += 1
            late = int(events.late_us[i])
            if i and times[i] < times[i - 1] <= late:
                times[i] = late
        return times

    def _stored(self, tool: str, identities: Sequence[Identity]) -> set[Identity]:
        last_us = self.store.index.facts(tool).last_event_us
        timed = [identity[1] for identity in identities if identity[1] != NO_TIME and last_us is not None and identity[1] <= last_us]
        found: set[Identity] = set()
        if timed:
            rows = self.store.rows(
                "SELECT ceid, epoch_us(ts), body_digest FROM lake.main.events "
                "WHERE tool = ? AND ts BETWEEN make_timestamp(?) AND make_timestamp(?)",
                [tool, min(timed), max(timed)],
            )
            found |= {(ceid, time_us, digest) for ceid, time_us, digest in rows}
        digests = [identity[2] for identity in identities if identity[1] == NO_TIME]
        if digests and self.store.index.tool_revision(tool):
            rows = self.store.rows(
                "SELECT system_bytes, body_digest FROM lake.main.events WHERE tool = ? AND ts IS NULL AND list_contains(?, body_digest)",
                [tool, digests],
            )
            found |= {(system, NO_TIME, digest) for system, digest in rows}
        return found

    def table(self) -> pa.Table:
        """Return the rows of the new events."""
        return rows_table("events", self._rows)


def _identities(events: Events, times: Sequence[int]) -> list[Identity]:
    """Return the identities at ``times``, which hold one or several readings of each event's time."""
    count = len(events.ceid)
    return [
        (events.ceid[i % count], time_us, events.digest[i % count].hex())
        if time_us != NO_TIME
        else (int(events.system[i % count]), NO_TIME, events.digest[i % count].hex())
        for i, time_us in enumerate(times)
    ]
