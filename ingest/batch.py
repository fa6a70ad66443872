"""One batch: decoded stretches become staged files and changed state; :mod:`ingest.closing` turns it into one commit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingest import judgement, repeated
from ingest.account import Payload
from ingest.config import Config
from ingest.derived import Derived
from ingest.eventbook import Arrived, EventBook
from ingest.keys import ACCEPTED, CONFLICT, DUPLICATE, KeyBook, Outcome
from ingest.recent import Recent
from ingest.records import Decoded, Int64, Layout, Rejected
from ingest.rows import Quarantined, conflicts_table, quarantine_row, texts_table
from ingest.segment import SEGMENT_SAMPLES, Arena, Pending, Registry, Segment
from ingest.spanning import reduce_tails
from ingest.spool import Spool
from ingest.timing import Stages
from ingest.tracefile import Reduced, TraceFile, groups_of
from ingest.windowbook import WindowBook
from kernels.runs import distinct
from storage.files import StagedFile, Stager
from storage.history import History, StagedTraces
from storage.index import Window
from storage.schema import rows_table
from storage.store import Store

if TYPE_CHECKING:
    from ingest.withdrawal import Withdrawal

NOTHING = 3
"""Outcome of a frame that carried no record."""

PIECE_BYTES = 1 << 20
QUARANTINE_BYTES = 32 << 20


@dataclass(slots=True)
class Written:
    """A staged file of traces or conflicts, and the windows by which its rows were assigned, per chamber."""

    file: StagedFile
    place: StagedTraces
    windows: dict[str, list[Window]]


class Batch:
    """The payloads of one commit while they are decoded."""

    def __init__(
        self, store: Store, config: Config, batch_id: str, new_id: Callable[[], str], stages: Stages, recent: Recent, arena: Arena
    ) -> None:
        self.store = store
        self.config = config
        self.batch_id = batch_id
        self.new_id = new_id
        self.stages = stages
        self.registry = Registry()
        self.history = History(store)
        lake = config.lake
        self.stager = Stager(store.data, new_id, level=lake.compression_level, row_group_rows=lake.row_group_rows, writer=lake.writer)
        self.recent = recent.copy()
        self.recent.forget_foreign(store.index.tool_revision)
        self.keys = KeyBook(store.index, self.history, self.registry, self.recent, stages)
        self.events = EventBook(store)
        self.windows = WindowBook(store, store.index, config)
        self.base = store.index.head()
        self.payloads: list[Payload] = []
        self.dictionaries: dict[str, str] = {}
        self.replays: tuple[str, ...] = ()
        self.withdrawal: Withdrawal | None = None
        self.reduced: dict[int, list[Reduced]] = {}
        self.spool = Spool(store.data)
        self.spanning: dict[int, list[Reduced]] = {}
        """Windows that span segments, reduced from all their samples as of the last segment that touched them."""
        self.derived = Derived()
        self.stored_spans: frozenset[str] = frozenset()
        """Quarantine entries that the lake holds already."""
        self.discarded: frozenset[str] = frozenset()
        """Quarantine entries whose bytes must not come back."""
        self.touched: dict[int, str] = {}
        self.written: list[Written] = []
        self.layouts: dict[tuple[str, str, Layout], None] = {}
        self.tables: dict[str, list[pa.Table]] = {"texts": [], "conflicts": []}
        self.quarantine: list[Quarantined] = []
        self._quarantine_bytes = 0
        arena.take()
        self._pending = Pending(self.registry, arena)

    def open_payload(self, payload: Payload) -> None:
        """Begin with ``payload``, which carries the next number."""
        assert payload.number == len(self.payloads)
        self.payloads.append(payload)

    def drop_payload(self, payload: Payload) -> None:
        """Forget a payload of which nothing was taken yet."""
        assert self.payloads[-1] is payload
        self.payloads.pop()

    def take(self, payload: Payload, decoded: Decoded) -> None:
        """Take what a stretch of ``payload`` came to."""
        account = payload.account
        account.bytes_other += decoded.other_bytes
        account.frames_other += decoded.other_frames
        payload.frames += len(decoded.frame_start) + decoded.other_frames
        for rejected in decoded.rejected:
            self._reject(payload, rejected)
        decoded.rejected = []  # they wait for the quarantine, or lie there: the segment would hold the bytes until it is full
        self._pending.add(payload.number, decoded)
        if self._pending.samples >= SEGMENT_SAMPLES and not decoded.more:
            self.flush()

    def _reject(self, payload: Payload, rejected: Rejected) -> None:
        account = payload.account
        payload.note(rejected)
        tool = rejected.tool or payload.tool
        if rejected.rows:
            account.frames_quarantined += 1
            self._wall_off(payload, rejected)
            return
        account.bytes_quarantined += rejected.stop - rejected.start
        stride = PIECE_BYTES if len(rejected.data) == rejected.stop - rejected.start else rejected.stop - rejected.start
        for start in range(rejected.start, rejected.stop, max(1, stride)):
            stop = min(rejected.stop, start + stride)
            data = rejected.data[start - rejected.start : stop - rejected.start] if stride == PIECE_BYTES else rejected.data
            piece = Rejected(start, stop, rejected.reason, rejected.detail, data, tool)
            account.frames_quarantined += 1
            self._wall_off(payload, piece)

    def _wall_off(self, payload: Payload, piece: Rejected) -> None:
        self.quarantine.append(Quarantined(payload, piece, payload.dialect))
        payload.reasons[piece.reason] = payload.reasons.get(piece.reason, 0) + 1
        self._quarantine_bytes += len(piece.data) + len(payload.dialect or "")
        if self._quarantine_bytes > QUARANTINE_BYTES:
            self.spill_quarantine()

    def flush(self) -> None:
        """Decide over everything that waits, and write what is new."""
        parts = self._pending.parts
        if not parts:
            return
        self._spill()
        with self.stages("windows"):
            rank = self._take_events(parts)
        with self.stages("order"):
            segment = self._pending.take()
        self._settle_times(segment)
        with self.stages("keys"):
            outcome = self.keys.resolve(segment)
        self._book(segment, outcome, rank)
        with self.stages("windows"):
            self._name_chambers(segment)
        accepted = np.flatnonzero(outcome.state == ACCEPTED)
        names = list(dict.fromkeys(key.tool for key in self.registry.streams))
        tools = np.asarray([names.index(key.tool) for key in self.registry.streams], np.int64)
        for number, tool in enumerate(names):
            chosen = accepted[tools[segment.stream[accepted]] == number]
            if len(chosen):
                self._write(tool, segment, chosen)
        if outcome.kept:
            self._keep_conflicts(segment, outcome)
        if outcome.lacking:
            self._keep_texts(segment, np.asarray(sorted(outcome.lacking)))

    # --- events

    def _take_events(self, parts: Sequence[tuple[int, Decoded]]) -> np.ndarray:
        """Keep the new events; return the outcome of every frame of ``parts`` (NOTHING for frames without an event)."""
        ranks = [np.full(len(part.frame_start), NOTHING, np.int8) for _, part in parts]
        tools: dict[str, list[tuple[Payload, np.ndarray, Arrived]]] = {}
        for (number, part), rank in zip(parts, ranks, strict=True):
            if part.events is not None and len(part.events.kind):
                payload = self.payloads[number]
                arrived = Arrived(part.events, payload.payload_id, part.frame_start[part.events.frame])
                tools.setdefault(part.events.tool, []).append((payload, rank, arrived))
        for tool, some in tools.items():
            masks, ambiguous, context, chambers = self.events.take(tool, [arrived for _, _, arrived in some])
            for (payload, rank, arrived), fresh, unsettled in zip(some, masks, ambiguous, strict=True):
                new = int(fresh.sum())
                payload.tools.add(tool)
                payload.account.ambiguous_time += unsettled
                payload.account.record(ACCEPTED, new)
                payload.account.record(DUPLICATE, len(fresh) - new)
                payload.account.events += new
                np.minimum.at(rank, arrived.events.frame, np.where(fresh, ACCEPTED, DUPLICATE).astype(np.int8))
            self.windows.add(tool, context, chambers)
            self.windows.fold(tool)
        rows = self.events.spill()
        if rows is not None:
            self.stager.write("events", rows)
        return np.concatenate(ranks)

    def _name_chambers(self, segment: Segment) -> None:
        for number in distinct(segment.stream[segment.context < 0]).tolist():
            key = self.registry.streams[number]
            self.windows.add(key.tool, [], {key.chamber or ""})
        for tool in {self.registry.streams[i].tool for i in distinct(segment.stream).tolist()}:
            self.windows.fold(tool)

    # --- times and accounts

    def _settle_times(self, segment: Segment) -> None:
        timed = [period >= 0 for period in self.registry.periods]

        def neighbour(stream: int, time_us: int) -> tuple[int, int] | None:
            runs = self.keys.state(stream).now
            before = runs[runs[:, 0] <= time_us]
            return (int(before[-1, 2]), int(before[-1, 3])) if len(before) else None

        for number, count in enumerate(repeated.choose(segment, timed, neighbour).tolist()):
            self.payloads[number].account.ambiguous_time += count

    def _book(self, segment: Segment, outcome: Outcome, rank: np.ndarray) -> None:
        """Enter frames, bytes, records and samples in the payloads' accounts; ``rank`` holds the outcomes of event frames."""
        judgement.count_rows(self.payloads, segment, outcome, self.registry)
        framed = segment.frame >= 0
        np.minimum.at(rank, segment.frame[framed], outcome.state[framed])
        size = segment.frame_stop - segment.frame_start
        count = len(self.payloads)
        for state in (ACCEPTED, CONFLICT, DUPLICATE, NOTHING):
            chosen = rank == state
            total = np.bincount(segment.frame_payload[chosen], weights=size[chosen], minlength=count).astype(np.int64)
            frames = np.bincount(segment.frame_payload[chosen], minlength=count)
            for number in np.flatnonzero(frames).tolist():
                account = self.payloads[number].account
                if state == NOTHING:
                    account.bytes_other += int(total[number])
                    account.frames_other += int(frames[number])
                else:
                    account.frame(state, int(total[number]))
        for i in np.flatnonzero(segment.frame_start == 0).tolist():
            self.payloads[int(segment.frame_payload[i])].unit = (int(rank[i]), int(size[i]))
        for state in (ACCEPTED, CONFLICT, DUPLICATE):
            records = np.bincount(segment.payload[outcome.state == state], minlength=count)
            for number in np.flatnonzero(records).tolist():
                self.payloads[number].account.record(state, int(records[number]))
        kept = outcome.state == ACCEPTED
        samples = np.bincount(segment.payload[kept], weights=segment.count[kept], minlength=count).astype(np.int64)
        for number in np.flatnonzero(samples).tolist():
            self.payloads[number].account.samples += int(samples[number])
        streams = len(self.registry.streams)
        for pair in distinct(segment.payload.astype(np.int64) * streams + segment.stream).tolist():
            self.payloads[pair // streams].tools.add(self.registry.streams[pair % streams].tool)
        for number in np.unique(segment.payload[~framed]).tolist():
            self._rebook(self.payloads[number], int(outcome.state[(segment.payload == number) & ~framed].min()))

    def _rebook(self, payload: Payload, state: int) -> None:
        """Move the bytes of a payload that is one frame when later records make it count for more."""
        assert payload.unit is not None
        before, size = payload.unit
        if state >= before:
            return
        account = payload.account
        if before == NOTHING:
            account.bytes_other -= size
            account.frames_other -= 1
        else:
            account.frame(before, -size)
        account.frame(state, size)
        payload.unit = (state, size)

    # --- writing

    def _write(self, tool: str, segment: Segment, record: Int64) -> None:
        with self.stages("windows"):
            window = self.assign(tool, segment, record, create=True)
            listed = self._windows_of(tool, segment, record)
            by_id = {w.window_id: w for windows in listed.values() for w in windows} | self.windows.context_windows()
        groups = groups_of(segment, self.registry, record, window)
        self.layouts |= dict.fromkeys((tool, group.trace, group.layout) for group in groups)
        payload_ids = [payload.payload_id for payload in self.payloads]
        traces = TraceFile(tool, segment, self.registry, groups, payload_ids, self._pending.arena, self.derived)
        with self.stages("write"):
            pieces = traces.pieces(self.config.lake.row_group_rows, by_id, self.stages)
            staged = self.stager.write_traces(pieces, traces.optional(), segment.values)
        with self.stages("recent"):
            for group in groups:
                place = (tool, group.chamber, group.trace)
                with self.derived.guard():
                    self._reduce_leaving(self.recent.leaving(place))
                self.recent.add(place, group.layout, segment, self.registry, group.record, group.window, payload_ids, self.windows.new_ids)
        self._register(tool, staged, segment, record, listed)
        self.spool.add(traces.reduced)
        for reduced in traces.reduced:
            self.reduced.setdefault(reduced.window.window_id, []).append(reduced)
        with self.stages("features"):
            for window_id in distinct(window[window > 0]).tolist():
                with self.derived.guard():
                    self._reduce_spanning(by_id[window_id], again=window_id in self.touched)
                self.touched[window_id] = tool
        self._keep_texts(segment, record)

    def _keep_texts(self, segment: Segment, record: Int64) -> None:
        texts = texts_table(segment, self.registry, record, [payload.payload_id for payload in self.payloads])
        if texts.num_rows and self.keys.restoring is not None:
            texts = self.history.unstored_texts(texts)
        if texts.num_rows:
            self.tables["texts"].append(texts)

    def _reduce_spanning(self, window: Window, *, again: bool) -> None:
        """Reduce a window of which other segments hold samples too, while the tails in memory still have them."""
        if not self.derived.works:
            return
        if again or window.window_id not in self.windows.new_ids:
            held = reduce_tails(self.recent, window)
            self.spanning.pop(window.window_id, None)
            if held is not None:
                self.spool.add(held)
                self.spanning[window.window_id] = held

    def _reduce_leaving(self, window_ids: Sequence[int]) -> None:
        """Reduce committed windows whose samples are about to leave memory: their end may have come, and nothing else will."""
        for window_id in window_ids if self.derived.works else ():
            window = self.store.index.window(window_id)
            if window is not None and window_id not in self.touched:
                held = reduce_tails(self.recent, window)
                if held is not None:
                    self.spool.add(held)
                    self.spanning[window_id] = held

    def _register(self, tool: str, staged: StagedFile, segment: Segment, record: Int64, windows: dict[str, list[Window]]) -> None:
        times = segment.time_us[record]
        place = StagedTraces(staged.table, tool, staged.path, int(times.min()), int(times.max()))
        self.history.staged.append(place)
        self.written.append(Written(staged, place, windows))

    def _windows_of(self, tool: str, segment: Segment, record: Int64) -> dict[str, list[Window]]:
        times = segment.time_us[record]
        chambers = {self.registry.streams[i].chamber or "" for i in distinct(segment.stream[record]).tolist()}
        return {chamber: self.windows.windows(tool, chamber, int(times.min()), int(times.max())) for chamber in chambers}

    def assign(self, tool: str, segment: Segment, record: Int64, *, create: bool) -> Int64:
        """Return the window of each record, 0 for none: by its context where it has one, else by its time."""
        window = np.zeros(len(record), np.int64)
        chambers = [key.chamber or "" for key in self.registry.streams]
        names = {name: i for i, name in enumerate(dict.fromkeys(chambers))}
        chamber_of = np.asarray([names[name] for name in chambers], np.int64)[segment.stream[record]]
        context, time_us = segment.context[record].astype(np.int64), segment.time_us[record]
        code = chamber_of * (len(self.registry.contexts) + 1) + context + 1
        spelled = list(names)
        for value in distinct(code).tolist():
            chamber, number = divmod(value, len(self.registry.contexts) + 1)
            at = np.flatnonzero(code == value)
            if number == 0:
                window[at] = self.windows.assign(tool, spelled[chamber], time_us[at])
            else:
                times = time_us[at]
                window[at] = self.windows.context_window(
                    tool, spelled[chamber], tuple(self.registry.contexts[number - 1]), int(times.min()), int(times.max()), create=create
                )
        return window

    def _keep_conflicts(self, segment: Segment, outcome: Outcome) -> None:
        record = np.asarray(sorted(outcome.kept), np.int64)
        window = np.zeros(len(record), np.int64)
        tools = np.asarray([self.registry.streams[i].tool for i in segment.stream[record].tolist()])
        for tool in dict.fromkeys(tools.tolist()):
            own = tools == tool
            window[own] = self.assign(tool, segment, record[own], create=False)
        payload_ids = [payload.payload_id for payload in self.payloads]
        self.tables["conflicts"].append(conflicts_table(segment, self.registry, outcome, record, window, payload_ids))

    def _spill(self) -> None:
        """Write small tables that wait in memory, so that the next segment's look at history finds them."""
        for name, tables in self.tables.items():
            if tables:
                joined = pa.concat_tables(tables)
                tables.clear()
                for tool in joined.column("tool").unique().to_pylist():
                    own = joined.filter(pc.equal(joined.column("tool"), tool))
                    staged = self.stager.write(name, own.sort_by([("trace", "ascending"), ("ts", "ascending")]))
                    times = own.column("ts").cast(pa.int64()).to_numpy()
                    place = StagedTraces(name, tool, staged.path, int(times.min()), int(times.max()))
                    self.history.staged.append(place)
                    if name == "conflicts":
                        self.written.append(Written(staged, place, {}))

    def spill_quarantine(self) -> None:
        """Write the quarantined pieces that wait in memory."""
        if not self.quarantine:
            return
        rows = [quarantine_row(q, self.discarded) for q in self.quarantine]
        rows = [row for row in rows if row[0] not in self.stored_spans]
        if rows:
            self.stager.write("quarantine_log", rows_table("quarantine_log", rows))
        self.quarantine.clear()
        self._quarantine_bytes = 0
