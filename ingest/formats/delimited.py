"""Delimited text: what a file's rows look like is found on its first bytes, then every chunk is cut by one kernel.

A data row is a frame, its line end included. Byte order mark, blank lines, the header, lines before the header and a header met again
are other bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ingest.config import Limits, TableSection
from ingest.formats.fields import Fields
from ingest.formats.sniff import BOM, Cut, Dialect, cut_rows, find_dialect, restored
from ingest.mapping import Bound, TableMapping
from ingest.records import Decoded, Int64, Rejected
from kernels import text

BATCH_BYTES = 2 << 20
"""Bytes that are gathered before a scan, so that small chunks cost no more than large ones."""

PIECE_BYTES = 16 << 20
"""Bytes that are scanned at once, at most: offsets are 32-bit."""

CELLS = 1 << 19
"""Fields of one batch of rows."""

ODD_ROWS = 1 << 14
JUDGED_ROWS = 100
"""Rows by which ``sensors = "*"`` tells numeric columns."""

REASONS = {
    text.WRONG_COUNT: "bad_row",
    text.BAD_QUOTE: "bad_quote",
    text.TOO_LONG: "too_long",
    text.TAIL: "incomplete_tail",
}


class DelimitedDecoder:
    """Decodes one payload of delimited text: ``feed`` bytes, then ``finish``.

    ``dialect``: what another decoder settled (its property); every line is then a row of that file, and no header is looked for.
    """

    def __init__(self, mapping: TableMapping, limits: Limits, dialect: dict[str, Any] | None = None) -> None:
        self.mapping = mapping
        self.table: TableSection = mapping.table
        self.limits = limits
        self._pending: list[bytes] = []
        self._held = 0  # pending bytes
        self._offset = 0  # of the first pending byte in the payload
        self._need = 0  # pending bytes without which another attempt is idle
        self._inside = False
        self._dialect: Dialect | None = None
        self._bound: Bound | None = None
        self._numeric: Int64 | None = None  # the columns that the file's first rows show to be numeric
        self._settled = dialect

    @property
    def dialect(self) -> dict[str, Any] | None:
        """What was settled about the file, fit for JSON; None before. ``numeric`` is None where nothing had to be judged."""
        if self._dialect is None:
            return None
        return {**self._dialect.settled(), "numeric": None if self._numeric is None else self._numeric.tolist()}

    def feed(self, data: bytes) -> Iterator[Decoded]:
        """Take the next bytes; yield the rows that became whole."""
        for begin in range(0, len(data), PIECE_BYTES):
            piece = data[begin : begin + PIECE_BYTES]
            self._pending.append(piece)
            self._held += len(piece)
            if self._held >= max(self._need, BATCH_BYTES):
                yield from self._advance(False)

    def finish(self) -> Iterator[Decoded]:
        """Yield the rest; a last row that is cut off is one rejected span."""
        yield from self._advance(True)
        assert self._held == 0, "bytes are left over"

    def _advance(self, final: bool) -> Iterator[Decoded]:
        """Decode what is pending, as far as it goes."""
        data = b"".join(self._pending)
        self._pending = [data]
        raw = np.frombuffer(data, np.uint8)
        if self._dialect is None:
            if self._settled is None:
                self._dialect = find_dialect(data, final, self.mapping, self.limits)
            else:
                self._dialect = self._restore(self._settled)
            if self._dialect is None:
                if final and data:  # blank from end to end
                    yield _other(data)
                    self._keep(b"")
                self._need = 2 * len(data)
                return
        dialect = self._dialect
        at = 0
        if self._bound is None:
            self._bound = self._bind(raw, dialect, final)
            if self._bound is None:
                self._need = 2 * len(data)
                return
            at = dialect.body
            if at:
                yield _other(data[:at])
        while at < len(data):
            begin = at
            cut = self._cut(raw, at, final, self._inside, CELLS)
            at, self._inside = cut.at, cut.inside
            if at == begin:
                break
            yield self._decode(data, raw, begin, cut)
        self._keep(data[at:])
        self._offset += at
        # a row that is not whole yet: wait for as much again, so that a long row is not scanned anew for every small chunk
        self._need = min(2 * self._held, self._held + self.limits.line_bytes)

    def _keep(self, rest: bytes) -> None:
        self._pending, self._held = [rest] if rest else [], len(rest)

    def _restore(self, settled: dict[str, Any]) -> Dialect:
        """Take over what was settled about the file; the mapping is today's."""
        dialect = restored(settled, self.mapping, self.limits)
        if settled["numeric"] is not None and dialect.width == settled["width"]:
            self._numeric = np.array(settled["numeric"], np.int64)
        if self._numeric is None and self.table.sensors == "*":
            self.mapping.fail('nobody judged which of the file\'s columns are numeric; name the sensors instead of "*"')
        return dialect

    def _bind(self, raw: npt.NDArray[np.uint8], dialect: Dialect, final: bool) -> Bound | None:
        """Bind the mapping; None while there are too few rows to judge which columns are numeric."""
        bound = self.mapping.bind(dialect.columns, dialect.header)
        if self.table.sensors != "*":
            return bound
        if self._numeric is None:
            self._numeric = self._judge(raw, dialect, final)
            if self._numeric is None:
                return None
        return self.mapping.with_sensors(bound, self._numeric, dialect.columns)

    def _judge(self, raw: npt.NDArray[np.uint8], dialect: Dialect, final: bool) -> Int64 | None:
        """Return the columns, mapped or not, that the first rows show to be numeric; None while these are too few."""
        every = np.arange(dialect.width)
        parts: list[Fields] = []
        at, inside, found = dialect.body, False, 0
        while found < JUDGED_ROWS and at < len(raw):
            cut = self._cut(raw, at, final, inside, JUDGED_ROWS)
            if cut.at == at:
                break
            at, inside = cut.at, cut.inside
            buffer, same = self._fields(raw, dialect, cut)
            parts.append(_rows_of(buffer, cut, dialect, np.flatnonzero(~same)[: JUDGED_ROWS - found], self.table))
            found += parts[-1].n
        if found < JUDGED_ROWS and not final:
            return None
        numeric = np.ones(dialect.width, np.bool_)
        empty = np.ones(dialect.width, np.bool_)
        for part in parts:
            numeric &= part.numeric(every)
            empty &= part.empty(every)
        unnamed = np.array([not column for column in dialect.columns], np.bool_)
        return np.flatnonzero(numeric & ~(unnamed & empty))

    def _cut(self, raw: npt.NDArray[np.uint8], at: int, final: bool, inside: bool, rows: int) -> Cut:
        dialect = self._dialect
        assert dialect is not None
        rows = max(min(rows, CELLS // dialect.width), 1)
        return cut_rows(raw, at, final, inside, dialect, dialect.width, self.limits.line_bytes, rows, ODD_ROWS)

    def _fields(self, raw: npt.NDArray[np.uint8], dialect: Dialect, cut: Cut) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """Return the bytes in which the fields of a cut lie, doubled quotes resolved, and which rows repeat the header."""
        same = np.zeros(cut.n, np.bool_)
        if dialect.header:
            text.equal_rows(raw, cut.row_start, cut.row_stop, cut.n, np.frombuffer(dialect.line, np.uint8), same)
        if cut.escaped:
            raw = raw.copy()
            text.unescape(raw, cut.starts, cut.stops, cut.n * dialect.width, dialect.quote)
            raw.flags.writeable = False  # as the original: kernels are compiled once
        return raw, same

    def _decode(self, data: bytes, raw: npt.NDArray[np.uint8], begin: int, cut: Cut) -> Decoded:
        """Decode the rows of one cut, which reaches from ``begin`` to ``cut.at``."""
        dialect, bound = self._dialect, self._bound
        assert dialect is not None
        assert bound is not None
        buffer, same = self._fields(raw, dialect, cut)
        row_start, row_stop = cut.row_start.astype(np.int64), cut.row_stop.astype(np.int64)
        other_bytes, other_frames = 0, 0
        if same.any():
            other_frames = int(same.sum())
            other_bytes = int((row_stop - row_start)[same].sum())
            row_start, row_stop = row_start[~same], row_stop[~same]
        rejected = []
        for kind, start, stop, found in cut.odd.tolist():
            if kind == text.BLANK:
                other_bytes += stop - start
                other_frames += 1
            else:
                detail = self._detail(kind, found, dialect)
                rejected.append(
                    Rejected(self._offset + start, self._offset + stop, REASONS[kind], detail, data[start:stop], self._constant(bound))
                )
        records = None
        if len(row_start):
            rows = _rows_of(buffer, cut, dialect, np.flatnonzero(~same), self.table)
            records, kept, refused = self.mapping.records(rows, bound)
            for row, reason, detail, tool in refused:
                start, stop = int(row_start[row]), int(row_stop[row])
                rejected.append(Rejected(self._offset + start, self._offset + stop, reason, detail, data[start:stop], tool))
            if refused:
                row_start, row_stop = row_start[kept], row_stop[kept]
            rejected.sort(key=lambda span: span.start)
        covered = int((row_stop - row_start).sum()) + sum(span.stop - span.start for span in rejected) + other_bytes
        assert covered == cut.at - begin, "rows, rejected spans and other bytes do not tile the payload"
        return Decoded(row_start + self._offset, row_stop + self._offset, records, None, rejected, other_bytes, other_frames)

    def _constant(self, bound: Bound) -> str | None:
        return bound.tool.constant if bound.tool.column is None else None

    def _detail(self, kind: int, found: int, dialect: Dialect) -> str:
        if kind == text.TOO_LONG:
            return f"a line of more than {self.limits.line_bytes} bytes (limits.line_bytes)"
        if kind == text.BAD_QUOTE:
            return f"a quoted field is not closed, or text follows its closing quote; field {found + 1} of {dialect.width}"
        return f"{found} fields where {dialect.width} are expected"


def _rows_of(buffer: npt.NDArray[np.uint8], cut: Cut, dialect: Dialect, rows: Int64, table: TableSection) -> Fields:
    """Return the fields of some of a cut's rows."""
    starts, stops = cut.starts, cut.stops
    if len(rows) != cut.n:
        starts = starts.reshape(-1, dialect.width)[rows].reshape(-1)
        stops = stops.reshape(-1, dialect.width)[rows].reshape(-1)
    return Fields(buffer, starts, stops, dialect.width, len(rows), table.decimal, table.missing)


def _other(head: bytes) -> Decoded:
    """Return bytes that are no data: byte order mark, blank lines, header."""
    none = np.zeros(0, np.int64)
    return Decoded(none, none, None, None, [], len(head), len(head.removeprefix(BOM).splitlines()))
