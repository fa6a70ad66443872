"""A table's time column: numbers of a unit since an origin, text by a strptime format, or ISO 8601."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ingest.config import TimeColumn
from ingest.errors import ConfigError
from ingest.records import Int64
from kernels import text_number, text_time
from kernels.text_time import READ, UNREAD, VOID

UNITS = {"ns": (1, -3), "us": (1, 0), "ms": (1, 3), "s": (1, 6), "min": (6, 7), "h": (36, 8), "d": (864, 8)}
"""Unit to (coefficient, power of ten) in microseconds."""

FIRST_US = -62_135_596_800_000_000
LAST_US = 253_402_300_799_999_999
"""The years 1 to 9999; a number that leads outside is no time."""

LONGEST_NUMBER = 200
"""Characters of a number that is still read."""

_EPOCH = datetime(1970, 1, 1)
_DIRECTIVES = {
    "Y": ((text_time.YEAR, 0),),
    "y": ((text_time.YEAR2, 0),),
    "m": ((text_time.MONTH, 0),),
    "d": ((text_time.DAY, 0),),
    "H": ((text_time.HOUR, 0),),
    "I": ((text_time.HOUR12, 0),),
    "M": ((text_time.MINUTE, 0),),
    "S": ((text_time.SECOND, 0),),
    "f": ((text_time.FRACTION, 0),),
    "b": ((text_time.MONTH_NAME, 0),),
    "B": ((text_time.MONTH_NAME, 1),),
    "p": ((text_time.HALF, 0),),
    "j": ((text_time.DAY_OF_YEAR, 0),),
    "z": ((text_time.ZONE, 0),),
    "%": ((text_time.LITERAL, ord("%")),),
}
_ISO = np.array(
    [
        (text_time.YEAR, 0),
        (text_time.LITERAL, ord("-")),
        (text_time.MONTH, 0),
        (text_time.LITERAL, ord("-")),
        (text_time.DAY, 0),
        (text_time.END_OK, 0),
        (text_time.ISO_T, 0),
        (text_time.HOUR, 0),
        (text_time.LITERAL, ord(":")),
        (text_time.MINUTE, 0),
        (text_time.ISO_TAIL, 0),
    ],
    dtype=np.int64,
)
_NONE = np.zeros((0, 2), dtype=np.int64)


class Times(NamedTuple):
    """One time per row: int64[n] microseconds, bool[n] whether they are UTC already, uint8[n] READ, VOID (none) or UNREAD.

    ``elapsed``: they count from the clock's origin.
    """

    time_us: Int64
    zoned: npt.NDArray[np.bool_]
    kinds: npt.NDArray[np.uint8]
    elapsed: bool = False


class TextCells(NamedTuple):
    """The text fields of one column: see ``kernels.text`` for the addressing. ``n`` rows."""

    buffer: npt.NDArray[np.uint8]
    starts: npt.NDArray[np.integer]
    stops: npt.NDArray[np.integer]
    width: int
    column: int
    n: int

    def text(self, row: int) -> str | None:
        """Return the stripped text of a row, or None where it isn't UTF-8."""
        cell = row * self.width + self.column
        raw = self.buffer[int(self.starts[cell]) : int(self.stops[cell])].tobytes().strip(BLANKS)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return None


BLANKS = bytes(range(33))
"""What is stripped from a field on either side: the bytes up to the space."""


def compile_format(layout: str) -> Int64:
    """Return the program of a strptime format; an empty one (reads nothing) where a directive is not among the common ones."""
    program: list[tuple[int, int]] = []
    at = 0
    while at < len(layout):
        char = layout[at]
        if char == "%":
            steps = _DIRECTIVES.get(layout[at + 1 : at + 2])
            if steps is None:
                return _NONE
            program.extend(steps)
            at += 1
        elif char.isspace():
            if not program or program[-1][0] != text_time.BLANKS:
                program.append((text_time.BLANKS, 0))
        elif char.isascii():
            program.append((text_time.LITERAL, ord(char)))
        else:
            return _NONE
        at += 1
    return np.array(program, dtype=np.int64).reshape(-1, 2)


def scaled(text: str, coefficient: int, power: int) -> tuple[int, bool] | None:
    """Return ``text`` times ``coefficient * 10**power`` rounded half to even and whether that was exact; None where it is no number."""
    if len(text) > LONGEST_NUMBER or "_" in text:
        return None
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    if not number.is_finite() or (number and number.adjusted() > 40):
        return None
    if not number or number.adjusted() < -40:
        return 0, not number
    product = Fraction(number) * coefficient * Fraction(10) ** power
    return round(product), product.denominator == 1


class Clock:
    """Reads the time column of a mapping. Numbers of a unit count from ``origin_us``, which is UTC if ``origin_zoned``, else local."""

    def __init__(self, section: TimeColumn, decimal: str, missing: tuple[str, ...]) -> None:
        self.section = section
        self.mark = decimal
        self.missing = frozenset(text.strip() for text in missing) | {""}
        self.elapsed = section.unit is not None
        self.program = _ISO if section.format is None else compile_format(section.format)
        try:
            origin = datetime.fromisoformat(section.origin)
        except ValueError as error:
            raise ConfigError(
                f"time.origin: '{section.origin}' is no ISO 8601 date or time, e.g. '1970-01-01' or '1970-01-01T00:00Z'"
            ) from error
        self.origin_us, self.origin_zoned = _microseconds(origin)

    def describe(self) -> str:
        """Return what a time of this column is, for messages."""
        if self.section.unit is not None:
            return f"number of {self.section.unit}"
        return "ISO 8601 time" if self.section.format is None else f"time of the form {self.section.format}"

    def units(self) -> tuple[int, int]:
        """Return (coefficient, power of ten) of the unit in microseconds."""
        return UNITS[self.section.unit or "us"]

    def read(self, cells: TextCells) -> Times:
        """Read ``n`` text fields."""
        time_us = np.empty(cells.n, np.int64)
        zoned = np.zeros(cells.n, np.bool_)
        kinds = np.empty(cells.n, np.uint8)
        where = (cells.buffer, cells.starts, cells.stops, cells.width, cells.column)
        if self.elapsed:
            coefficient, power = self.units()
            odd = text_number.parse_scaled(*where, ord(self.mark), coefficient, power, time_us, kinds)
            if odd:
                kinds = _SCALED_KINDS[kinds]
            else:
                kinds[:] = READ
        else:
            odd = text_time.parse_times(*where, self.program, time_us, zoned, kinds)
        if odd:
            self._read_again(cells, self._number if self.elapsed else self._calendar, time_us, zoned, kinds)
        return self.bounded(Times(time_us, zoned, kinds, self.elapsed))

    def bounded(self, times: Times) -> Times:
        """Mark as UNREAD what lies outside the years 1 to 9999, a day's margin at either end for zones."""
        shift = self.origin_us if times.elapsed else 0
        outside = (times.time_us < FIRST_US + 86_400_000_000 - shift) | (times.time_us > LAST_US - 86_400_000_000 - shift)
        if outside.any():
            times.kinds[outside & (times.kinds == READ)] = UNREAD
        return times

    def _read_again(
        self,
        cells: TextCells,
        read: Callable[[str], tuple[int, bool] | None],
        time_us: Int64,
        zoned: npt.NDArray[np.bool_],
        kinds: npt.NDArray[np.uint8],
    ) -> None:
        """Read what the kernel could not, once per distinct text."""
        known: dict[str, tuple[int, bool] | None] = {}
        for row in np.flatnonzero(kinds == UNREAD).tolist():
            text = cells.text(row)
            if text is None:
                continue
            if text in self.missing:
                kinds[row] = VOID
                continue
            if text not in known:
                known[text] = read(text)
            found = known[text]
            if found is not None:
                time_us[row], zoned[row] = found
                kinds[row] = READ

    def _number(self, text: str) -> tuple[int, bool] | None:
        if self.mark != ".":
            if "." in text:
                return None
            text = text.replace(self.mark, ".")
        found = scaled(text, *self.units())
        return None if found is None or abs(found[0]) > LAST_US * 2 else (found[0], False)

    def _calendar(self, text: str) -> tuple[int, bool] | None:
        try:
            layout = self.section.format
            return _microseconds(datetime.fromisoformat(text) if layout is None else datetime.strptime(text, layout))
        except (ValueError, OverflowError):
            return None


_SCALED_KINDS = np.array([READ, VOID, UNREAD, UNREAD, READ], dtype=np.uint8)
"""From the kinds of ``parse_scaled`` (EXACT, EMPTY, UNREADABLE, LONG, ROUNDED)."""


def _microseconds(moment: datetime) -> tuple[int, bool]:
    zoned = moment.tzinfo is not None
    plain = moment.astimezone(UTC).replace(tzinfo=None) if zoned else moment
    return (plain - _EPOCH) // timedelta(microseconds=1), zoned
