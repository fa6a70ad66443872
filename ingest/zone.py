"""Local times to UTC, in columns: a year's transitions of a zone, found once, are searched for all rows of that year.

A time in a repeated hour has two readings and both are returned; a time in a missing hour is read with the offset that was
in force before the jump (PEP 495, fold=0).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np

from ingest.records import Int64

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_YEAR, LAST_YEAR = 2, 9998
"""Years outside are read with the offset at their edge: zoneinfo has no day beyond to look at."""

SECOND_US = 1_000_000
DAY_S = 86_400
MARGIN_S = 2 * DAY_S
"""A local year and a UTC year differ by less than this at either end."""


def _offset_s(zone: ZoneInfo, utc_s: int) -> int:
    offset = (EPOCH + timedelta(seconds=utc_s)).astimezone(zone).utcoffset()
    assert offset is not None
    return offset.days * DAY_S + offset.seconds


def _transition_s(zone: ZoneInfo, low: int, high: int, before: int) -> int:
    """Return the first second in (low, high] whose offset isn't ``before``, the offset at ``low``."""
    while high - low > 1:
        middle = (low + high) // 2
        if _offset_s(zone, middle) == before:
            low = middle
        else:
            high = middle
    return high


@lru_cache(maxsize=4096)
def _year(name: str, year: int) -> tuple[Int64, Int64, Int64]:
    """Return (local us from which the early reading has moved on, the same for the late reading, offsets in us) of a year."""
    zone = ZoneInfo(name)
    start = int((datetime(year, 1, 1, tzinfo=UTC) - EPOCH).total_seconds()) - MARGIN_S
    stop = int((datetime(year + 1, 1, 1, tzinfo=UTC) - EPOCH).total_seconds()) + MARGIN_S
    at, offset = start, _offset_s(zone, start)
    early: list[int] = []
    late: list[int] = []
    offsets = [offset]
    while at < stop:
        ahead = min(at + DAY_S, stop)
        if _offset_s(zone, ahead) == offset:
            at = ahead
            continue
        at = _transition_s(zone, at, ahead, offset)
        before, offset = offset, _offset_s(zone, at)
        early.append(at + max(before, offset))
        late.append(at + offset)
        offsets.append(offset)
    scale = np.int64(SECOND_US)
    return np.array(early, np.int64) * scale, np.array(late, np.int64) * scale, np.array(offsets, np.int64) * scale


def to_utc(local_us: Int64, zone: str) -> tuple[Int64, Int64]:
    """Return the earlier and the later UTC reading of ``n`` local times in microseconds; they differ only in a repeated hour."""
    if zone == "UTC" or not len(local_us):
        return local_us.copy(), local_us.copy()
    early, late = np.empty_like(local_us), np.empty_like(local_us)
    years = np.clip(local_us.view("M8[us]").astype("M8[Y]").astype(np.int64) + 1970, FIRST_YEAR, LAST_YEAR)
    for year in np.unique(years):
        rows = years == year
        some = local_us[rows]
        early_from, late_from, offsets = _year(zone, int(year))
        early[rows] = some - offsets[np.searchsorted(early_from, some, side="right")]
        late[rows] = some - offsets[np.searchsorted(late_from, some, side="right")]
    return early, late
