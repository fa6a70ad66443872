"""A local time in a repeated hour has two readings; this chooses the one that keeps the stream in order.

The reading that keeps seq order against the stream's neighbours wins: the record before it in the same payload, else the last run of
the stream that began before it. Where both readings fit, or nothing is known, the earlier one is taken.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ingest.records import Int64
from ingest.segment import Segment

Neighbour = Callable[[int, int], tuple[int, int] | None]
"""(stream, time) -> (time_us, seq) of the stream's last stored record before that time, or None."""


def choose(segment: Segment, timed: list[bool], neighbour: Neighbour) -> Int64:
    """Settle every ambiguous time of ``segment`` in place; return how many there were, per payload number."""
    unsure = segment.late_us != segment.time_us
    count = np.bincount(segment.payload[unsure], minlength=int(segment.payload.max(initial=-1)) + 1)
    if not unsure.any():
        return count
    last: dict[tuple[int, int], tuple[int, int]] = {}
    involved = np.isin(segment.stream, np.unique(segment.stream[unsure]))
    for i in np.flatnonzero(involved).tolist():
        stream, payload = int(segment.stream[i]), int(segment.payload[i])
        early, late, seq = int(segment.time_us[i]), int(segment.late_us[i]), int(segment.seq[i])
        if early != late:
            before = last.get((stream, payload)) or neighbour(stream, late)
            if before is not None and early < before[0] <= late and (timed[stream] or seq > before[1]):
                segment.time_us[i] = late
                if timed[stream]:
                    segment.seq[i] = late
        last[stream, payload] = int(segment.time_us[i]), int(segment.seq[i])
    return count
