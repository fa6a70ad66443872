"""Calendar times written as text, read by a short program of directives.

A program is an int64 array of (operation, argument) rows. The kernel reads greedily and without going back, and accepts a field only
where ``datetime.strptime`` (or ``fromisoformat``) would read the same; all else is left to the caller. Beyond both, a second's fraction may
have up to nine digits. Fields are addressed as in ``kernels.text``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.jit import inline, kernel
from kernels.text import strip

UInt8 = npt.NDArray[np.uint8]
Int64 = npt.NDArray[np.int64]

(
    LITERAL,
    BLANKS,
    YEAR,
    YEAR2,
    MONTH,
    DAY,
    HOUR,
    HOUR12,
    MINUTE,
    SECOND,
    FRACTION,
    MONTH_NAME,
    HALF,
    DAY_OF_YEAR,
    ZONE,
    END_OK,
    ISO_T,
    ISO_TAIL,
) = range(18)
"""Operations. LITERAL: the byte ``argument``; MONTH_NAME: abbreviated (0) or full (1); END_OK: the field may end here; ISO_T: T, t or a
blank; ISO_TAIL: what may follow hours and minutes in ISO 8601: seconds, a fraction, a zone."""

READ, VOID, UNREAD = 0, 1, 2
"""How a field was read: a time; empty; not by this program."""

_MONTHS = np.frombuffer(
    b"january  february march    april    may      june     july     august   septemberoctober  november december ", np.uint8
).reshape(12, 9)
_MONTH_DAYS = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
_FIELDS = (
    (YEAR, 4, 4),
    (YEAR2, 2, 2),
    (MONTH, 1, 2),
    (DAY, 1, 2),
    (HOUR, 1, 2),
    (HOUR12, 1, 2),
    (MINUTE, 1, 2),
    (SECOND, 1, 2),
    (DAY_OF_YEAR, 1, 3),
)
_LEAST = np.zeros(18, np.int64)
_MOST = np.zeros(18, np.int64)
for _operation, _least, _most in _FIELDS:
    _LEAST[_operation], _MOST[_operation] = _least, _most


@inline
def days_of(year: int, month: int, day: int) -> int:
    """Return the days from 1970-01-01 to a date of the proleptic Gregorian calendar; ``day`` may run over the month."""
    year -= month <= 2
    era = year // 400
    of_era = year - era * 400
    of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


@inline
def _digits(buffer: UInt8, at: int, stop: int, least: int, most: int) -> tuple[int, int]:
    """Return the value of the digits at ``at`` (-1 if there are too few) and the position after them."""
    value = 0
    begin = at
    while at < stop and at - begin < most and 48 <= buffer[at] <= 57:
        value = value * 10 + int(buffer[at]) - 48
        at += 1
    return (value if at - begin >= least else -1), at


@inline
def _fraction(buffer: UInt8, at: int, stop: int) -> tuple[int, int]:
    """Return the microseconds (half to even) of the 1 to 9 digits of a second's fraction, -1 if there are none or more, and the end."""
    begin = at
    value, at = _digits(buffer, at, stop, 1, 9)
    if value < 0 or (at < stop and 48 <= buffer[at] <= 57):
        return -1, at
    for _ in range(9 - (at - begin)):
        value *= 10
    whole = value // 1000
    rest = value - whole * 1000
    return whole + (rest > 500 or (rest == 500 and whole % 2 == 1)), at


@inline
def _zone(buffer: UInt8, at: int, stop: int) -> tuple[int, int]:
    """Return the seconds east of UTC of ``Z`` or ``+hh[[:]mm[[:]ss]]`` (-1 << 40 if it is none) and the position after it."""
    bad = -(1 << 40)
    if at < stop and buffer[at] == 90:
        return 0, at + 1
    if at == stop or (buffer[at] != 43 and buffer[at] != 45):
        return bad, at
    sign = -1 if buffer[at] == 45 else 1
    hours, at = _digits(buffer, at + 1, stop, 2, 2)
    minutes = 0
    seconds = 0
    colon = at < stop and buffer[at] == 58
    if colon or (at < stop and 48 <= buffer[at] <= 57):
        minutes, at = _digits(buffer, at + colon, stop, 2, 2)
        if at < stop and (buffer[at] == 58 if colon else 48 <= buffer[at] <= 57):
            seconds, at = _digits(buffer, at + colon, stop, 2, 2)
    if hours < 0 or hours > 23 or minutes < 0 or minutes > 59 or seconds < 0 or seconds > 59:
        return bad, at
    return sign * (hours * 3600 + minutes * 60 + seconds), at


@inline
def _month_name(buffer: UInt8, at: int, stop: int, full: int) -> tuple[int, int]:
    """Return the month (1 to 12, or -1) named at ``at`` in English, and the position after it."""
    for month in range(12):
        length = 3
        if full:
            while length < 9 and _MONTHS[month, length] != 32:
                length += 1
        same = at + length <= stop
        i = 0
        while same and i < length:
            same = buffer[at + i] | 32 == _MONTHS[month, i]
            i += 1
        if same:
            return month + 1, at + length
    return -1, at


@inline
def _read(buffer: UInt8, at: int, stop: int, program: Int64) -> tuple[int, bool, bool]:
    """Return (microseconds since 1970 in the time's own zone or UTC, whether it named a zone, whether it was read)."""
    year, month, day, yearday = 1900, 1, 1, 0
    hour, minute, second, micros = 0, 0, 0, 0
    half = -1
    dated = False
    offset = 0
    zoned = False
    for step in range(program.shape[0]):
        operation = program[step, 0]
        value = 0
        if operation == LITERAL:
            if at == stop or buffer[at] != program[step, 1]:
                return 0, False, False
            at += 1
        elif operation == BLANKS:
            begin = at
            while at < stop and (buffer[at] == 32 or buffer[at] == 9):
                at += 1
            value = at - begin - 1
        elif operation == FRACTION:
            micros, at = _fraction(buffer, at, stop)
            value = micros
        elif operation == MONTH_NAME:
            month, at = _month_name(buffer, at, stop, program[step, 1])
            value = month
            dated = True
        elif operation == HALF:
            if at + 2 > stop or buffer[at + 1] | 32 != 109 or (buffer[at] | 32 != 97 and buffer[at] | 32 != 112):
                return 0, False, False
            half = 12 if buffer[at] | 32 == 112 else 0
            at += 2
        elif operation == ZONE:
            offset, at = _zone(buffer, at, stop)
            zoned = True
            value = 0 if offset > -(1 << 40) else -1
        elif operation == END_OK:
            if at == stop:
                break
        elif operation == ISO_T:
            if at == stop or (buffer[at] | 32 != 116 and buffer[at] != 32):
                return 0, False, False
            at += 1
        elif operation == ISO_TAIL:
            if at < stop and buffer[at] == 58:
                second, at = _digits(buffer, at + 1, stop, 2, 2)
                value = second
                if at < stop and (buffer[at] == 46 or buffer[at] == 44):
                    micros, at = _fraction(buffer, at + 1, stop)
                    value = min(value, micros)
            if at < stop and buffer[at] == 32:
                at += 1
            if at < stop:
                offset, at = _zone(buffer, at, stop)
                zoned = True
                value = value if offset > -(1 << 40) else -1
        else:
            value, at = _digits(buffer, at, stop, _LEAST[operation], _MOST[operation])
            if operation == YEAR:
                year = value
            elif operation == YEAR2:
                year = value + (2000 if value <= 68 else 1900)
            elif operation == MONTH:
                month = value
                dated = True
            elif operation == DAY:
                day = value
                dated = True
            elif operation in (HOUR, HOUR12):
                hour = value
                if operation == HOUR12 and (value < 1 or value > 12):
                    return 0, False, False
            elif operation == MINUTE:
                minute = value
            elif operation == SECOND:
                second = value
            else:
                yearday = value
                value = value if 1 <= value <= 366 else -1
        if value < 0:
            return 0, False, False
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if at != stop or year < 1 or month < 1 or month > 12 or day < 1 or hour > 23 or minute > 59 or second > 59:
        return 0, False, False
    if day > _MONTH_DAYS[month - 1] + (leap and month == 2):
        return 0, False, False
    if half >= 0:
        hour = hour % 12 + half
    if yearday > 0 and not dated:
        if yearday == 366 and not leap:
            return 0, False, False
        day = yearday
    seconds = days_of(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset
    return seconds * 1_000_000 + micros, zoned, True


@kernel
def parse_times(
    buffer: UInt8,
    starts: Any,
    stops: Any,
    width: int,
    column: int,
    program: Int64,
    times: Int64,
    zoned: npt.NDArray[np.bool_],
    kinds: UInt8,
) -> int:
    """Read one column by ``program`` (``p`` x 2) into ``times`` (``n``, microseconds since 1970: UTC where ``zoned``, else local).

    Returns how many rows are not READ (see ``kinds``); their time is 0.
    """
    odd = 0
    for row in range(times.shape[0]):
        begin, stop = strip(buffer, starts[row * width + column], stops[row * width + column])
        times[row], zoned[row] = 0, False
        if begin == stop:
            kinds[row] = VOID
            odd += 1
            continue
        value, named, read = _read(buffer, begin, stop, program)
        kinds[row] = READ if read else UNREAD
        if read:
            times[row] = value
            zoned[row] = named
        else:
            odd += 1
    return odd
