"""Local times to UTC, against zoneinfo itself."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.zone import to_utc

EPOCH = datetime(1970, 1, 1)


def us(moment: datetime) -> int:
    delta = moment.replace(tzinfo=None) - EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def readings(moment: datetime, zone: str) -> tuple[int, int]:
    """Early and late reading by zoneinfo; a missing hour has one, with the offset before the jump."""
    info = ZoneInfo(zone)
    first = moment.replace(tzinfo=info, fold=0)
    second = moment.replace(tzinfo=info, fold=1)
    early, late = us(first.astimezone(UTC)), us(second.astimezone(UTC))
    return (early, late) if late >= early else (early, early)


def both(moment: datetime, zone: str) -> tuple[int, int]:
    early, late = to_utc(np.array([us(moment)], dtype=np.int64), zone)
    return int(early[0]), int(late[0])


def test_utc_is_itself():
    some = np.array([0, -1, 1 << 50], dtype=np.int64)
    early, late = to_utc(some, "UTC")
    assert (early == some).all()
    assert (late == some).all()


def test_no_rows():
    early, late = to_utc(np.empty(0, np.int64), "Europe/Berlin")
    assert len(early) == len(late) == 0


@pytest.mark.parametrize(
    ("moment", "hours"),
    [
        (datetime(2026, 10, 25, 1, 59, 59), (2, 2)),
        (datetime(2026, 10, 25, 2, 0), (2, 1)),
        (datetime(2026, 10, 25, 2, 59, 59, 999_999), (2, 1)),
        (datetime(2026, 10, 25, 3, 0), (1, 1)),
        (datetime(2026, 3, 29, 1, 59, 59), (1, 1)),
        (datetime(2026, 3, 29, 2, 30), (1, 1)),
        (datetime(2026, 3, 29, 3, 0), (2, 2)),
    ],
)
def test_berlin_edges(moment: datetime, hours: tuple[int, int]):
    assert both(moment, "Europe/Berlin") == tuple(us(moment) - hour * 3_600_000_000 for hour in hours)


ZONES = [
    "Europe/Berlin",
    "America/New_York",
    "Asia/Seoul",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "Asia/Kathmandu",
    "America/St_Johns",
]


@settings(max_examples=150, deadline=None)
@given(st.datetimes(datetime(1975, 1, 1), datetime(2060, 12, 31)), st.sampled_from(ZONES))
def test_agrees_with_zoneinfo(moment: datetime, zone: str):
    assert both(moment, zone) == readings(moment, zone)


@pytest.mark.parametrize("zone", ZONES)
def test_every_quarter_hour_of_a_year(zone: str):
    start = us(datetime(2025, 12, 30))
    local = start + np.arange(0, 370 * 96, dtype=np.int64) * 900_000_000
    early, late = to_utc(local, zone)
    step = 1 if zone == "Australia/Lord_Howe" else 4
    for i in range(0, len(local), step):
        moment = EPOCH + (local[i].view("M8[us]").item() - EPOCH)
        assert (early[i], late[i]) == readings(moment, zone)


def test_years_at_the_edge_of_the_calendar():
    local = np.array([us(datetime(1, 1, 1)), us(datetime(9999, 12, 31, 23, 59, 59))], dtype=np.int64)
    early, _ = to_utc(local, "America/New_York")
    assert (early > local).all()
