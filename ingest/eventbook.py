"""Events: identified by (tool, ceid, time, whole body), or without a time by (tool, body, system bytes); kept once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ingest.records import NO_TIME, Context, EventKind, Events, Int64
from ingest.windows import ContextEvent
from storage.schema import arrow_schema
from storage.store import Store

Identities = npt.NDArray[np.void]
"""(e,) of 48 bytes: CEID (NO_CEID) or, without a time, system bytes; time or NO_TIME; SHA-256 of the body."""

NO_CEID = int(np.iinfo(np.int64).min)
IDENTITY = np.dtype((np.void, 48))
SPILL_BYTES = 32 << 20

_HEX = np.zeros(256, np.uint8)
_HEX[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)


class Arrived(NamedTuple):
    """The events of one stretch of a payload; ``byte_start``: int64 (e,)."""

    events: Events
    payload_id: str
    byte_start: Int64


def digests(bodies: Sequence[pa.BinaryArray]) -> pa.StringArray:
    """Return the SHA-256 of each body, in hex."""
    return pa.array([hashlib.sha256(body).hexdigest() for some in bodies for body in some.to_pylist()], pa.string())


@dataclass(slots=True)
class EventBook:
    """The events of a batch: which are new, and their rows."""

    store: Store
    _seen: dict[str, Identities] = field(default_factory=dict)
    _tables: list[pa.Table] = field(default_factory=list)
    withdrawn: Sequence[str] = ()
    """Payloads whose stored events are as good as gone."""
    last_us: dict[str, int] = field(default_factory=dict)
    """tool -> time of its last new event."""

    def take(self, tool: str, arrived: Sequence[Arrived]) -> tuple[list[npt.NDArray[np.bool_]], list[int], list[ContextEvent], set[str]]:
        """Keep what is new of one tool's stretches, in order.

        Returns per stretch a mask of the new events and how many times were ambiguous; what the windows need of the new ones; and the
        chambers that they name.
        """
        settled = [_settled(each.events) for each in arrived]
        time_us = np.concatenate([times for times, _ in settled])
        numbers: dict[EventKind, int] = {}
        kind = np.concatenate([_numbered(each.events, numbers) for each in arrived])
        kinds = list(numbers)
        digest = digests([each.events.body for each in arrived])
        timed = time_us != NO_TIME
        ceid = np.asarray([NO_CEID if k.ceid is None else k.ceid for k in kinds], np.int64)[kind]
        identity = _identities(np.where(timed, ceid, np.concatenate([each.events.system for each in arrived])), time_us, digest)
        stored = self._stored(tool, time_us[timed], digest.filter(pa.array(~timed)))
        seen = np.concatenate([self._seen.get(tool, stored[:0]), stored])
        distinct, first = np.unique(identity, return_index=True)
        new = first[~np.isin(distinct, seen)]
        self._seen[tool] = np.unique(np.concatenate([seen, distinct]))
        fresh = np.zeros(len(identity), np.bool_)
        fresh[new] = True
        rows = np.flatnonzero(fresh)
        if len(rows):
            self._tables.append(_table(tool, arrived, kinds, kind, time_us, digest, rows))
        dated = rows[timed[rows]]
        if len(dated):
            self.last_us[tool] = max(int(time_us[dated].max()), self.last_us.get(tool, NO_TIME))
        masks = np.split(fresh, np.cumsum([len(times) for times, _ in settled])[:-1])
        return masks, [count for _, count in settled], *_context(kinds, kind, time_us, digest, dated)

    def _stored(self, tool: str, times: Int64, digests: pa.StringArray) -> Identities:
        """Return the identities of stored events that events at ``times``, or without a time with ``digests``, may repeat."""
        last_us = self.store.index.facts(tool).last_event_us
        found = [np.empty(0, IDENTITY)]
        times = times[times <= last_us] if last_us is not None else times[:0]
        if len(times):
            rows = self.store.arrow(
                f"SELECT coalesce(ceid, {NO_CEID}) AS ident, epoch_us(ts) AS time_us, body_digest FROM lake.main.events "
                "WHERE tool = ? AND ts BETWEEN make_timestamp(?) AND make_timestamp(?) AND NOT list_contains(?, payload_id)",
                [tool, int(times.min()), int(times.max()), list(self.withdrawn)],
            )
            found.append(_identities_of(rows))
        if len(digests) and self.store.index.tool_revision(tool):
            rows = self.store.arrow(
                f"SELECT system_bytes AS ident, {NO_TIME} AS time_us, body_digest FROM lake.main.events "
                "WHERE tool = ? AND ts IS NULL AND list_contains(?, body_digest) AND NOT list_contains(?, payload_id)",
                [tool, digests.unique().to_pylist(), list(self.withdrawn)],
            )
            found.append(_identities_of(rows))
        return np.concatenate(found)

    def spill(self) -> pa.Table | None:
        """Give up the rows if they take much memory: the caller writes them."""
        return self.table() if sum(table.nbytes for table in self._tables) > SPILL_BYTES else None

    def table(self) -> pa.Table:
        """Return the rows of the new events, and forget them."""
        tables, self._tables = self._tables, []
        return pa.concat_tables([arrow_schema("events").empty_table(), *tables])


def _settled(events: Events) -> tuple[Int64, int]:
    """Settle repeated local hours: the reading that keeps the order of the payload, else the earlier one."""
    ambiguous = np.flatnonzero(events.late_us != events.time_us)
    times = events.time_us.copy() if len(ambiguous) else events.time_us
    for i in ambiguous.tolist():
        if i and times[i] < times[i - 1] <= events.late_us[i]:
            times[i] = events.late_us[i]
    return times, len(ambiguous)


def _numbered(events: Events, numbers: dict[EventKind, int]) -> Int64:
    """Return the kinds of events as ``numbers`` counts them; new ones are added."""
    return np.asarray([numbers.setdefault(kind, len(numbers)) for kind in events.kinds], np.int64)[events.kind]


def _identities(ident: Int64, time_us: Int64, digest: pa.StringArray) -> Identities:
    rows = np.empty((len(ident), 6), np.int64)
    rows[:, 0], rows[:, 1] = ident, time_us
    if len(ident):
        bounds = np.frombuffer(digest.buffers()[1], np.int32)[digest.offset :][: len(digest) + 1]
        nibbles = _HEX[np.frombuffer(digest.buffers()[2], np.uint8)[bounds[0] : bounds[-1]]].reshape(-1, 32, 2)
        rows.view(np.uint8)[:, 16:] = nibbles[:, :, 0] << 4 | nibbles[:, :, 1]
    return rows.view(IDENTITY).reshape(-1)


def _identities_of(rows: pa.Table) -> Identities:
    rows = rows.combine_chunks()
    digest = rows.column("body_digest").combine_chunks()
    return _identities(rows.column("ident").to_numpy(), rows.column("time_us").to_numpy(), digest)


def _table(
    tool: str, arrived: Sequence[Arrived], kinds: Sequence[EventKind], kind: Int64, time_us: Int64, digest: pa.StringArray, rows: Int64
) -> pa.Table:
    """Return the rows of ``events`` of the new ones among those that arrived."""
    at, of_kind = pa.array(rows), pa.array(kind[rows])
    payload = np.repeat(np.arange(len(arrived)), [len(each.byte_start) for each in arrived])

    def text(values: Sequence[str | None]) -> pa.StringArray:
        return pa.array(values, pa.string()).take(of_kind)

    times = time_us[rows]
    columns = {
        "tool": pa.array([tool], pa.string()).take(pa.array(np.zeros(len(rows), np.int64))),
        "chamber": text([k.chamber or None for k in kinds]),
        "event": text([k.event for k in kinds]),
        "ceid": pa.array([k.ceid for k in kinds], pa.int64()).take(of_kind),
        "dataid": pa.concat_arrays([each.events.dataid for each in arrived]).take(at),
        "ts": pa.array(times, mask=times == NO_TIME).cast(pa.timestamp("us")),
        "vars": pa.concat_arrays([each.events.vars for each in arrived]).take(at),
        "payload_id": pa.array([each.payload_id for each in arrived], pa.string()).take(pa.array(payload[rows])),
        "byte_start": pa.array(np.concatenate([each.byte_start for each in arrived])[rows]),
        **{name: text([getattr(k.context, name) for k in kinds]) for name in Context._fields},
        "role": text([k.role for k in kinds]),
        "system_bytes": pa.array(np.concatenate([each.events.system for each in arrived])[rows]),
        "body_digest": digest.take(at),
    }
    schema = arrow_schema("events")
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _context(
    kinds: Sequence[EventKind], kind: Int64, time_us: Int64, digest: pa.StringArray, rows: Int64
) -> tuple[list[ContextEvent], set[str]]:
    """Return the events among ``rows`` that bear on windows, and the chambers that any of them names."""
    bears = np.asarray([k.role is not None or any(value is not None for value in k.context) for k in kinds], np.bool_)
    chambers = {kinds[i].chamber or "" for i in np.unique(kind[rows]).tolist()} - {""}
    some = rows[bears[kind[rows]]]
    bodies = digest.take(pa.array(some)).to_pylist()
    context = []
    for number, time, body in zip(kind[some].tolist(), time_us[some].tolist(), bodies, strict=True):
        k = kinds[number]
        context.append(ContextEvent(time, k.role, -1 if k.ceid is None else k.ceid, body, k.chamber or None, k.context))
    return context, chambers
