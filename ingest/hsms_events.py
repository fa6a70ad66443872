"""S6F11 and S5F1 to ``Events``: configured values to their columns, all else to ``vars``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ingest.config import Limits, Model
from ingest.dictionary import Dictionary
from ingest.event_plans import Plan, PlanBook
from ingest.event_trees import NAMED, EventTree, TreeReader
from ingest.hsms_frames import byte_ranges
from ingest.items import BLANKS, context_text, plain_text, read_at
from ingest.records import NO_TIME, Context, EventKind, Events, Float64, Int32, Int64
from ingest.zone import to_utc
from kernels import secs
from kernels import secs_events as columns_of
from kernels.json_text import PLAIN_MIN
from kernels.secs_events import event_heads, event_values
from kernels.secs_text import EMPTY, LOCAL, UNREADABLE, parse_stimes

Bytes = npt.NDArray[np.uint8]

MOST_CONTEXTS = 1 << 12
"""Contexts remembered; beyond, all are forgotten."""

OUT_PER_BYTE, NAMED_PER_BYTE = 8, 2
"""What ``event_values`` may write for each byte it reads."""

MANY = 64
"""From as many doubles on, arrow writes them: five times faster, at a cost per call."""

PLAIN_MAX = 1e10
"""From here on, and below ``PLAIN_MIN``, arrow writes exponents where Python doesn't, or in another way."""

SHORT_ASCII = 0x41
"""Form byte of an ASCII item with one length byte."""

BLANK_BYTES = BLANKS.encode()


class Stated(NamedTuple):
    """What an event says of its chamber (None: nothing) and context."""

    chamber: str | None
    context: Context


@dataclass(slots=True)
class BadTime:
    """An event whose time can't be read: its frame is rejected."""

    start: int
    stop: int
    detail: str


@dataclass(slots=True)
class Found:
    """The ``e`` sound events of a stretch: byte ranges in the buffer, columns (``frame`` counts among them)."""

    starts: Int64
    stops: Int64
    columns: Events | None
    bad: list[BadTime]


def _stated(raw: bytes) -> Stated:
    """Read the bytes that ``event_values`` put into ``named`` for one event."""
    at = 0
    values: list[str | None] = [None] * len(NAMED)
    text = raw.decode("ascii") if raw.isascii() else None
    while at < len(raw):
        name, form = raw[at], raw[at + 1]
        if form == SHORT_ASCII:
            first, at = at + 3, at + 3 + raw[at + 2]
            values[name] = plain_text(raw[first:at].strip(BLANK_BYTES)) if text is None else text[first:at].strip(BLANKS)
        else:
            item, at = read_at(raw, at + 1)
            values[name] = context_text(item)
    return Stated(values[1], Context(*values[2:]))


def _float_texts(floats: Float64) -> tuple[Bytes, Int64]:
    """Return the texts of doubles as Python's ``repr`` writes them, one after the other, and their bounds."""
    if len(floats) < MANY:
        each = [repr(value) for value in floats.tolist()]
        return np.frombuffer("".join([*each, " "]).encode(), np.uint8), np.cumsum([0, *map(len, each)], dtype=np.int64)
    texts = pa.array(floats).cast(pa.string())
    sizes = np.abs(floats)
    other = (sizes < PLAIN_MIN) | (sizes >= PLAIN_MAX)
    if other.any():
        texts = pc.replace_with_mask(texts, pa.array(other), pa.array(list(map(repr, floats[other].tolist())), pa.string()))
    _, bounds, raw = texts.buffers()
    array: Bytes = np.frombuffer(raw, np.uint8)
    array.flags.writeable = False
    first = texts.offset
    return array, np.frombuffer(bounds, np.int32)[first : first + len(floats) + 1].astype(np.int64)


class EventReader:
    """Reads the event frames of one tool, a stretch at a time."""

    def __init__(self, tool: str, chamber: str | None, model: Model | None, dictionary: Dictionary, limits: Limits) -> None:
        model = model or Model()
        self._tool, self._zone = tool, model.timezone
        self._trees = TreeReader(chamber, model, dictionary)
        self._plans = PlanBook(chamber, model, dictionary)
        self._contexts: dict[bytes, Stated] = {}
        self._stack = np.zeros(limits.depth + 1, np.int64)
        self._time = np.zeros(2, np.int64)

    def forget(self) -> None:
        """Take in that the dictionary has changed."""
        self._plans.forget()

    def read(self, buf: Bytes, spans: Int64) -> Found:
        """Read the sound event frames of ``buf`` (read-only) that ``spans`` (SPAN, e), EVENT and ALARM only, tell of."""
        spans = np.ascontiguousarray(spans)  # kernels are compiled for one layout
        total = int((spans[secs.SPAN_STOP] - spans[secs.SPAN_START]).sum())
        columns = np.empty((columns_of.COLUMN, spans.shape[1]), np.int64)
        keys, floats = np.empty(total, np.uint8), np.empty(total // 4 + 1, np.float64)
        key_bytes, float_count = event_heads(buf, spans, columns, keys, floats)
        plans, plan = self._planned(_cut(keys[:key_bytes], columns[columns_of.KEY_STOP]))
        texts, named = self._values(buf, spans, columns, plans, plan, _float_texts(floats[:float_count]), total)
        starts, stops = spans[secs.SPAN_START], spans[secs.SPAN_STOP]
        flags, times = np.empty(len(plan), np.int64), np.empty(len(plan), np.int64)
        time_starts, time_stops = columns[columns_of.TIME_START], columns[columns_of.TIME_STOP]
        odd = np.flatnonzero(time_starts < 0).tolist()
        parse_stimes(buf, time_starts, time_stops, flags, times)
        kinds, kind = self._kinds(plans, plan, named)
        events = Events(
            tool=self._tool,
            kinds=kinds,
            kind=kind,
            dataid=pa.array(columns[columns_of.DATAID], mask=columns[columns_of.HAS_DATAID] == 0),
            time_us=times,
            late_us=times,
            vars=texts,
            body=byte_ranges(buf, starts + secs.FRAME, stops),
            system=columns[columns_of.SYSTEM],
            frame=np.arange(len(plan)),
        )
        trees = {i: self._tree(buf, spans, i) for i in odd}
        if trees:
            self._replace(events, trees, flags)
        self._settle(events, flags)
        bad = np.flatnonzero(flags == UNREADABLE).tolist()
        if not bad:
            return Found(starts, stops, events, [])
        faults = [self._fault(trees.get(i) or self._tree(buf, spans, i), int(starts[i]), int(stops[i])) for i in bad]
        good = flags != UNREADABLE
        return Found(starts[good], stops[good], _select(events, good) if good.any() else None, faults)

    def _planned(self, keys: pa.BinaryArray) -> tuple[list[Plan], Int64]:
        """Return the plans of the distinct ``keys``, and which of them each key has."""
        self._plans.make_room()
        known = self._plans.plans
        coded = keys.dictionary_encode()
        return [known.get(key) or self._plans.plan(key) for key in coded.dictionary.to_pylist()], coded.indices.to_numpy()

    def _values(
        self, buf: Bytes, spans: Int64, columns: Int64, plans: list[Plan], plan: Int64, floats: tuple[Bytes, Int64], total: int
    ) -> tuple[pa.StringArray, pa.DictionaryArray]:
        """Return ``vars`` and what is stated of each event; events that must be read alone get -1 for their time."""
        numbers = np.array([each.number for each in plans], np.int64)[plan]
        prefixes = int(np.array([each.prefix_bytes for each in plans], np.int64)[plan].sum())
        out = np.empty(OUT_PER_BYTE * total + prefixes, np.uint8)
        named = np.empty(NAMED_PER_BYTE * total, np.uint8)
        t = self._plans.tables()
        used, named_used = event_values(
            *(buf, spans, numbers, t.firsts, t.tokens, t.prefixes, t.prefix_at, *floats, self._stack, columns, out, named, self._time)
        )
        raw = _cut(out[:used], columns[columns_of.VARS_STOP])
        try:
            texts = raw.cast(pa.string())
        except pa.ArrowInvalid:  # Latin-1 somewhere: each text is judged alone
            each = [_decoded(text) for text in raw.to_pylist()]
            latin = np.asarray([text is None for text in each])
            columns[columns_of.TIME_START, latin] = columns[columns_of.TIME_STOP, latin] = -1
            texts = pa.array(each, pa.string())
        return texts, _cut(named[:named_used], columns[columns_of.NAMED_STOP]).dictionary_encode()

    def _kinds(self, plans: list[Plan], plan: Int64, named: pa.DictionaryArray) -> tuple[list[EventKind], Int32]:
        """Return the distinct pairs of plan and statement, and which of them each event is."""
        if len(self._contexts) > MOST_CONTEXTS:
            self._contexts.clear()
        stated = []
        for raw in named.dictionary.to_pylist():
            if raw not in self._contexts:
                self._contexts[raw] = _stated(raw)
            stated.append(self._contexts[raw])
        pairs, kind = np.unique(plan.astype(np.int64) << 32 | named.indices.to_numpy(), return_inverse=True)
        kinds = []
        for pair in pairs.tolist():
            own, said = plans[pair >> 32], stated[pair & 0xFFFF_FFFF]
            kinds.append(EventKind(own.event, own.ceid, own.role, own.chamber if said.chamber is None else said.chamber, said.context))
        return kinds, kind.astype(np.int32)

    def _tree(self, buf: Bytes, spans: Int64, i: int) -> EventTree:
        return self._trees.read(buf[spans[secs.SPAN_START, i] : spans[secs.SPAN_STOP, i]].tobytes())

    def _replace(self, events: Events, trees: dict[int, EventTree], flags: Int64) -> None:
        """Put what was read alone in its place."""
        read = np.zeros(len(flags), np.bool_)
        for i, tree in trees.items():
            read[i] = True
            events.kinds.append(events.kinds[events.kind[i]]._replace(chamber=tree.chamber, context=tree.context))
            events.kind[i] = len(events.kinds) - 1
            text = tree.ts.encode("latin-1", "replace")
            flag, time_us = np.empty(1, np.int64), np.empty(1, np.int64)
            parse_stimes(np.frombuffer(text + b"\0", np.uint8), np.array([0]), np.array([len(text)]), flag, time_us)
            flags[i], events.time_us[i] = flag[0], time_us[0]
        events.vars = pc.replace_with_mask(events.vars, pa.array(read), pa.array([tree.vars for tree in trees.values()], pa.string()))

    def _settle(self, events: Events, flags: Int64) -> None:
        """Turn local times to UTC."""
        times = events.time_us
        if self._zone != "UTC":
            events.late_us = late = times.copy()
            local = flags == LOCAL
            times[local], late[local] = to_utc(times[local], self._zone)
            late[flags == EMPTY] = NO_TIME
        times[flags == EMPTY] = NO_TIME

    def _fault(self, tree: EventTree, start: int, stop: int) -> BadTime:
        ceid = tree.ceid if tree.ceid is not None else tree.event
        return BadTime(start, stop, f"CEID {ceid}: ts {tree.ts[:48]!r} is no time")


def _select(events: Events, good: npt.NDArray[np.bool_]) -> Events:
    """Return the good ones, numbered anew."""
    rows = np.flatnonzero(good)
    at = pa.array(rows)
    return Events(
        tool=events.tool,
        kinds=events.kinds,
        kind=events.kind[rows],
        dataid=events.dataid.take(at),
        time_us=events.time_us[rows],
        late_us=events.late_us[rows],
        vars=events.vars.take(at),
        body=events.body.take(at),
        system=events.system[rows],
        frame=np.arange(len(rows)),
    )


def _cut(raw: Bytes, stops: Int64) -> pa.BinaryArray:
    """Return ``raw`` cut at ``stops`` as an Arrow column."""
    offsets = np.append(0, stops).astype(np.int32)
    return pa.Array.from_buffers(pa.binary(), len(stops), [None, pa.py_buffer(offsets), pa.py_buffer(raw.tobytes())])


def _decoded(raw: bytes) -> str | None:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
