"""Text in items: STIME, integers written as digits, and numbers written as text.

Texts are byte ranges of a buffer; blanks are stripped from both ends first (space, tab, line ends and NUL padding).
"""

from __future__ import annotations

import numpy as np

from kernels.jit import inlined, leaf, lean_kernel
from kernels.loads import be64

EMPTY, LOCAL, UTC, UNREADABLE = 0, 1, 2, 3
"""What a time came to: none there, local microseconds, UTC microseconds, not a time."""

NOT_NUMBER, NUMBER, DIFFICULT = 0, 1, 2
"""What a text came to: no number, a number, a number that takes more than exact arithmetic in doubles."""

POWERS = 10.0 ** np.arange(23)
"""Exact in doubles, so that digits x or / a power rounds once (Clinger's fast path)."""

MAX_STIME = 32
SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
MONTH_DAYS = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], np.int64)


@inlined
def strip(buf, start, stop):
    """Return the range without blanks at either end."""
    while start < stop and (buf[start] == 32 or buf[start] == 0 or 9 <= buf[start] <= 13):
        start += 1
    while stop > start and (buf[stop - 1] == 32 or buf[stop - 1] == 0 or 9 <= buf[stop - 1] <= 13):
        stop -= 1
    return start, stop


@inlined
def digits(buf, start, stop):
    """Return the value of at most 18 digits, or -1 where another byte is among them."""
    value = np.int64(0)
    for i in range(start, stop):
        digit = np.int64(buf[i]) - 48
        if digit < 0 or digit > 9:
            return np.int64(-1)
        value = value * 10 + digit
    return value


@leaf
def parse_int(buf, start, stop):
    """Return (True, value) of [+-]digits that fit int64, else (False, 0). The range is stripped already."""
    negative = start < stop and buf[start] == 45
    if start < stop and (buf[start] == 45 or buf[start] == 43):
        start += 1
    if start == stop:
        return False, np.int64(0)
    value = np.int64(0)
    for i in range(start, stop):
        digit = np.int64(buf[i]) - 48
        if digit < 0 or digit > 9:
            return False, np.int64(0)
        if value < -922337203685477580 or (value == -922337203685477580 and digit > 8):
            return False, np.int64(0)
        value = value * 10 - digit
    if negative:
        return True, value
    if value == np.iinfo(np.int64).min:
        return False, np.int64(0)
    return True, -value


@inlined
def days_of(year, month, day):
    """Return the days since 1970-01-01 of a date of the Gregorian calendar."""
    shifted = year - 1 if month <= 2 else year
    era = shifted // 400
    of_era = shifted - era * 400
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


@inlined
def moment(year, month, day, hour, minute, second, micros):
    """Return (True, microseconds since 1970) where the calendar holds it; a field of -1 was no number."""
    if year < 1 or month < 1 or month > 12 or day < 1 or hour < 0 or hour > 23:
        return False, np.int64(0)
    if minute < 0 or minute > 59 or second < 0 or second > 59 or micros < 0:
        return False, np.int64(0)
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if day > MONTH_DAYS[month] + (1 if leap and month == 2 else 0):
        return False, np.int64(0)
    seconds = hour * 3600 + minute * 60 + second
    return True, np.int64(days_of(year, month, day) * DAY_US + seconds * SECOND_US + micros)


@leaf
def parse_extended(buf, start, stop):
    """Parse YYYY-MM-DDThh:mm:ss[.f...][Z|+hh:mm] (a space for the T, no colon in the zone are fine); see ``parse_stime``."""
    bad = UNREADABLE, np.int64(0)
    if stop - start < 19 or buf[start + 4] != 45 or buf[start + 7] != 45 or buf[start + 13] != 58 or buf[start + 16] != 58:
        return bad
    if buf[start + 10] != 84 and buf[start + 10] != 32:
        return bad
    p = start + 19
    micros = np.int64(0)
    if p < stop and (buf[p] == 46 or buf[p] == 44):
        scale = np.int64(100_000)
        first = p + 1
        p = first
        while p < stop and 48 <= buf[p] <= 57:
            micros += (np.int64(buf[p]) - 48) * scale
            scale //= 10
            p += 1
        if p == first:
            return bad
    good, local = moment(
        digits(buf, start, start + 4),
        digits(buf, start + 5, start + 7),
        digits(buf, start + 8, start + 10),
        digits(buf, start + 11, start + 13),
        digits(buf, start + 14, start + 16),
        digits(buf, start + 17, start + 19),
        micros,
    )
    if not good:
        return bad
    if p == stop:
        return LOCAL, local
    if buf[p] == 90 and p + 1 == stop:
        return UTC, local
    sign = 1 if buf[p] == 43 else -1 if buf[p] == 45 else 0
    minutes_at = p + 4 if stop - p == 6 and buf[p + 3] == 58 else p + 3
    if sign == 0 or minutes_at + 2 != stop:
        return bad
    hours = digits(buf, p + 1, p + 3)
    minutes = digits(buf, minutes_at, minutes_at + 2)
    if hours < 0 or hours > 23 or minutes < 0 or minutes > 59:
        return bad
    return UTC, local - sign * (hours * 3600 + minutes * 60) * SECOND_US


@inlined
def digit_pairs(word):
    """Return (True, the numbers of four pairs of digits in 16-bit lanes, the first one highest) of eight bytes of text."""
    each = word ^ np.uint64(0x3030303030303030)
    high = np.uint64(0x8080808080808080)
    if each & high != np.uint64(0) or (each + np.uint64(0x7676767676767676)) & high != np.uint64(0):
        return False, np.uint64(0)
    low = np.uint64(0x00FF00FF00FF00FF)
    return True, ((each >> np.uint64(8)) & low) * np.uint64(10) + (each & low)


@inlined
def lane(pairs, nth):
    """Return the ``nth`` number (from 0) of ``digit_pairs``."""
    return np.int64((pairs >> np.uint64(48 - 16 * nth)) & np.uint64(0xFF))


@inlined
def parse_stime(buf, start, stop):
    """Return (EMPTY, LOCAL, UTC or UNREADABLE, microseconds) of a time: 12, 14 or 16 digits, or the extended form (E5 TimeFormat)."""
    start, stop = strip(buf, start, stop)
    length = stop - start
    if length == 0:
        return EMPTY, np.int64(0)
    if length > MAX_STIME:
        return UNREADABLE, np.int64(0)
    if length == 16:  # the usual form, eight digits at a time
        first_good, first = digit_pairs(be64(buf, start))
        last_good, last = digit_pairs(be64(buf, start + 8))
        if not (first_good and last_good):
            return UNREADABLE, np.int64(0)
        year = lane(first, 0) * 100 + lane(first, 1)
        good, local = moment(year, lane(first, 2), lane(first, 3), lane(last, 0), lane(last, 1), lane(last, 2), lane(last, 3) * 10_000)
        return (LOCAL, local) if good else (UNREADABLE, np.int64(0))
    if length not in (12, 14):
        return parse_extended(buf, start, stop)
    at = start + 2 if length == 12 else start + 4
    year = digits(buf, start, at)
    if length == 12 and year >= 0:
        year += 1900 if year >= 69 else 2000
    good, local = moment(
        year,
        digits(buf, at, at + 2),
        digits(buf, at + 2, at + 4),
        digits(buf, at + 4, at + 6),
        digits(buf, at + 6, at + 8),
        digits(buf, at + 8, at + 10),
        np.int64(0),
    )
    return (LOCAL, local) if good else (UNREADABLE, np.int64(0))


@lean_kernel
def parse_stimes(buf, starts, stops, flags, times_us):
    """Parse ``n`` times at ``buf[starts[i]:stops[i]]`` into ``flags`` (int64) and ``times_us`` (int64)."""
    for i in range(len(starts)):
        flag, time_us = parse_stime(buf, starts[i], stops[i])
        flags[i] = flag
        times_us[i] = time_us


@leaf
def parse_number(buf, start, stop):
    """Return (NOT_NUMBER, NUMBER or DIFFICULT, value) of [+-]digits[.digits][e[+-]digits], digits on one side of the point enough."""
    start, stop = strip(buf, start, stop)
    p = start
    negative = p < stop and buf[p] == 45
    if p < stop and (buf[p] == 45 or buf[p] == 43):
        p += 1
    mantissa = np.int64(0)
    seen = 0
    exponent = np.int64(0)
    significant = 0
    after_point = False
    while p < stop:
        byte = buf[p]
        if 48 <= byte <= 57:
            seen += 1
            if significant > 0 or byte != 48:
                significant += 1
            if significant <= 18:
                mantissa = mantissa * 10 + (np.int64(byte) - 48)
            exponent -= 1 if after_point else 0
        elif byte == 46 and not after_point:
            after_point = True
        else:
            break
        p += 1
    if seen == 0:
        return NOT_NUMBER, 0.0
    if p < stop:
        if buf[p] != 101 and buf[p] != 69:
            return NOT_NUMBER, 0.0
        p += 1
        down = p < stop and buf[p] == 45
        if p < stop and (buf[p] == 45 or buf[p] == 43):
            p += 1
        if p == stop:
            return NOT_NUMBER, 0.0
        power = np.int64(0)
        while p < stop:
            if not 48 <= buf[p] <= 57:
                return NOT_NUMBER, 0.0
            power = min(power * 10 + (np.int64(buf[p]) - 48), np.int64(1_000_000))
            p += 1
        exponent += -power if down else power
    if significant > 15 or exponent < -22 or exponent > 22:
        return DIFFICULT, 0.0
    value = np.float64(mantissa)
    value = value / POWERS[-exponent] if exponent < 0 else value * POWERS[exponent]
    return NUMBER, -value if negative else value
