"""What a text table shows of itself: delimiter, header, the column of time and how it is written, context and sensors."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise, product
from statistics import median
from typing import NamedTuple

from ingest.config import Limits, TableSection, TimeColumn
from ingest.errors import MappingMissing
from ingest.formats.sniff import Dialect, find_dialect
from ingest.mapping import TableMapping
from ingest.survey_captures import role_of
from kernels import text as kernel

ROWS = 2_000
"""Rows of a file by which its columns are judged."""

BLANKS = ("", "NaN", "nan", "NAN", "NA", "N/A", "n/a", "null", "NULL", "None", "-", "--", "---", "#N/A")
_TOOL = re.compile(r"(tool|equipment|eqp|machine|entity)(_?(id|name|no))?")
_TIME = re.compile(r".*(time|date|clock|zeit|datum).*|ts|t")
_COUNTER = re.compile(r"(seq|sequence|sample|index|row|count|no|nr|smpln)(_?(id|no|nr|number))?")

_DATES = ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d-%m-%Y", "%m-%d-%Y", "%d-%b-%Y", "%Y%m%d", "%d.%m.%y", "%m/%d/%y")
_CLOCKS = ("%H:%M:%S.%f", "%H:%M:%S", "%H:%M", "%I:%M:%S %p", "%H%M%S")
FORMATS = ("%Y%m%d%H%M%S", "%Y%m%d%H%M%S%f", *(date + gap + clock for date, gap, clock in product(_DATES, (" ", "_", "T"), _CLOCKS)))
"""Ways to write a moment, tried where a column is not ISO 8601. Day before month: the other order is tried after it, and both are said."""

EPOCHS = (("s", 1.0), ("ms", 1e3), ("us", 1e6), ("ns", 1e9))
FIRST_S, LAST_S = 315_532_800.0, 4_102_444_800.0
"""1980 and 2100: numbers between are taken for seconds since 1970 (or thousandths, ...), others for the time since a run began."""


class Sheet(NamedTuple):
    """The first rows of a text file, by column name; ``header``: whether the names stand in the file."""

    columns: tuple[str, ...]
    header: bool
    delimiter: str
    rows: list[list[str]]

    def column(self, name: str) -> list[str]:
        """Return the stripped fields of a column."""
        place = self.columns.index(name)
        return [row[place].strip() for row in self.rows if len(row) == len(self.columns)]


@dataclass(slots=True)
class TimeSeen:
    """The column of time. ``unit`` or ``layout`` or neither (ISO 8601); ``restarts``: it counts from a beginning that no file names."""

    column: str
    unit: str | None = None
    layout: str | None = None
    zoned: bool = False
    restarts: bool = False
    other_layout: str | None = None
    period_s: float | None = None
    by_name: bool = True


@dataclass(slots=True)
class TableSeen:
    """What the columns of a kind of file were found to be."""

    sheet: Sheet
    time: TimeSeen | None
    tool: str | None = None
    tool_is_number: bool = False
    chamber: str | None = None
    context: dict[str, str] = field(default_factory=dict)
    counter: str | None = None
    sensors: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    decimal: str = "."


def read_sheet(head: bytes, whole: bool, source: str, limits: Limits) -> Sheet | None:
    """Return the first rows of a text file that begins with ``head``; None where it is no table."""
    if b"\0" in head[:4096]:
        return None
    mapping = TableMapping("survey", TableSection(time=TimeColumn(column="\0")), source, None, {}, lambda _tool: "UTC")
    try:
        dialect = find_dialect(head, True, mapping, limits)
    except MappingMissing:
        return None
    if dialect is None or dialect.width < 2:
        return None
    rows = _rows(head, whole, dialect)
    names, header = tuple(dialect.columns), dialect.header
    if not header and rows and [cell.strip() for cell in rows[0]] == [str(index) for index in range(dialect.width)]:
        rows, header = rows[1:], True  # the numbers of the columns stand in for names
    sound = [row for row in rows if len(row) == len(names)]
    if len(set(names)) != len(names) or len(sound) < max(2, len(rows) // 2):
        return None
    delimiter = " " if dialect.delimiter == kernel.RUNS else chr(dialect.delimiter)
    return Sheet(names, header, delimiter, sound)


def _rows(head: bytes, whole: bool, dialect: Dialect) -> list[list[str]]:
    body = head[dialect.body :]
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = body.decode("latin-1")
    lines = [line for line in text.splitlines() if line.strip()]
    lines = lines[:ROWS] if whole or len(lines) > ROWS else lines[:-1]
    if dialect.delimiter == kernel.RUNS:
        return [line.split() for line in lines]
    try:
        return list(csv.reader(lines, delimiter=chr(dialect.delimiter), quotechar=chr(dialect.quote) if dialect.quote > 0 else None))
    except csv.Error:
        return []


def look_at_table(sheet: Sheet) -> TableSeen:
    """Tell what each column is."""
    fields = {name: [text for text in sheet.column(name) if text not in BLANKS] for name in sheet.columns}
    decimal = "," if sheet.delimiter != "," and any(map(_with_comma, fields.values())) else "."
    numbers = {name: found for name, texts in fields.items() if (found := _numbers(texts, decimal)) is not None}
    seen = TableSeen(sheet, _time(sheet, fields, numbers), decimal=decimal)
    for name in sheet.columns:
        plain = _plain(name)
        role = role_of(name)
        if seen.time and name == seen.time.column:
            continue
        if _TOOL.fullmatch(plain) and seen.tool is None:
            seen.tool, seen.tool_is_number = name, name in numbers
        elif role == "chamber" and seen.chamber is None:
            seen.chamber = name
        elif role in ("lot", "wafer", "recipe", "step") and role not in seen.context:
            seen.context[role] = name
        elif name not in numbers:
            if fields[name]:
                seen.texts.append(name)
        else:
            seen.sensors.append(name)
            if _COUNTER.fullmatch(plain) and _by_ones(numbers[name]):
                seen.counter = seen.counter or name
            if not sheet.header or name.isdigit():
                seen.steps += [name] if _like_steps(numbers[name]) else []
    blanks = {text for name in numbers for text in sheet.column(name) if text in BLANKS}
    seen.missing = sorted(blanks - {"", "NaN"})
    return seen


def _plain(name: str) -> str:
    return re.sub(r"[\s._-]+", "_", name.strip()).casefold()


def _with_comma(texts: list[str]) -> bool:
    return bool(texts) and all(re.fullmatch(r"[+-]?\d+(,\d+)?", text) for text in texts) and any("," in text for text in texts)


def _numbers(texts: list[str], decimal: str) -> list[float] | None:
    try:
        return [float(text.replace(",", ".") if decimal == "," else text) for text in texts] or None
    except ValueError:
        return None


def _by_ones(values: list[float]) -> bool:
    steps = [b - a for a, b in pairwise(values)]
    return bool(steps) and sum(step == 1 for step in steps) >= 0.9 * len(steps)


def _rises(values: list[float], share: float) -> bool:
    steps = [b - a for a, b in pairwise(values)]
    return len(steps) >= 2 and sum(step > 0 for step in steps) >= share * len(steps)


def _like_steps(values: list[float]) -> bool:
    """Tell whether values are few whole numbers that stand for long: what a column of recipe steps looks like."""
    distinct, changes = set(values), sum(a != b for a, b in pairwise(values))
    return 2 <= len(distinct) <= 20 and all(value == int(value) for value in distinct) and changes <= len(values) / 20 + len(distinct)


def _time(sheet: Sheet, fields: dict[str, list[str]], numbers: dict[str, list[float]]) -> TimeSeen | None:
    """Return the column of time: by its name, else the first one that reads as moments, else one without a name that rises."""
    named = [name for name in sheet.columns if _TIME.fullmatch(name.strip().casefold())]
    for name in named:
        found = _moments(name, fields[name])
        if found is not None:
            return found
    for name in named:
        if name in numbers and _rises(numbers[name], 0.5):
            return _counted(name, numbers[name])
    for name in sheet.columns:
        found = _moments(name, fields[name]) if role_of(name) is None and not _TOOL.fullmatch(_plain(name)) else None
        if found is not None:
            found.by_name = False
            return found
    nameless = not sheet.header or all(name.isdigit() for name in sheet.columns)
    for name in sheet.columns if nameless else ():
        if name in numbers and _rises(numbers[name], 0.95) and not _by_ones(numbers[name]):
            found = _counted(name, numbers[name])
            found.by_name = False
            return found
    return None


def _counted(name: str, values: list[float]) -> TimeSeen:
    steps = [b - a for a, b in pairwise(values) if b > a]
    for unit, scale in EPOCHS:
        if FIRST_S * scale <= min(values) and max(values) <= LAST_S * scale:
            return TimeSeen(name, unit=unit, period_s=median(steps) / scale if steps else None)
    return TimeSeen(name, unit="s", restarts=True, period_s=median(steps) if steps else None)


def _moments(name: str, texts: list[str]) -> TimeSeen | None:
    """Return how ``texts`` are written as moments, None where they are none."""
    if not texts or not all(re.search(r"\d", text) and len(text) >= 8 for text in texts):
        return None
    if not all(text.isdigit() for text in texts):
        read = _parsed(texts, None)
        if read is not None:
            return TimeSeen(name, zoned=read[0].tzinfo is not None, period_s=_period(read))
    digits = {len(text) for text in texts if text.isdigit()}
    formats = FORMATS if digits <= {14, 16, 17, 20} else ()  # fourteen digits and a fraction; others are numbers that look like a date
    fitting = [(layout, read) for layout in formats if (read := _parsed(texts, layout)) is not None]
    if not fitting:
        return None
    layout, read = fitting[0]
    swapped = [other for other, _ in fitting[1:] if sorted(other) == sorted(layout) and other != layout]
    return TimeSeen(name, layout=layout, other_layout=swapped[0] if swapped else None, period_s=_period(read))


def _parsed(texts: list[str], layout: str | None) -> list[datetime] | None:
    try:
        read = [datetime.fromisoformat(text) if layout is None else datetime.strptime(text, layout) for text in texts]
    except ValueError:
        return None
    sound = all(1980 <= moment.year < 2100 for moment in read) and len({moment.tzinfo is None for moment in read}) == 1
    return read if sound else None


def _period(moments: list[datetime]) -> float | None:
    steps = [(b - a).total_seconds() for a, b in pairwise(moments) if b > a]
    return median(steps) if steps else None
