"""S6F11 and S5F1 to ``Events``: configured values to their columns, all else to ``vars``."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ingest.config import Limits, Model
from ingest.dictionary import Dictionary
from ingest.event_plans import Plan, PlanBook
from ingest.event_trees import NAMED, EventTree, TreeReader
from ingest.items import BLANKS, context_text, plain_text, read_at
from ingest.records import NO_TIME, Context, Events, Float64, Int64
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
    while at < len(raw):
        name, form = raw[at], raw[at + 1]
        if form == SHORT_ASCII:
            stop = at + 3 + raw[at + 2]
            values[name], at = plain_text(raw[at + 3 : stop].strip(BLANK_BYTES)), stop
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
        total = int((spans[secs.SPAN_STOP] - spans[secs.SPAN_START]).sum())
        columns = np.empty((columns_of.COLUMN, spans.shape[1]), np.int64)
        keys, floats = np.empty(total, np.uint8), np.empty(total // 4 + 1, np.float64)
        key_bytes, float_count = event_heads(buf, spans, columns, keys, floats)
        plans = self._planned(keys[:key_bytes].tobytes(), columns[columns_of.KEY_STOP].tolist())
        texts, named = self._values(buf, spans, columns, plans, _float_texts(floats[:float_count]), total)
        starts, stops = spans[secs.SPAN_START], spans[secs.SPAN_STOP]
        view = buf.data
        bounds = list(zip((starts + secs.FRAME).tolist(), stops.tolist(), strict=True))
        dataids = [
            number if known else None
            for known, number in zip(columns[columns_of.HAS_DATAID].tolist(), columns[columns_of.DATAID].tolist(), strict=True)
        ]
        flags, times = np.empty(len(plans), np.int64), np.empty(len(plans), np.int64)
        time_starts, time_stops = columns[columns_of.TIME_START], columns[columns_of.TIME_STOP]
        odd = np.flatnonzero(time_starts < 0).tolist()
        parse_stimes(buf, time_starts, time_stops, flags, times)
        sha256 = hashlib.sha256
        events = Events(
            tool=self._tool,
            event=[plan.event for plan in plans],
            ceid=[plan.ceid for plan in plans],
            dataid=dataids,
            time_us=times,
            late_us=times,
            chamber=[plan.chamber if stated.chamber is None else stated.chamber for plan, stated in zip(plans, named, strict=True)],
            context=[stated.context for stated in named],
            role=[plan.role for plan in plans],
            vars=texts,
            digest=[sha256(view[start:stop]).digest() for start, stop in bounds],
            system=columns[columns_of.SYSTEM],
            frame=np.arange(len(plans)),
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

    def _planned(self, keys: bytes, stops: list[int]) -> list[Plan]:
        self._plans.make_room()
        known = self._plans.plans
        each = [keys[start:stop] for start, stop in pairwise([0, *stops])]
        return [known.get(key) or self._plans.plan(key) for key in each]

    def _values(
        self, buf: Bytes, spans: Int64, columns: Int64, plans: list[Plan], floats: tuple[Bytes, Int64], total: int
    ) -> tuple[list[str], list[Stated]]:
        """Return ``vars`` and what is stated of each event; events that must be read alone get -1 for their time."""
        numbers = np.array([plan.number for plan in plans], np.int64)
        out = np.empty(OUT_PER_BYTE * total + sum([plan.prefix_bytes for plan in plans]), np.uint8)
        named = np.empty(NAMED_PER_BYTE * total, np.uint8)
        t = self._plans.tables()
        used, named_used = event_values(
            *(buf, spans, numbers, t.firsts, t.tokens, t.prefixes, t.prefix_at, *floats, self._stack, columns, out, named, self._time)
        )
        stops = [0, *columns[columns_of.VARS_STOP].tolist()]
        raw = out[:used].tobytes()
        if raw.isascii():
            text = raw.decode("ascii")
            texts = [text[start:stop] for start, stop in pairwise(stops)]
        else:
            texts = []
            for i, (start, stop) in enumerate(pairwise(stops)):
                try:
                    texts.append(raw[start:stop].decode("utf-8"))
                except UnicodeDecodeError:  # Latin-1 somewhere: each text is judged alone
                    texts.append("")
                    columns[columns_of.TIME_START, i] = columns[columns_of.TIME_STOP, i] = -1
        return texts, self._named(named[:named_used].tobytes(), columns[columns_of.NAMED_STOP].tolist())

    def _named(self, raw: bytes, stops: list[int]) -> list[Stated]:
        if len(self._contexts) > MOST_CONTEXTS:
            self._contexts.clear()
        known = self._contexts
        each = [raw[start:stop] for start, stop in pairwise([0, *stops])]
        for one in {*each} - known.keys():
            known[one] = _stated(one)
        return [known[one] for one in each]

    def _tree(self, buf: Bytes, spans: Int64, i: int) -> EventTree:
        return self._trees.read(buf[spans[secs.SPAN_START, i] : spans[secs.SPAN_STOP, i]].tobytes())

    def _replace(self, events: Events, trees: dict[int, EventTree], flags: Int64) -> None:
        """Put what was read alone in its place."""
        for i, tree in trees.items():
            events.vars[i], events.chamber[i], events.context[i] = tree.vars, tree.chamber, tree.context
            text = tree.ts.encode("latin-1", "replace")
            flag, time_us = np.empty(1, np.int64), np.empty(1, np.int64)
            parse_stimes(np.frombuffer(text + b"\0", np.uint8), np.array([0]), np.array([len(text)]), flag, time_us)
            flags[i], events.time_us[i] = flag[0], time_us[0]

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
    some = rows.tolist()
    return Events(
        tool=events.tool,
        event=[events.event[i] for i in some],
        ceid=[events.ceid[i] for i in some],
        dataid=[events.dataid[i] for i in some],
        time_us=events.time_us[rows],
        late_us=events.late_us[rows],
        chamber=[events.chamber[i] for i in some],
        context=[events.context[i] for i in some],
        role=[events.role[i] for i in some],
        vars=[events.vars[i] for i in some],
        digest=[events.digest[i] for i in some],
        system=events.system[rows],
        frame=np.arange(len(rows)),
    )
