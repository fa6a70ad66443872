"""A table's mapping: which column means what, and columns of any container into records.

The mapping is bound once to the columns that a file has; after that every batch of rows becomes ``Records`` without Python per row.
Positions of ``sensors = "*"`` are dense: they count, from 1 in header order, the numeric columns that are not mapped.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from json.encoder import encode_basestring
from typing import NamedTuple, NoReturn, Protocol

import numpy as np
import pyarrow as pa

from ingest.config import TableSection, ToolColumn
from ingest.errors import MappingMissing
from ingest.formats.clock import Clock, Times
from ingest.formats.fields import Coded, Integers, Numbers
from ingest.records import WALLED, Context, Int64, Layout, Records, Sensor, StreamKey
from ingest.zone import to_utc
from kernels.text import densify
from kernels.text_time import UNREAD, VOID
from storage.texts import texts_of

CONTEXTS = Context._fields
SHOWN_COLUMNS = 40
"""Columns that a message names at most."""

REASONS = ("", "bad_text", "no_tool", "no_time", "bad_time", "bad_seq", WALLED)
"""Why a row is refused, in order of precedence; its index in the arrays of a batch."""

_BAD_TEXT, _NO_TOOL, _NO_TIME, _BAD_TIME, _BAD_SEQ, _WALLED = range(1, 7)


class Rows(Protocol):
    """``n`` rows of a container, read column by column."""

    n: int

    def codes(self, column: int) -> Coded:
        """Give numbers to the distinct texts of one column."""

    def numbers(self, columns: Int64) -> Numbers:
        """Read columns as doubles."""

    def integers(self, column: int) -> Integers:
        """Read one column as 64-bit integers."""

    def times(self, column: int, clock: Clock) -> Times:
        """Read one column as times."""

    def show(self, row: int, column: int) -> str:
        """Return one field for a message."""


class Refused(NamedTuple):
    """A row that cannot become a record: its index in the batch, an entry of REASONS, and what was found."""

    row: int
    reason: str
    detail: str
    tool: str | None


class Part(NamedTuple):
    """One value per row: the text of ``column`` after ``prefix``, or ``constant`` where there is no column."""

    constant: str
    column: int | None = None
    prefix: str = ""


@dataclass(slots=True)
class Bound:
    """A mapping bound to the columns of one file. ``sensors``: column indices; ``layout``: their names."""

    tool: Part
    chamber: Part
    time: int
    seq: int | None
    key: tuple[Part, ...]
    context: tuple[Part, ...]
    sensors: Int64
    layout: Layout


class TableMapping:
    """The configuration of one table, with what was captured from the path. Raises MappingMissing where a file cannot be mapped."""

    def __init__(
        self,
        name: str,
        table: TableSection,
        source: str,
        tool: str | None,
        captured: Mapping[str, str],
        zone_of: Callable[[str], str],
        walled: Set[str] = frozenset(),
    ) -> None:
        self._walled = walled
        self.name = name
        self.table = table
        self.source = source
        self.tool = tool if tool != captured.get("tool") else None  # what was captured does not override the mapping
        self.captured = captured
        self.clock = Clock(table.time, table.decimal, table.missing)
        self._zone_of = zone_of
        self._zones: dict[str, str] = {}

    def wanted(self) -> list[tuple[str, str]]:
        """Return (column, role) of every column that the file must have."""
        table = self.table
        found = [(table.time.column, "time")]
        if isinstance(table.tool, ToolColumn) and self.tool is None:
            found.append((table.tool.column, "tool"))
        if isinstance(table.chamber, ToolColumn):
            found.append((table.chamber.column, "chamber"))
        if table.seq is not None:
            found.append((table.seq, "seq"))
        found += [(column, f"context.{context}") for context, column in table.context.items()]
        found += [(column, "key") for column in table.key or () if column not in self._key_names()]
        if table.sensors != "*":
            found += [(sensor.column or "", "sensors") for sensor in table.sensors]
        return found

    def _key_names(self) -> set[str]:
        return {*CONTEXTS, *self.captured}

    def fail(self, message: str) -> NoReturn:
        """Raise MappingMissing, naming the file and the table."""
        raise MappingMissing(f"{self.source}: [tables.{self.name}]: {message}")

    def bind(self, columns: Sequence[str], header: bool = True) -> Bound:
        """Bind to the columns of a file, without its sensors where they are ``*``: see ``candidates`` and ``with_sensors``."""
        places: dict[str, int] = {}
        for index, column in enumerate(columns):
            places.setdefault(column, index)
        if header and not any(column.isdigit() for column in columns):
            for index in range(len(columns)):
                places.setdefault(str(index), index)
        for column, role in self.wanted():
            if column not in places:
                self._missing(column, role, columns, header)
        table = self.table
        context = self._context(places)
        bound = Bound(
            tool=self._tool(places),
            chamber=self._chamber(places),
            time=places[table.time.column],
            seq=None if table.seq is None else places[table.seq],
            key=self._key(places, context),
            context=context,
            sensors=np.zeros(0, np.int64),
            layout=(),
        )
        if table.sensors != "*":
            bound.sensors = np.array([places[sensor.column or ""] for sensor in table.sensors], np.int64)
            bound.layout = tuple(Sensor(sensor.name or sensor.column or "", sensor.unit, None, "configured") for sensor in table.sensors)
        return bound

    def candidates(self, bound: Bound, columns: Sequence[str]) -> Int64:
        """Return the columns that have no other meaning, in header order."""
        taken = {bound.time, bound.seq, bound.tool.column, bound.chamber.column}
        taken |= {part.column for part in (*bound.key, *bound.context)}
        if isinstance(self.table.tool, ToolColumn):
            taken |= {index for index, column in enumerate(columns) if column == self.table.tool.column}
        return np.array([index for index in range(len(columns)) if index not in taken], np.int64)

    def with_sensors(self, bound: Bound, numeric: Int64, columns: Sequence[str]) -> Bound:
        """Name the numeric columns without other meaning: learned names, made unique; a column without name is ``column_<index>``."""
        candidates = self.candidates(bound, columns)
        sensors = candidates[np.isin(candidates, numeric)]
        used: set[str] = set()
        layout = []
        for index in sensors.tolist():
            stem = name = columns[index] or f"column_{index}"
            count = 1
            while name in used:
                count += 1
                name = f"{stem}_{count}"
            used.add(name)
            layout.append(Sensor(name, None, None, "learned"))
        bound.sensors, bound.layout = sensors, tuple(layout)
        return bound

    def _missing(self, column: str, role: str, columns: Sequence[str], header: bool) -> NoReturn:
        lowered = {name.casefold(): name for name in columns}
        close = [lowered[match] for match in difflib.get_close_matches(column.casefold(), list(lowered), n=1)]
        hint = f"; did you mean '{close[0]}'?" if close else ""
        shown = ", ".join(name[:80] for name in columns[:SHOWN_COLUMNS])
        more = f", ... ({len(columns)} in all)" if len(columns) > SHOWN_COLUMNS else ""
        found = (
            f"columns found: {shown or 'none'}{more}" if header else f"no header line was found; columns by index: 0 to {len(columns) - 1}"
        )
        self.fail(f"column '{column}' ({role}) is not in the file{hint}; {found}")

    def _tool(self, places: Mapping[str, int]) -> Part:
        if self.tool:
            return Part(self.tool)
        if isinstance(self.table.tool, ToolColumn):
            return Part("", places[self.table.tool.column], self.table.tool.prefix)
        constant = self.table.tool or self.captured.get("tool", "")
        if not constant:
            self.fail("no tool can be told; set tool in the table, {tool} in the source's match, or --tool")
        return Part(constant)

    def _chamber(self, places: Mapping[str, int]) -> Part:
        chamber = self.table.chamber
        if isinstance(chamber, ToolColumn):
            return Part("", places[chamber.column], chamber.prefix)
        if chamber is None:
            return Part(self.captured.get("chamber", ""))
        return Part("", places[chamber]) if chamber in places else Part(chamber)

    def _context(self, places: Mapping[str, int]) -> tuple[Part, ...]:
        mapped: Mapping[str, str] = {str(name): column for name, column in self.table.context.items()}
        return tuple(Part("", places[mapped[name]]) if name in mapped else Part(self.captured.get(name, "")) for name in CONTEXTS)

    def _key(self, places: Mapping[str, int], context: tuple[Part, ...]) -> tuple[Part, ...]:
        by_name = dict(zip(CONTEXTS, context, strict=True))
        if self.table.key is None:
            return tuple(part for part in context if part.column is not None or part.constant)
        parts = []
        for name in self.table.key:
            if name in places:
                parts.append(Part("", places[name]))
            else:
                parts.append(by_name[name] if name in by_name else Part(self.captured.get(name, "")))
        return tuple(parts)

    def records(self, rows: Rows, bound: Bound) -> tuple[Records | None, Int64, list[Refused]]:
        """Return the records of a batch (frames not yet set: indices into the kept rows), the kept rows, and the refused ones."""
        batch = _Batch(rows)
        reasons = np.zeros(rows.n, np.uint8)
        tool = batch.texts(bound.tool)
        for part in (bound.tool, bound.chamber, *bound.key, *bound.context):
            batch.refuse_undecodable(part, reasons)
        if bound.tool.column is not None:
            _mark(reasons, tool.among({""}), _NO_TOOL)
            _mark(reasons, tool.among(self._walled, bound.tool.prefix), _WALLED)
        times = rows.times(bound.time, self.clock)
        _mark(reasons, times.kinds == VOID, _NO_TIME)
        _mark(reasons, times.kinds == UNREAD, _BAD_TIME)
        integers = None if bound.seq is None else rows.integers(bound.seq)
        if integers is not None:
            _mark(reasons, ~integers.sound, _BAD_SEQ)
        numbers = rows.numbers(bound.sensors)
        if numbers.texts.null_count:
            undecodable = numbers.row[numbers.texts.is_null().to_numpy(zero_copy_only=False)]
            _mark(reasons, np.isin(np.arange(rows.n), undecodable), _BAD_TEXT)
        kept = np.flatnonzero(reasons == 0)
        refused = [self._refusal(rows, bound, tool, int(reasons[row]), row) for row in np.flatnonzero(reasons).tolist()]
        if not len(kept):
            return None, kept, refused
        return self._keep(batch, bound, tool, times, integers, numbers, kept), kept, refused

    def _keep(
        self, batch: _Batch, bound: Bound, tool: Coded, times: Times, integers: Integers | None, numbers: Numbers, kept: Int64
    ) -> Records:
        n = len(kept)
        early, late = self._utc(times, tool, bound.tool, kept)
        stream, streams = batch.streams(bound, self.name, kept)
        context, contexts = batch.contexts(bound, kept)
        every = n == batch.rows.n
        place = np.full(batch.rows.n, -1, np.int64)
        place[kept] = np.arange(n)
        with_text = place[numbers.row]
        shown = np.flatnonzero(with_text >= 0)
        timed = integers is None
        period_us = round(self.table.period * 1e6) if timed and self.table.period else 0
        return Records(
            streams=streams,
            layouts=[bound.layout],
            contexts=contexts,
            stream=stream.astype(np.int32),
            layout=np.zeros(n, np.int32),
            context=context.astype(np.int32),
            seq=early.copy() if integers is None else integers.values[kept],
            time_us=early,
            late_us=late,
            frame=np.arange(n, dtype=np.int64),
            value_start=np.arange(n, dtype=np.int64) * len(bound.layout),
            values=(numbers.values if every else numbers.values[kept]).reshape(-1),
            texts=texts_of(with_text[shown], numbers.column[shown], numbers.texts.take(pa.array(shown))),
            timed=[timed] * len(streams),
            period_us=[period_us] * len(streams),
        )

    def _zone(self, tool: str) -> str:
        if self.table.time.timezone is not None:
            return self.table.time.timezone
        if tool not in self._zones:
            self._zones[tool] = self._zone_of(tool)
        return self._zones[tool]

    def _utc(self, times: Times, tool: Coded, part: Part, kept: Int64) -> tuple[Int64, Int64]:
        """Return the earlier and the later UTC reading of the kept rows' times."""
        clock = self.clock
        time_us, zoned, codes = times.time_us[kept], times.zoned[kept], tool.codes[kept]
        if times.elapsed and clock.origin_zoned:
            time_us += clock.origin_us
            return time_us, time_us.copy()
        early, late = time_us.copy(), time_us.copy()
        zones = [self._zone(part.prefix + text) if text else "UTC" for text in tool.texts]
        for zone in dict.fromkeys(zones):
            here = np.isin(codes, [code for code, other in enumerate(zones) if other == zone]) & ~zoned
            if times.elapsed:
                origin_us = int(to_utc(np.array([clock.origin_us], np.int64), zone)[0][0])
                early[here] += origin_us
                late[here] += origin_us
            elif here.all():
                early, late = to_utc(time_us, zone)
            else:
                early[here], late[here] = to_utc(time_us[here], zone)
        return early, late

    def _refusal(self, rows: Rows, bound: Bound, tool: Coded, reason: int, row: int) -> Refused:
        text = tool.texts[int(tool.codes[row])]
        known = bound.tool.prefix + text if text else None
        if reason == _BAD_TEXT:
            detail = "a mapped field is not UTF-8"
        elif reason == _NO_TOOL:
            detail = "the tool's column is empty"
        elif reason == _NO_TIME:
            detail = f"the time's column '{self.table.time.column}' is empty"
        elif reason == _BAD_TIME:
            detail = f"column '{self.table.time.column}': {rows.show(row, bound.time)} is no {self.clock.describe()}"
        elif reason == _WALLED:
            detail = f"the circuit of {known} was open when this row came; 'loadlock quarantine replay' takes it in once it is closed"
        else:
            detail = f"column '{self.table.seq}': {rows.show(row, bound.seq or 0)} is no integer"
        return Refused(row, REASONS[reason], detail, known)


class _Batch:
    """The coded columns of a batch, each read once, and the streams and contexts that they make."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self._coded: dict[int, Coded] = {}

    def texts(self, part: Part) -> Coded:
        """Return the codes of a part's column; a constant is its only text."""
        if part.column is None:
            return Coded(np.zeros(self.rows.n, np.int64), [part.constant])
        if part.column not in self._coded:
            self._coded[part.column] = self.rows.codes(part.column)
        return self._coded[part.column]

    def refuse_undecodable(self, part: Part, reasons: np.ndarray) -> None:
        """Mark the rows whose text isn't UTF-8."""
        if part.column is None:
            return
        if None in self.texts(part).texts:
            _mark(reasons, self.texts(part).among({None}), _BAD_TEXT)

    def _distinct(self, parts: Sequence[Part], kept: Int64) -> tuple[Int64, Int64]:
        """Return int64[n] numbers of the distinct combinations of the parts' columns, and the kept row where each is first met."""
        n = len(kept)
        every = n == self.rows.n
        codes, firsts = np.zeros(n, np.int64), np.zeros(1, np.int64)
        for column in dict.fromkeys(part.column for part in parts if part.column is not None):
            coded = self._coded[column]
            keys = codes * max(len(coded.texts), 1) + (coded.codes if every else coded.codes[kept])
            codes, room = np.empty(n, np.int64), np.empty(n, np.int64)
            firsts = room[: densify(keys, codes, room)]
        return codes, kept[firsts]

    def _value(self, part: Part, row: int) -> str:
        if part.column is None:
            return part.constant
        coded = self._coded[part.column]
        text = coded.texts[int(coded.codes[row])]
        return part.prefix + text if text else ""

    def streams(self, bound: Bound, trace: str, kept: Int64) -> tuple[Int64, list[StreamKey]]:
        """Return each kept row's stream and the streams."""
        codes, firsts = self._distinct((bound.tool, bound.chamber, *bound.key), kept)
        streams = []
        for row in firsts.tolist():
            values = [self._value(part, row) for part in bound.key]
            stream = f"[{','.join(map(encode_basestring, values))}]" if values else ""
            streams.append(StreamKey(self._value(bound.tool, row), self._value(bound.chamber, row) or None, trace, stream))
        return codes, streams

    def contexts(self, bound: Bound, kept: Int64) -> tuple[Int64, list[Context]]:
        """Return each kept row's context (-1 where all four are empty) and the contexts."""
        codes, firsts = self._distinct(bound.context, kept)
        found = [Context(*(self._value(part, row) or None for part in bound.context)) for row in firsts.tolist()]
        told = np.array([any(context) for context in found])
        numbers = np.where(told, np.cumsum(told) - 1, -1)
        return numbers[codes], [context for context in found if any(context)]


def _mark(reasons: np.ndarray, rows: np.ndarray, reason: int) -> None:
    """Give ``rows`` a reason where they have none of higher precedence."""
    reasons[rows & ((reasons == 0) | (reasons > reason))] = reason
