"""A small SECS-II/HSMS encoder of our own (SEMI E5, E37): items of every format, frames, and the messages that carry fab data.

Written for sample data, tests and benchmarks; it knows nothing of loadlock, so what it writes can judge what loadlock reads.
An item is ``bytes``; build lists from items, frames from one item (or none).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Final

Number = int | float | bool

FORMAT_CODES: Final = {
    "L": 0o00,
    "B": 0o10,
    "BOOLEAN": 0o11,
    "A": 0o20,
    "J": 0o21,
    "C2": 0o22,
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
"""Format name to format code (E5 9.2)."""

STRUCT_CHARS: Final = {
    "B": "B",
    "BOOLEAN": "?",
    "I8": "q",
    "I1": "b",
    "I2": "h",
    "I4": "i",
    "F8": "d",
    "F4": "f",
    "U8": "Q",
    "U1": "B",
    "U2": "H",
    "U4": "I",
}
"""Number formats to ``struct`` characters; every one is sent big-endian."""

TEXT_ENCODINGS: Final = {"A": "ascii", "J": "shift_jis"}

STYPES: Final = {
    "Data": 0,
    "Select.req": 1,
    "Select.rsp": 2,
    "Deselect.req": 3,
    "Deselect.rsp": 4,
    "Linktest.req": 5,
    "Linktest.rsp": 6,
    "Reject.req": 7,
    "Separate.req": 9,
}
"""HSMS session types (E37 8.2)."""

CONTROL_SESSION: Final = 0xFFFF
ALARM_SET: Final = 0x80


def header(name: str, length: int, length_bytes: int | None = None) -> bytes:
    """Return the item header of format ``name``; ``length`` counts bytes, or children of a list.

    ``length_bytes`` (1..3) may be more than is needed, as E5 allows.
    """
    needed = max(1, (length.bit_length() + 7) // 8)
    size = needed if length_bytes is None else length_bytes
    if not needed <= size <= 3:
        raise ValueError(f"{name}: a length of {length} needs {needed} length bytes, {size} given; at most 3")
    return bytes([FORMAT_CODES[name] << 2 | size]) + length.to_bytes(size, "big")


def item(name: str, *values: Number, length_bytes: int | None = None) -> bytes:
    """Return a number item: none, one or an array of ``values`` in one item of format ``name``."""
    body = struct.pack(f">{len(values)}{STRUCT_CHARS[name]}", *values)
    return header(name, len(body), length_bytes) + body


def text(value: str, name: str = "A", length_bytes: int | None = None) -> bytes:
    """Return an ASCII (``A``) or JIS-8 (``J``) item."""
    body = value.encode(TEXT_ENCODINGS[name])
    return header(name, len(body), length_bytes) + body


def localized(value: str, length_bytes: int | None = None) -> bytes:
    """Return a localized string (code 22): encoding header 2 = UTF-8, then the bytes."""
    body = b"\x00\x02" + value.encode()
    return header("C2", len(body), length_bytes) + body


def items(*children: bytes, length_bytes: int | None = None) -> bytes:
    """Return a list of ``children``."""
    return header("L", len(children), length_bytes) + b"".join(children)


def frame(
    body: bytes, stream: int, function: int, *, system: int = 0, session: int = 0, wait: bool = False, ptype: int = 0, stype: int = 0
) -> bytes:
    """Return one HSMS message: 4 length bytes, 10 header bytes, ``body`` (one item, or empty for a header-only message)."""
    head = struct.pack(">HBBBBI", session, wait << 7 | stream, function, ptype, stype, system)
    return struct.pack(">I", len(head) + len(body)) + head + body


def control(kind: str, *, system: int = 0, session: int = CONTROL_SESSION, status: int = 0) -> bytes:
    """Return a control message such as ``Linktest.req``; ``status`` stands in byte 3, as in Select.rsp."""
    return frame(b"", 0, status, system=system, session=session, stype=STYPES[kind])


def s1f12(names: Iterable[tuple[int, str, str]], *, system: int = 0) -> bytes:
    """Return the status variable namelist: (SVID, SVNAME, UNITS) each."""
    return frame(items(*(items(item("U4", svid), text(name), text(unit)) for svid, name, unit in names)), 1, 12, system=system)


def s2f23(trid: int, period: str, repgsz: int, svids: Sequence[int], *, system: int = 0, totsmp: int = 1_000_000) -> bytes:
    """Return trace initialize: ``period`` is DSPER as hhmmss or hhmmsscc, ``repgsz`` samples per message, SVIDs in order."""
    body = items(item("U1", trid), text(period), item("U4", totsmp), item("U4", repgsz), items(*(item("U4", svid) for svid in svids)))
    return frame(body, 2, 23, system=system, wait=True)


def s2f33(reports: Iterable[tuple[int, Sequence[int]]], *, system: int = 0, dataid: int = 1) -> bytes:
    """Return define report: (RPTID, VIDs) each."""
    rows = (items(item("U4", rptid), items(*(item("U4", vid) for vid in vids))) for rptid, vids in reports)
    return frame(items(item("U4", dataid), items(*rows)), 2, 33, system=system, wait=True)


def s2f35(links: Iterable[tuple[int, Sequence[int]]], *, system: int = 0, dataid: int = 1) -> bytes:
    """Return link event report: (CEID, RPTIDs) each."""
    rows = (items(item("U4", ceid), items(*(item("U4", rptid) for rptid in rptids))) for ceid, rptids in links)
    return frame(items(item("U4", dataid), items(*rows)), 2, 35, system=system, wait=True)


def s5f1(alarm: int, message: str, *, is_set: bool, category: int = 1, system: int = 0) -> bytes:
    """Return an alarm report; ALID ``alarm`` is set or cleared."""
    alcd = (ALARM_SET if is_set else 0) | category
    return frame(items(item("B", alcd), item("U4", alarm), text(message)), 5, 1, system=system, wait=True)


def s6f1(trid: bytes, smpln: bytes, stime: str, values: Sequence[bytes], *, system: int = 0, wait: bool = False) -> bytes:
    """Return trace data: TRID and SMPLN as items of any integer format, STIME as text, ``values`` the SV items."""
    return frame(items(trid, smpln, text(stime), items(*values)), 6, 1, system=system, wait=wait)


def s6f11(ceid: int, reports: Iterable[tuple[int, Sequence[bytes]]], *, dataid: int = 0, system: int = 0) -> bytes:
    """Return an event report: (RPTID, V items) each."""
    rows = (items(item("U2", rptid), items(*values)) for rptid, values in reports)
    return frame(items(item("U4", dataid), item("U2", ceid), items(*rows)), 6, 11, system=system, wait=True)


def reply(stream: int, function: int, *, system: int, code: int = 0) -> bytes:
    """Return a reply whose body is one acknowledge code, such as S6F2, S6F12, S2F24."""
    return frame(item("B", code), stream, function, system=system)
