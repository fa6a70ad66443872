"""What the rows of a text file look like: line end, delimiter and header, found on a prefix that does not depend on the chunks.

The mapping's column names decide: the header is the first of the file's first lines that holds them all, and the delimiter the one that
makes it so. Only where no line does (a headerless file, a missing column) is the delimiter the one that cuts most lines alike.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ingest.config import Limits
from ingest.mapping import TableMapping
from kernels import text

SNIFF_BYTES = 1 << 16
"""Bytes on which everything is found; more only where they hold no whole row."""

HEADER_LINES = 32
"""The header is looked for in the file's first lines."""

COUNTED_LINES = 64
DELIMITERS = (9, 44, 59, 124)
"""Tab, comma, semicolon, pipe; runs of blanks only where none of these will do."""

BOM = b"\xef\xbb\xbf"
_LF, _CR = 10, 13


@dataclass(slots=True)
class Dialect:
    """How the rows of one file look. ``columns``: the names in the header ``line``, or indices where there is none; rows from ``body``."""

    delimiter: int
    quote: int
    line_end: int
    columns: list[str]
    header: bool = False
    line: bytes = b""
    body: int = 0

    @property
    def width(self) -> int:
        """Fields of a row."""
        return len(self.columns)

    def settled(self) -> dict[str, Any]:
        """Return what was found on the file, fit for JSON; the header's bytes as Latin-1. Quote and decimal mark are configuration."""
        header = self.line.decode("latin-1") if self.header else None
        return {"delimiter": self.delimiter, "line_end": self.line_end, "header": header, "width": self.width}


@dataclass(slots=True)
class Cut:
    """What one scan came to: ``n`` sound rows, odd ones (kind, start, stop, fields found), and where it ended."""

    n: int
    starts: npt.NDArray[np.int32]
    stops: npt.NDArray[np.int32]
    row_start: npt.NDArray[np.int32]
    row_stop: npt.NDArray[np.int32]
    odd: npt.NDArray[np.int32]
    at: int
    inside: bool
    escaped: bool


def cut_rows(
    raw: npt.NDArray[np.uint8], at: int, final: bool, inside: bool, dialect: Dialect, width: int, limit: int, rows: int, odd_rows: int
) -> Cut:
    """Scan ``raw`` from ``at`` for at most so many rows: see ``kernels.text.scan_rows``."""
    starts = np.empty(rows * max(width, 0), np.int32)
    stops = np.empty(rows * max(width, 0), np.int32)
    row_start, row_stop = np.empty(rows, np.int32), np.empty(rows, np.int32)
    odd = np.empty((odd_rows, 4), np.int32)
    shape = (dialect.delimiter, dialect.quote, dialect.line_end, width, limit)
    n, o, at, inside, escaped = text.scan_rows(raw, at, len(raw), final, inside, *shape, starts, stops, row_start, row_stop, odd)
    return Cut(n, starts, stops, row_start[:n], row_stop[:n], odd[:o], at, inside, escaped)


@dataclass(slots=True)
class _Line:
    start: int
    stop: int
    fields: int


def find_dialect(data: bytes, final: bool, mapping: TableMapping, limits: Limits) -> Dialect | None:
    """Return the dialect of a payload that begins with ``data``; None where more bytes are needed or, at its end, where it holds no rows.

    Raises MappingMissing where no header line can be found.
    """
    size = SNIFF_BYTES
    while True:
        if len(data) <= size and not final:
            return None
        head = data[: size + 1] if data[size - 1 : size] == b"\r" else data[:size]
        if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
            mapping.fail("the file is UTF-16; export it as UTF-8")
        whole = final and len(data) <= len(head)
        sniffer = _Sniffer(head, whole, mapping, limits)
        if sniffer.has_rows():
            return sniffer.dialect()
        if whole:
            if head.removeprefix(BOM).strip():
                mapping.fail("no header line was found: no line is whole and soundly quoted")
            return None
        if size > limits.line_bytes:
            mapping.fail(f"no header line was found in the first {size} bytes")
        size *= 4


class _Sniffer:
    """One prefix of a payload, cut by every delimiter in question."""

    def __init__(self, head: bytes, whole: bool, mapping: TableMapping, limits: Limits) -> None:
        table = mapping.table
        self.head = head
        self.raw = np.frombuffer(head, np.uint8)
        self.whole = whole
        self.mapping = mapping
        self.limits = limits
        self.quote = ord(table.quote) if table.quote else -1
        self.line_end = _CR if b"\r" in head and b"\n" not in head else _LF
        self.begin = len(BOM) if head.startswith(BOM) else 0
        if table.delimiter:
            delimiters: tuple[int, ...] = (_byte_of(table.delimiter),)
        else:
            delimiters = (*(byte for byte in DELIMITERS if chr(byte) != table.decimal), text.RUNS)
        self.lines = {delimiter: self._lines(delimiter) for delimiter in delimiters}

    def _lines(self, delimiter: int) -> list[_Line]:
        shape = Dialect(delimiter, self.quote, self.line_end, [])
        cut = cut_rows(self.raw, self.begin, self.whole, False, shape, text.COUNT, self.limits.line_bytes, 1, COUNTED_LINES)
        return [
            _Line(start, stop, fields)
            for kind, start, stop, fields in cut.odd.tolist()
            if kind == text.WRONG_COUNT and self.head[start:stop].strip()
        ]

    def has_rows(self) -> bool:
        """Tell whether any line is whole."""
        return any(self.lines.values())

    def dialect(self) -> Dialect:
        """Return what was found."""
        found = self._by_names() if self.mapping.table.header is not False else None
        if found is None:
            found = self._by_counts()
        if found.width > self.limits.columns:
            self.mapping.fail(f"{found.width} columns, the limit is {self.limits.columns} (limits.columns)")
        return found

    def _by_names(self) -> Dialect | None:
        """Return the dialect that makes one of the first lines hold all mapped names, with the most columns; runs of blanks last."""
        wanted = {column for column, _ in self.mapping.wanted()}
        numbers = all(name.isdigit() for name in wanted)
        found: Dialect | None = None
        for delimiter, lines in self.lines.items():
            if delimiter == text.RUNS and found is not None:
                break
            for line in lines[: 1 if numbers else HEADER_LINES]:
                if line.fields < len(wanted) or line.fields > self.limits.columns or (found is not None and line.fields <= found.width):
                    continue
                names = self._split(delimiter, line)
                if not wanted.issubset(names) or (numbers and not (all(map(str.isdigit, names)) and len(set(names)) == len(names))):
                    continue
                found = self._with_header(delimiter, line, names)
                break
        return found

    def _by_counts(self) -> Dialect:
        """Return the dialect by the delimiter that cuts most lines alike, then into the most fields; the header by its looks."""
        best, delimiter, width = (0.0, 0), next(iter(self.lines)), 1
        for candidate, lines in self.lines.items():
            if not lines or (candidate == text.RUNS and width > 1):
                continue
            fields, count = Counter(line.fields for line in lines).most_common(1)[0]
            score = (count / len(lines), fields)
            if fields > 1 and score > best:
                best, delimiter, width = score, candidate, fields
        lines = self.lines[delimiter] or next(lines for lines in self.lines.values() if lines)
        first = lines[0]
        header = self.mapping.table.header
        if header is not False and first.fields <= self.limits.columns:
            names = self._split(delimiter, first)
            wanted = {column for column, _ in self.mapping.wanted()}
            named = any(name in wanted and not _is_number(name) for name in names)
            if header or named or not any(map(_is_number, names)):
                return self._with_header(delimiter, first, names)
        return Dialect(delimiter, self.quote, self.line_end, [str(index) for index in range(width)], False, b"", self.begin)

    def _with_header(self, delimiter: int, line: _Line, names: list[str]) -> Dialect:
        content = self.head[line.start : line.stop].rstrip(b"\r\n")
        return Dialect(delimiter, self.quote, self.line_end, names, True, content, line.stop)

    def _split(self, delimiter: int, line: _Line) -> list[str]:
        shape = Dialect(delimiter, self.quote, self.line_end, [])
        return _names(self.raw[line.start : line.stop], shape, line.fields, self.limits)


def restored(settled: dict[str, Any], mapping: TableMapping, limits: Limits) -> Dialect:
    """Return the dialect that ``Dialect.settled`` described, with the delimiter and quote that the configuration sets today."""
    table = mapping.table
    delimiter = _byte_of(table.delimiter) if table.delimiter else int(settled["delimiter"])
    dialect = Dialect(delimiter, ord(table.quote) if table.quote else -1, int(settled["line_end"]), [])
    if settled["header"] is None:
        dialect.columns = [str(index) for index in range(settled["width"])]
    else:
        dialect.header, dialect.line = True, settled["header"].encode("latin-1")
        raw = np.frombuffer(dialect.line, np.uint8)
        counted = cut_rows(raw, 0, True, False, dialect, text.COUNT, limits.line_bytes, 1, 1).odd
        dialect.columns = _names(raw, dialect, int(counted[0, 3]), limits) if len(counted) else []
    if not 0 < dialect.width <= limits.columns:
        mapping.fail(f"{dialect.width} columns, the limit is {limits.columns} (limits.columns)")
    return dialect


def _names(raw: npt.NDArray[np.uint8], shape: Dialect, fields: int, limits: Limits) -> list[str]:
    """Return the stripped fields of a line, none where it is unsound; what isn't UTF-8 is read as Latin-1."""
    cut = cut_rows(raw, 0, True, False, shape, fields, limits.line_bytes, 1, 1)
    if cut.n == 0:
        return []
    if cut.escaped:
        raw = raw.copy()
        text.unescape(raw, cut.starts, cut.stops, fields, shape.quote)
    return [_decoded(raw[start:stop].tobytes().strip()) for start, stop in zip(cut.starts.tolist(), cut.stops.tolist(), strict=True)]


def _byte_of(delimiter: str) -> int:
    return text.RUNS if delimiter == " " else ord(delimiter)


def _decoded(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.decode("latin-1")


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True
