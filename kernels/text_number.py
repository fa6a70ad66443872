"""Numbers written as decimal text: correctly rounded doubles, and exact integers in a smaller unit.

A number is ``[+-] digits [mark digits] [(e|E) [+-] digits]`` with a digit on at least one side of the mark, or nan, inf, infinity with a
sign in any case. Doubles: Clinger's fast path where mantissa and power are exact, else Eisel and Lemire's algorithm (Lemire, Number parsing
at a gigabyte per second, 2021); what that cannot decide is left to the caller. Fields are addressed as in ``kernels.text``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.jit import inline, kernel
from kernels.loads import be64
from kernels.missing import NULL_BITS
from kernels.text import same, strip
from kernels.text_digits import short_number

UInt8 = npt.NDArray[np.uint8]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

NUMBER, MISSING, TEXT, SLOW, WIDE = 0, 1, 2, 4, 8
"""How a field was read. SLOW: sound, but the kernel cannot round it; WIDE: an integer beyond 2**53, its text is to be kept."""

EXACT, EMPTY, UNREADABLE, LONG, ROUNDED = 0, 1, 2, 3, 4
"""How a field was scaled. LONG: sound, but too many digits or too great for the kernel; ROUNDED: read, with a fraction rounded away."""

BLOCK_ROWS = 128
"""Rows of which one column is read after the other: numbers of a column are alike, and branches that are taken alike cost little."""

_PLUS, _MINUS, _ZERO, _NINE, _LOWER = 43, 45, 48, 57, 32
_SMALLEST, _GREATEST = -342, 308
_NAN = np.frombuffer(b"nan", np.uint8)
_INFINITY = np.frombuffer(b"infinity", np.uint8)


def _powers_of_five() -> npt.NDArray[np.uint64]:
    """Return the 128 leading bits of 5**q for q from -342 to 308, high and low word (truncated; reciprocals rounded up)."""
    rows = []
    for exponent in range(_SMALLEST, _GREATEST + 1):
        power = 5 ** abs(exponent)
        if exponent >= 0:
            shift = power.bit_length() - 128
            bits = power >> shift if shift >= 0 else power << -shift
        else:
            bits = (1 << (power.bit_length() + (127 if exponent >= -27 else 255))) // power + 1
            bits >>= max(bits.bit_length() - 128, 0)
        rows.append((bits >> 64, bits & 0xFFFF_FFFF_FFFF_FFFF))
    return np.array(rows, dtype=np.uint64)


_FIVES = _powers_of_five()
_TENS = 10.0 ** np.arange(23)
_LOW = np.uint64(0xFFFF_FFFF)
_ALL = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
_ONE, _32, _63 = np.uint64(1), np.uint64(32), np.uint64(63)


@inline
def _multiply(a: Any, b: Any) -> Any:
    """Return the high and low word of the 128-bit product of two uint64."""
    a_low, a_high, b_low, b_high = a & _LOW, a >> _32, b & _LOW, b >> _32
    low = a_low * b_low
    middle = a_high * b_low + (low >> _32)
    other = a_low * b_high + (middle & _LOW)
    return a_high * b_high + (middle >> _32) + (other >> _32), (other << _32) | (low & _LOW)


@inline
def _scale(mantissa: Any, power: int) -> tuple[int, bool]:
    """Return the bits of the double nearest to ``mantissa * 10**power`` (mantissa > 0), and whether they are certain."""
    if power < _SMALLEST or power > _GREATEST:
        return 0, False
    width = 0
    shifted = mantissa
    while shifted >> _63 == 0:
        shifted = shifted << _ONE
        width += 1
    high, low = _multiply(shifted, _FIVES[power - _SMALLEST, 0])
    if high & np.uint64(0x1FF) == np.uint64(0x1FF):
        carry, _rest = _multiply(shifted, _FIVES[power - _SMALLEST, 1])
        room = _ALL - low
        if carry > room:
            low = carry - room - _ONE
            high += _ONE
        else:
            low += carry
    if low == _ALL and (power < -27 or power > 55):
        return 0, False
    upper = high >> _63
    bits = high >> (upper + np.uint64(9))
    exponent = ((217706 * power) >> 16) + 1086 + int(upper) - width
    if exponent <= 0 or exponent >= 2046:
        return 0, False
    if low <= _ONE and -4 <= power <= 23 and bits & np.uint64(3) == _ONE and bits << (upper + np.uint64(9)) == high:
        bits = bits & ~_ONE
    bits = (bits + (bits & _ONE)) >> _ONE
    if bits >> np.uint64(53) != 0:
        bits = bits >> _ONE
        exponent += 1
    return (exponent << 52) | (int(bits) & 0xF_FFFF_FFFF_FFFF), True


@inline
def _is_word(buffer: UInt8, begin: int, stop: int, word: UInt8, length: int) -> bool:
    same = stop - begin == length
    i = 0
    while same and i < length:
        same = buffer[begin + i] | _LOWER == word[i]
        i += 1
    return same


@inline
def _long_digits(buffer: UInt8, begin: int, stop: int, mark: int) -> tuple[int, int, int]:
    """Return (the first 18 significant digits, power of ten, significant digits) of digits with at most one mark among them."""
    mantissa = 0
    power = 0
    digits = 0
    whole = True
    for i in range(begin, stop):
        if buffer[i] == mark:
            whole = False
        elif digits < 18:
            mantissa = mantissa * 10 + int(buffer[i]) - _ZERO
            digits += mantissa > 0
            power -= not whole
        else:
            digits += 1
            power += whole
    return mantissa, power, digits


@inline
def _grammar(buffer: UInt8, begin: int, stop: int, mark: int) -> tuple[int, int, int, bool, bool]:
    """Read a decimal number of the unsigned field ``[begin, stop)``.

    Returns (the first 18 significant digits as integer, power of ten, digits: at least the significant ones where they are up to 18,
    whether it has neither mark nor exponent, whether it is a number). Digits beyond 18 raise the power.
    """
    mantissa = 0
    i = begin
    while i < stop:
        digit = int(buffer[i]) - _ZERO
        if digit < 0 or digit > 9:
            break
        mantissa = mantissa * 10 + digit
        i += 1
    digits = i - begin
    power = 0
    plain = i == stop
    if i < stop and buffer[i] == mark:
        i += 1
        fraction = i
        while i < stop:
            digit = int(buffer[i]) - _ZERO
            if digit < 0 or digit > 9:
                break
            mantissa = mantissa * 10 + digit
            i += 1
        power = fraction - i
        digits -= power
    if digits == 0:
        return 0, 0, 0, False, False
    if digits > 18:  # the product may have run over
        mantissa, power, digits = _long_digits(buffer, begin, i, mark)
    if i < stop and buffer[i] | _LOWER == 101:
        i += 1
        negative = i < stop and buffer[i] == _MINUS
        if i < stop and (negative or buffer[i] == _PLUS):
            i += 1
        if i == stop:
            return 0, 0, 0, False, False
        exponent = 0
        while i < stop:
            digit = int(buffer[i]) - _ZERO
            if digit < 0 or digit > 9:
                break
            exponent = min(exponent * 10 + digit, 1_000_000_000)
            i += 1
        power += -exponent if negative else exponent
    return mantissa, power, digits, plain, i == stop


@inline
def _is_missing(buffer: UInt8, begin: int, stop: int, missing: UInt8, missing_stops: Int64) -> bool:
    text = 0
    for entry in range(missing_stops.shape[0]):
        same = missing_stops[entry] - text == stop - begin
        i = begin
        while same and i < stop:
            same = buffer[i] == missing[text + i - begin]
            i += 1
        if same:
            return True
        text = missing_stops[entry]
    return False


@inline
def _repeats(buffer: UInt8, begin: int, stop: int, before: int, before_stop: int) -> bool:
    """Tell whether both fields hold the same bytes; the first eight are compared at once, which settles nearly all that differ."""
    length = stop - begin
    if length != before_stop - before:
        return False
    if length > 0 and begin + 8 <= len(buffer):
        aside = np.uint64(8 * max(0, 8 - length))
        if be64(buffer, begin) >> aside != be64(buffer, before) >> aside:
            return False
        if length <= 8:
            return True
    return bool(same(buffer, begin, stop, before, before_stop))


@inline
def _double(buffer: UInt8, begin: int, stop: int, mark: int) -> tuple[float, int]:
    """Return the number in the stripped, non-empty field and how it was read."""
    at = begin
    negative = buffer[at] == _MINUS
    if negative or buffer[at] == _PLUS:
        at += 1
    mantissa, power, digits, plain, sound = short_number(buffer, at, stop, mark)
    if not sound:
        mantissa, power, digits, plain, sound = _grammar(buffer, at, stop, mark)
    if not sound:
        if _is_word(buffer, at, stop, _NAN, 3):
            return np.nan, NUMBER
        if _is_word(buffer, at, stop, _INFINITY, 3) or _is_word(buffer, at, stop, _INFINITY, 8):
            return (-np.inf if negative else np.inf), NUMBER
        return 0.0, TEXT
    kind = WIDE if plain and (digits > 18 or mantissa > 1 << 53) else NUMBER
    if mantissa == 0:
        value = 0.0
    elif digits <= 18 and mantissa <= 1 << 53 and -22 <= power <= 22:
        value = mantissa * 1.0
        value = value * _TENS[power] if power >= 0 else value / _TENS[-power]
    else:
        bits, certain = _scale(np.uint64(mantissa), power)
        if certain and digits > 18:
            above, certain = _scale(np.uint64(mantissa + 1), power)
            certain = certain and above == bits
        if not certain:
            return 0.0, kind | SLOW
        value = np.int64(bits).view(np.float64)
    return (-value if negative else value), kind


@kernel
def parse_numbers(
    buffer: UInt8,
    starts: Any,
    stops: Any,
    width: int,
    columns: Int64,
    mark: int,
    missing: UInt8,
    missing_stops: Int64,
    values: npt.NDArray[np.float64],
    kinds: UInt8,
) -> int:
    """Read ``k`` columns as doubles into ``values`` (``n`` x ``k``; NULL where none) and how into ``kinds`` (``n`` x ``k``).

    ``mark`` is the decimal mark; the missing texts are stored one after the other, each up to its entry of ``missing_stops``.
    An empty field is missing. Returns how many fields are neither NUMBER nor MISSING.
    """
    odd = 0
    bits = values.view(np.int64)  # a NaN's bits travel safely only as an integer
    by_length = np.zeros(64, np.bool_)
    text = 0
    for entry in range(missing_stops.shape[0]):
        by_length[min(missing_stops[entry] - text, 63)] = True
        text = missing_stops[entry]
    for block in range(0, values.shape[0], BLOCK_ROWS):
        for k in range(columns.shape[0]):
            for row in range(block, min(block + BLOCK_ROWS, values.shape[0])):
                cell = row * width + columns[k]
                if row > 0 and _repeats(buffer, starts[cell], stops[cell], starts[cell - width], stops[cell - width]):
                    bits[row, k] = bits[row - 1, k]  # sensors hold their value
                    kinds[row, k] = kinds[row - 1, k]
                    odd += kinds[row, k] > MISSING
                    continue
                begin, stop = strip(buffer, starts[cell], stops[cell])
                if begin == stop or (by_length[min(stop - begin, 63)] and _is_missing(buffer, begin, stop, missing, missing_stops)):
                    bits[row, k] = NULL_BITS
                    kinds[row, k] = MISSING
                    continue
                value, kind = _double(buffer, begin, stop, mark)
                if kind & (TEXT | SLOW):
                    bits[row, k] = NULL_BITS
                else:
                    values[row, k] = value
                kinds[row, k] = kind
                odd += kind != NUMBER
    return odd


@kernel
def parse_scaled(
    buffer: UInt8,
    starts: Any,
    stops: Any,
    width: int,
    column: int,
    mark: int,
    coefficient: int,
    power: int,
    values: Int64,
    kinds: UInt8,
) -> int:
    """Read one column as exact decimals times ``coefficient * 10**power``, rounded half to even, into ``values`` (``n``).

    ``coefficient`` is below 1000. Returns how many rows are neither EXACT nor ROUNDED (see ``kinds``).
    """
    odd = 0
    for row in range(values.shape[0]):
        begin, stop = strip(buffer, starts[row * width + column], stops[row * width + column])
        values[row] = 0
        if begin == stop:
            kinds[row] = EMPTY
            odd += 1
            continue
        negative = buffer[begin] == _MINUS
        if negative or buffer[begin] == _PLUS:
            begin += 1
        number, shift, digits, _plain, sound = _grammar(buffer, begin, stop, mark)
        if not sound:
            kinds[row] = UNREADABLE
            odd += 1
            continue
        shift += power
        fits = digits <= 18 and number < (1 << 62) // coefficient
        kind = EXACT
        number = number * coefficient if fits else 0
        while fits and shift > 0 and number > 0:
            fits = number < (1 << 62) // 10
            number = number * 10 if fits else number
            shift -= 1
        if fits and shift < 0 and number > 0:
            divisor = 1
            for _ in range(min(-shift, 18)):
                divisor *= 10
            whole = number // divisor
            rest = number - whole * divisor
            if shift < -18:  # below 2**62 / 10**19, so below a half
                whole, rest = 0, 1
            elif rest > divisor - rest or (rest == divisor - rest and whole % 2 == 1):
                whole += 1
            kind = ROUNDED if rest > 0 else EXACT
            number = whole
        if not fits:
            kinds[row] = LONG
            odd += 1
            continue
        kinds[row] = kind
        values[row] = -number if negative else number
    return odd
