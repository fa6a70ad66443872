"""Slow, obvious twins of ``kernels.text``, ``kernels.text_number`` and ``kernels.text_time``."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from fractions import Fraction

BLANK, WRONG_COUNT, BAD_QUOTE, TOO_LONG, TAIL = 1, 2, 3, 4, 5
BLANKS = bytes(range(33))

Sound = tuple[int, int, list[bytes]]
"""Start, stop (line end included) and the fields of a row; doubled quotes are resolved."""

Odd = tuple[int, int, int]
"""Kind, start, stop."""


def _quoted(line: bytes, at: int, quote: bytes) -> tuple[bytes, int] | None:
    """Return the text of the quoted field that opens before ``at`` and the position after its closing quote; None if it never closes."""
    text = b""
    while True:
        found = line.find(quote, at)
        if found < 0:
            return None
        text += line[at:found]
        if line[found + 1 : found + 2] != quote:
            return text, found + 1
        text += quote
        at = found + 2


def _row(data: bytes, delimiter: bytes, quote: bytes, line_end: bytes) -> tuple[list[bytes], int, bool, bool] | None:
    """Return (fields, length with the line end, whether it has one, whether it is one quoted field) of the first row; None: bad quoting."""
    fields: list[bytes] = []
    at = 0
    any_quoted = False
    while True:
        opened = at + len(data[at:]) - len(data[at:].lstrip(b" "))
        if quote and data[opened : opened + 1] == quote:
            any_quoted = True
            closed = _quoted(data, opened + 1, quote)
            if closed is None:
                return None
            text, at = closed
            while data[at : at + 1] in (b" ", b"\r") and data[at : at + 1] != line_end:
                at += 1
            if data[at : at + 1] not in (delimiter, line_end, b""):
                return None
        else:
            cut = re.search(b"[" + re.escape(delimiter + line_end) + b"]", data[at:])
            stop = len(data) if cut is None else at + cut.start()
            text, at = data[at:stop], stop
        fields.append(text)
        if data[at : at + 1] != delimiter:
            break
        at += 1
    ended = data[at : at + 1] == line_end
    return fields, at + ended, ended, any_quoted


def scan_rows(data: bytes, delimiter: bytes, quote: bytes, line_end: bytes, width: int, limit: int) -> tuple[list[Sound], list[Odd]]:
    """Cut a whole payload into sound rows of ``width`` fields and odd spans."""
    sound: list[Sound] = []
    odd: list[Odd] = []
    at = 0
    while at < len(data):
        window = data[at : at + limit]
        line = window.find(line_end) + 1
        row = _row(window, delimiter, quote, line_end)
        cut_off = at + limit < len(data)  # the window ends before the payload
        if row is not None and (row[2] or not cut_off):
            fields, length, ended, quoted = row
            if len(fields) == 1 and not quoted and not window[:length].strip(b" \r\n" + (b"" if delimiter == b"\t" else b"\t")):
                odd.append((BLANK, at, at + length))
            elif len(fields) == width:
                sound.append((at, at + length, fields))
            elif line and line < length:
                odd.append((BAD_QUOTE, at, at + line))
                length = line
            else:
                odd.append((WRONG_COUNT if ended else TAIL, at, at + length))
            at += length
        elif line:
            odd.append((BAD_QUOTE, at, at + line))
            at += line
        elif cut_off:
            stop = data.find(line_end, at) + 1 or len(data)
            odd += [(TOO_LONG, start, min(start + limit, stop)) for start in range(at, stop, limit)]
            at = stop
        else:
            odd.append((TAIL, at, len(data)))
            at = len(data)
    return sound, odd


def encode(texts: list[bytes]) -> list[int]:
    """Give numbers to the distinct stripped texts in order of appearance."""
    seen: dict[bytes, int] = {}
    return [seen.setdefault(text.strip(BLANKS), len(seen)) for text in texts]


_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_WORD = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE | re.ASCII)


def parse_number(text: str, mark: str) -> float | None:
    """Return the double nearest to the number that ``text`` is, or None where it is none."""
    if mark != ".":
        if "." in text:
            return None
        text = text.replace(mark, ".")
    return float(text) if _NUMBER.fullmatch(text) or _WORD.fullmatch(text) else None


def parse_scaled(text: str, mark: str, coefficient: int, power: int) -> int | None:
    """Return the number times ``coefficient * 10**power``, rounded half to even, or None where it is none."""
    if mark != ".":
        if "." in text:
            return None
        text = text.replace(mark, ".")
    if not _NUMBER.fullmatch(text):
        return None
    return round(Fraction(text) * coefficient * Fraction(10) ** power)


def parse_time(text: str, layout: str | None) -> tuple[int, bool] | None:
    """Return (microseconds since 1970, whether they are UTC) by strptime, ISO 8601 where ``layout`` is None; None for no time."""
    try:
        moment = datetime.fromisoformat(text) if layout is None else datetime.strptime(text, layout)
        zoned = moment.tzinfo is not None
        plain = moment.astimezone(UTC).replace(tzinfo=None) if zoned else moment
    except (ValueError, OverflowError):
        return None
    return (plain - datetime(1970, 1, 1)) // timedelta(microseconds=1), zoned
