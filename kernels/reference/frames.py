"""The twin of ``kernels.secs.walk``: a whole payload cut into frames, rejected regions and the rest."""

from __future__ import annotations

from typing import Any, NamedTuple

from kernels import secs_items as codes
from kernels.reference.secs import CHECKS, Fault, Item, read_body, s6f1

DICTIONARY = {(1, 12), (2, 23), (2, 33), (2, 35)}
BELIEVED = {(1, 1), (1, 15), (1, 17), (2, 17)}
"""Messages without a body that a scan takes for a frame."""


class Unit(NamedTuple):
    """A stretch of the payload: trace, event, alarm, dictionary, other or rejected (``code``); ``content`` of a trace."""

    kind: str
    start: int
    stop: int
    code: int = codes.OK
    content: Any = None


class Limits(NamedTuple):
    """Frame bytes, depth, children."""

    frame_bytes: int
    depth: int
    children: int


def message_of(frame: bytes) -> tuple[int, int]:
    """Return (stream, function) of a frame."""
    return frame[6] & 0x7F, frame[7]


def body_of(frame: bytes, limits: Limits) -> Item:
    """Return the tree of a data frame's body; raise :class:`Fault`."""
    return read_body(frame[14:], limits.depth, limits.children)


def in_step(data: bytes, p: int, limits: Limits) -> Unit:
    """Return the sound frame at ``p``, or the frame rejected for its shape; raise :class:`Fault` where it isn't sound."""
    left = len(data) - p
    if left < 4:
        raise Fault(codes.TORN)
    length = int.from_bytes(data[p : p + 4], "big")
    if length < 10:
        raise Fault(codes.BAD_LENGTH)
    if length > limits.frame_bytes:
        raise Fault(codes.FRAME_TOO_LARGE)
    if left < 14:
        raise Fault(codes.TORN)
    session, ptype, stype = int.from_bytes(data[p + 4 : p + 6], "big"), data[p + 8], data[p + 9]
    if ptype != 0 or stype not in (0, 1, 2, 3, 4, 5, 6, 7, 9):
        raise Fault(codes.BAD_HEADER)
    if stype != 0 and length != 10:
        raise Fault(codes.BAD_LENGTH)
    if stype == 0 and length == 10 and session >= 0x8000:
        raise Fault(codes.BAD_HEADER)
    stop = p + 4 + length
    if stop > len(data):
        raise Fault(codes.TORN)
    frame = data[p:stop]
    message = message_of(frame)
    if stype != 0 or length == 10:
        ours = stype == 0 and message in CHECKS
        return Unit("rejected", p, stop, codes.BAD_SHAPE) if ours else Unit("other", p, stop)
    item = body_of(frame, limits)
    try:
        if message in CHECKS:
            CHECKS[message](item)
    except Fault as fault:
        return Unit("rejected", p, stop, fault.code)
    if message == (6, 1):
        content = s6f1(item)
        return Unit("trace", p, stop, codes.OK, content) if content[3] else Unit("other", p, stop)
    kind = {(6, 11): "event", (5, 1): "alarm"}.get(message, "dictionary" if message in DICTIONARY else "other")
    return Unit(kind, p, stop)


def believed(data: bytes, p: int, limits: Limits) -> bool:
    """Tell whether a scan takes the bytes at ``p`` for a whole sound frame (the strict rule)."""
    try:
        unit = in_step(data, p, limits)
    except Fault:
        return False
    frame = data[p : unit.stop]
    session, stype = int.from_bytes(frame[4:6], "big"), frame[9]
    if stype != 0:
        return session == 0xFFFF
    stream, function = message_of(frame)
    if session >= 0x8000 or stream == 0 or unit.kind == "rejected":
        return False
    return len(frame) > 14 or function == 0 or (stream, function) in BELIEVED


def units(data: bytes, limits: Limits) -> list[Unit]:
    """Return the units that tile the payload. Regions over limits.frame_bytes are cut there."""
    out: list[Unit] = []
    p = 0
    while p < len(data):
        try:
            out.append(in_step(data, p, limits))
            p = out[-1].stop
            continue
        except Fault as fault:
            code = fault.code
        q = p + 1
        while q < len(data) and not believed(data, q, limits):
            if q - p >= limits.frame_bytes and q + 14 <= len(data) and code != codes.TORN:
                out.append(Unit("rejected", p, q, code))
                p = q
            q += 1
        found = q < len(data)
        out.append(Unit("rejected", p, q, codes.BAD_LENGTH if code == codes.TORN and found else code))
        p = q
    return out
