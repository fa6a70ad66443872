"""SECS-II items and HSMS frames as bytes, from the standard's tables and not by the code under test: the tests' encoder."""

from __future__ import annotations

import struct

FORMS = {
    "L": 0o00,
    "B": 0o10,
    "BOOL": 0o11,
    "A": 0o20,
    "J": 0o21,
    "C": 0o22,
    "I8": 0o30,
    "I1": 0o31,
    "I2": 0o32,
    "I4": 0o34,
    "F8": 0o40,
    "F4": 0o44,
    "U8": 0o50,
    "U1": 0o51,
    "U2": 0o52,
    "U4": 0o54,
}
LETTERS = {"I8": "q", "I1": "b", "I2": "h", "I4": "i", "F8": "d", "F4": "f", "U8": "Q", "U1": "B", "U2": "H", "U4": "I"}


def head(form: str, length: int, count: int = 0) -> bytes:
    """Return an item's header with ``count`` length bytes (0: as few as do)."""
    count = count or (1 if length < 1 << 8 else 2 if length < 1 << 16 else 3)
    return bytes([FORMS[form] << 2 | count]) + length.to_bytes(count, "big")


def listed(*children: bytes, count: int = 0) -> bytes:
    """Return a list item of encoded children."""
    return head("L", len(children), count) + b"".join(children)


def item(form: str, *values: float, count: int = 0) -> bytes:
    """Return an item of numbers."""
    raw = struct.pack(f">{len(values)}{LETTERS[form]}", *values)
    return head(form, len(raw), count) + raw


def raw_item(form: str, raw: bytes, count: int = 0) -> bytes:
    """Return an item of any form around its raw content."""
    return head(form, len(raw), count) + raw


def text(value: str | bytes, count: int = 0) -> bytes:
    """Return an ASCII item."""
    return raw_item("A", value.encode() if isinstance(value, str) else value, count)


def frame(stream: int, function: int, body: bytes = b"", *, session: int = 1, system: int = 1, wait: bool = False, stype: int = 0) -> bytes:
    """Return an HSMS frame."""
    header = struct.pack(">HBBBBI", session, stream | (0x80 if wait else 0), function, 0, stype, system)
    return struct.pack(">I", len(header) + len(body)) + header + body


def control(stype: int, session: int = 0xFFFF) -> bytes:
    """Return a control frame."""
    return frame(0, 0, session=session, stype=stype)


LINKTEST = control(5)
STIME = "2026112314350000"


def trace_body(values: bytes, trid: bytes | int = 7, smpln: bytes | int = 1, stime: bytes | str = STIME) -> bytes:
    """Return the body of an S6F1."""
    return listed(
        item("U4", trid) if isinstance(trid, int) else trid,
        item("U4", smpln) if isinstance(smpln, int) else smpln,
        text(stime) if isinstance(stime, str) else stime,
        values,
    )


def f4s(*values: float) -> bytes:
    """Return an SV list of F4 items."""
    return listed(*(item("F4", value) for value in values))


def trace(values: bytes | None = None, trid: bytes | int = 7, smpln: bytes | int = 1, stime: bytes | str = STIME, system: int = 1) -> bytes:
    """Return an S6F1 frame; ``values`` is the encoded SV list."""
    return frame(6, 1, trace_body(f4s(1.5, -2.25) if values is None else values, trid, smpln, stime), system=system)


def event(ceid: bytes | int, *reports: bytes, dataid: bytes | int = 1, system: int = 1) -> bytes:
    """Return an S6F11 frame of encoded reports."""
    ids = [item("U4", value) if isinstance(value, int) else value for value in (dataid, ceid)]
    return frame(6, 11, listed(*ids, listed(*reports)), system=system, wait=True)


def report(rptid: int, *values: bytes) -> bytes:
    """Return a report of encoded values."""
    return listed(item("U4", rptid), listed(*values))


def alarm(code: int, alid: int, altx: str) -> bytes:
    """Return an S5F1 frame."""
    return frame(5, 1, listed(raw_item("B", bytes([code])), item("U4", alid), text(altx)))
