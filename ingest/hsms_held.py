"""S6F1 without a time, held until the stream's next timed record (or the end) tells which neighbour is nearest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ingest.records import Int64

HELD_BYTES = 64 << 20
"""Frames held at most; one more is rejected."""
FIRST_US, LAST_US = -62_135_596_800_000_000, 253_402_300_799_999_999
"""The calendar's years 1 to 9999."""


class Anchor(NamedTuple):
    """A timed record: its SMPLN and both readings of its time."""

    seq: int
    time_us: int
    late_us: int


@dataclass(slots=True)
class Held:
    """A frame whose time is still open."""

    start: int
    frame: bytes
    trace: int
    setting: int
    seq: int
    period_us: int
    before: Anchor | None


class Dated(NamedTuple):
    """A held frame with the time that was derived for it; None where none could be."""

    held: Held
    time_us: int | None
    late_us: int


class Waiting:
    """The held frames of a payload, by trace."""

    def __init__(self) -> None:
        self._held: dict[int, list[Held]] = {}
        self._anchors: dict[int, Anchor] = {}
        self._bytes = 0

    def __contains__(self, trace: int) -> bool:
        return trace in self._held

    @property
    def traces(self) -> list[int]:
        """The traces that wait."""
        return list(self._held)

    def anchor(self, trace: int, anchor: Anchor) -> list[Dated]:
        """Return the held frames of ``trace``, dated, for a timed record of it has come."""
        waiting = self._held.pop(trace, [])
        self._anchors[trace] = anchor
        self._bytes -= sum(len(h.frame) for h in waiting)
        return [self._date(h, anchor) for h in waiting]

    def anchor_all(self, traces: Int64, seq: Int64, time_us: Int64, late_us: Int64) -> None:
        """``n`` timed records have come and nothing waits: only the last of each trace will matter."""
        if not len(traces):
            return
        if traces[0] == traces[-1] and (traces == traces[0]).all():
            self._anchors[int(traces[0])] = Anchor(int(seq[-1]), int(time_us[-1]), int(late_us[-1]))
            return
        found, first = np.unique(traces[::-1], return_index=True)
        for trace, i in zip(found.tolist(), (len(traces) - 1 - first).tolist(), strict=True):
            self._anchors[trace] = Anchor(int(seq[i]), int(time_us[i]), int(late_us[i]))

    def hold(self, start: int, frame: bytes, trace: int, setting: int, seq: int, period_us: int) -> bool:
        """Hold a frame; return False where there's no room for it."""
        if self._bytes + len(frame) > HELD_BYTES:
            return False
        self._bytes += len(frame)
        self._held.setdefault(trace, []).append(Held(start, frame, trace, setting, seq, period_us, self._anchors.get(trace)))
        return True

    def finish(self) -> list[Dated]:
        """Return what is still held, in payload order, for the payload has ended."""
        left = sorted((h for waiting in self._held.values() for h in waiting), key=lambda h: h.start)
        self._held.clear()
        self._bytes = 0
        return [self._date(h, None) for h in left]

    def _date(self, held: Held, after: Anchor | None) -> Dated:
        near = held.before
        if near is None or (after is not None and abs(held.seq - after.seq) < abs(held.seq - near.seq)):
            near = after
        if near is None:
            return Dated(held, None, 0)
        shift = (held.seq - near.seq) * held.period_us
        if not FIRST_US <= near.time_us + shift <= LAST_US:
            return Dated(held, None, 0)
        return Dated(held, near.time_us + shift, near.late_us + shift)
