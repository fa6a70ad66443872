"""Short decimal numbers, eight characters at a time: a word of text is checked and converted as one integer.

Sums of neighbouring digits are formed in bytes, then in 16 and in 32 bits (Lemire, Number parsing at a gigabyte per second, 2021).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.jit import inline
from kernels.loads import be64

MOST = 16
"""Characters of a number that is short."""

_NONE, _ONE, _4, _7, _8, _16, _19, _32 = (np.uint64(n) for n in (0, 1, 4, 7, 8, 16, 19, 32))
_10, _100, _10000 = np.uint64(10), np.uint64(100), np.uint64(10_000)
_EACH, _SEVENS, _ZEROS, _HIGH, _SIX, _THREES, _NIBBLES = (
    np.uint64(byte * 0x0101_0101_0101_0101) for byte in (0x01, 0x7F, 0x30, 0xF0, 0x06, 0x33, 0x0F)
)
"""A byte, eight times."""
_PAIRS, _QUADS, _LOW = np.uint64(0x00FF_00FF_00FF_00FF), np.uint64(0x0000_FFFF_0000_FFFF), np.uint64(0xFFFF_FFFF)
_BYTE_OF = np.zeros(19, np.int64)
_BYTE_OF[[(0x80 << 8 * byte) % 19 for byte in range(8)]] = range(8)
"""Which byte of a word has its top bit set, by the word modulo 19."""


@inline
def _eight(word: Any, length: int, marks: Any) -> Any:
    """Read up to eight characters: ``length`` are in ``word``, the last in its lowest byte, 0 above it; ``marks``: the mark eight times.

    Returns (digits as integer, digits, digits behind the mark or -1, whether they are digits with at most one mark among them).
    """
    differs = word ^ marks
    found = ~(((differs & _SEVENS) + _SEVENS) | differs | _SEVENS)  # the top bit of each byte that is the mark, and no other bit
    digits, behind, sound = length, -1, True
    if found != _NONE:
        below = (found >> _7) - _ONE
        sound = found & (found - _ONE) == _NONE
        behind = _BYTE_OF[np.int64(found % _19)]
        word = (word >> _8) & ~below | word & below
        digits -= 1
    if digits < 8:
        word |= _ZEROS << np.uint64(8 * digits)
    sound = sound and word & _HIGH | ((word & _SEVENS) + _SIX & _HIGH) >> _4 == _THREES
    word &= _NIBBLES
    word = (word >> _8 & _PAIRS) * _10 + (word & _PAIRS)
    word = (word >> _16 & _QUADS) * _100 + (word & _QUADS)
    return np.int64((word >> _32) * _10000 + (word & _LOW)), digits, behind, sound


@inline
def short_number(buffer: Any, begin: int, stop: int, mark: int) -> tuple[int, int, int, bool, bool]:
    """Read the unsigned number in ``[begin, stop)`` where it is digits with at most one mark, and short.

    Returns (digits as integer, power of ten, digits, whether it has no mark, whether that is so); uint8 (n,) ``buffer``.
    """
    length = stop - begin
    if length < 1 or length > MOST or begin + 8 > len(buffer):
        return 0, 0, 0, False, False
    marks = _EACH * np.uint64(mark)
    if length <= 8:
        value, digits, behind, sound = _eight(be64(buffer, begin) >> np.uint64(8 * (8 - length)), length, marks)
    else:
        first, digits, ahead, sound = _eight(be64(buffer, begin) >> np.uint64(8 * (16 - length)), length - 8, marks)
        value, more, behind, well = _eight(be64(buffer, stop - 8), 8, marks)
        sound = sound and well and (ahead < 0 or behind < 0)
        value += first * (10_000_000 if more == 7 else 100_000_000)
        digits += more
        if ahead >= 0:
            behind = ahead + 8
    return value, -max(behind, 0), digits, behind < 0, sound and digits > 0
