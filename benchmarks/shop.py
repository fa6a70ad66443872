"""What a shop without us writes for itself: framing, the plain decoders, windows from step events, five statistics a window.

No ledger, no quarantine, no conflicts; damaged input raises. Sound frames of one layout are all that these decoders know.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from benchmarks.capture import HEADER_BYTES, STIME_CHARS, SVS, TRID

STREAM_AT, FUNCTION_AT = 6, 7
STARTED = 1001
SMPLN_AT = 21
STIME_AT = 27
VALUES_AT = STIME_AT + STIME_CHARS + 2
SENSORS = [f"sensor_{i:03d}" for i in range(1, SVS + 1)]
EPOCH = datetime(1970, 1, 1)

F4_MESSAGE = struct.Struct(f">{SMPLN_AT}xI2x{STIME_CHARS}s2x" + "2xf" * SVS)
"""A whole S6F1 frame as the generated tools send it: SMPLN, STIME, 200 F4 values; headers are skipped unread."""


@dataclass
class Window:
    """A recipe step of one tool: half-open in time, the last one open."""

    tool: str
    wafer: str
    step: str
    started_us: int
    ended_us: int


@dataclass
class Columns:
    """The trace messages of one payload (n of them, arrival order): seq (n,), ts_us (n,), values (n, 200) float64."""

    seq: np.ndarray[Any, np.dtype[np.int64]]
    ts_us: np.ndarray[Any, np.dtype[np.int64]]
    values: np.ndarray[Any, np.dtype[np.float64]]
    windows: list[Window] = field(default_factory=list)


def frames(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of every frame, its length prefix included."""
    at = 0
    while at < len(data):
        stop = at + 4 + int.from_bytes(data[at : at + 4], "big")
        yield at, stop
        at = stop


def is_event(data: bytes, start: int) -> bool:
    """Tell an S6F11 from the S6F1 beside it."""
    return data[start + FUNCTION_AT] == 11


def decode_item(data: bytes, at: int) -> tuple[Any, int]:
    """Return the value of the SECS-II item at ``at`` (lists, ASCII, unsigned integers) and where it ends."""
    code, width = data[at] >> 2, data[at] & 3
    size = int.from_bytes(data[at + 1 : at + 1 + width], "big")
    at += 1 + width
    if code == 0:
        values = []
        for _ in range(size):
            value, at = decode_item(data, at)
            values.append(value)
        return values, at
    raw = data[at : at + size]
    return (raw.decode() if code == 0o20 else int.from_bytes(raw, "big")), at + size


def time_us(stime: str) -> int:
    """Return YYYYMMDDhhmmsscc in microseconds since 1970."""
    moment = datetime.strptime(stime[:14], "%Y%m%d%H%M%S")
    return int((moment - EPOCH).total_seconds()) * 1_000_000 + int(stime[14:]) * 10_000


def windows_of(tool: str, reports: list[tuple[int, list[str]]]) -> list[Window]:
    """Return the windows that event reports (CEID, values) open; each ends where the next begins."""
    starts = [(time_us(values[0]), values) for ceid, values in reports if ceid == STARTED]
    ends = [us for us, _ in starts[1:]] + [1 << 60]
    return [Window(tool, values[3], values[5], us, end) for (us, values), end in zip(starts, ends, strict=True)]


def event_reports(data: bytes) -> list[tuple[int, list[str]]]:
    """Return (CEID, the report's values) of every S6F11."""
    out = []
    for start, _ in frames(data):
        if is_event(data, start):
            _dataid, ceid, ((_rptid, values),) = decode_item(data, start + HEADER_BYTES)[0]
            out.append((ceid, values))
    return out


def numpy_columns(tool: str, data: bytes) -> Columns:
    """Decode a payload with numpy views over frames of one length: no header is checked."""
    places = [(start, stop) for start, stop in frames(data) if not is_event(data, start)]
    raw = np.frombuffer(b"".join(data[start:stop] for start, stop in places), np.uint8).reshape(len(places), -1)
    seq = raw[:, SMPLN_AT : SMPLN_AT + 4].copy().view(">u4")[:, 0].astype(np.int64)
    items = np.ascontiguousarray(raw[:, -6 * SVS :].reshape(-1, SVS, 6)[:, :, 2:])
    values = items.view(">f4")[:, :, 0].astype(np.float64)
    digits = raw[:, STIME_AT : STIME_AT + STIME_CHARS].astype(np.int64) - ord("0")
    date = digits[:, :8] @ 10 ** np.arange(7, -1, -1)
    midnight = {day: time_us(f"{day:08d}00000000") for day in np.unique(date).tolist()}
    clock = digits[:, 8:].reshape(-1, 4, 2) @ np.array([10, 1])
    ts = np.array([midnight[day] for day in date.tolist()]) + clock @ np.array([3_600_000_000, 60_000_000, 1_000_000, 10_000])
    return Columns(seq, ts, values, windows_of(tool, event_reports(data)))


def struct_messages(data: bytes) -> Iterator[tuple[Any, ...]]:
    """Yield (SMPLN, STIME, 200 values) of every trace message."""
    for start, stop in frames(data):
        if not is_event(data, start):
            yield F4_MESSAGE.unpack(data[start:stop])


def secsgem_messages(data: bytes) -> tuple[list[tuple[Any, ...]], list[tuple[int, list[str]]]]:
    """Decode every message with secsgem; return (SMPLN, STIME, values) of the traces, and the event reports."""
    from secsgem.secs.functions import SecsS06F01, SecsS06F11

    traces, reports = [], []
    for start, stop in frames(data):
        body = data[start + HEADER_BYTES : stop]
        message: Any = SecsS06F11() if is_event(data, start) else SecsS06F01()
        message.decode(body)
        found = message.get()
        if is_event(data, start):
            reports.append((int(found["CEID"]), list(found["RPT"][0]["V"])))
        else:
            if int(found["TRID"]) != TRID:
                raise SystemExit("bench: secsgem found another trace")
            traces.append((found["SMPLN"], found["STIME"], *found["SV"]))
    return traces, reports
