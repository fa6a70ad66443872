"""Times, integers and numbers in text, against their twins."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.reference.secs import BLANKS, integer_of, is_text_number, parse_time
from kernels.secs_text import DIFFICULT, NOT_NUMBER, NUMBER, parse_int, parse_number, parse_stimes

FLAGS = ["empty", "local", "utc", "unreadable"]

TIMES = [
    b"",
    b"  ",
    b"261123143500",
    b"990101000000",
    b"680101000000",
    b"690101000000",
    b"20261123143500",
    b"2026112314350099",
    b" 2026112314350000\0",
    b"2026-11-23T14:35:00",
    b"2026-11-23 14:35:00.5",
    b"2026-11-23T14:35:00,123456789Z",
    b"2026-11-23T14:35:00.1+05:30",
    b"2026-11-23T14:35:00-0800",
    b"2026-11-23T14:35:00+24:00",
    b"2026-11-23T14:35:00.",
    b"2026-11-23T14:35:00.Z",
    b"2026-11-23T14:35:00z",
    b"2026-11-23T14:35:00+05",
    b"2026-11-23T14:35:00.12345678901234567890123",
    b"2026-02-29T00:00:00",
    b"2024-02-29T00:00:00",
    b"2100-02-29T00:00:00",
    b"2000-02-29T00:00:00",
    b"0000-01-01T00:00:00",
    b"0001-01-01T00:00:00",
    b"9999-12-31T23:59:59.999999",
    b"2026-13-01T00:00:00",
    b"2026-00-01T00:00:00",
    b"2026-01-01T24:00:00",
    b"2026-01-01T00:60:00",
    b"2026-01-01T00:00:60",
    b"20261123143560",
    b"2026112314350",
    b"2026-11-23T14:35",
    b"-0261123143500",
    b"+261123143500",
    b"2026112314350O",
    b"garbage",
]


def parsed(texts: list[bytes]) -> list[tuple[str, int]]:
    pool = np.frombuffer(b"".join(texts) + b"\0", np.uint8)
    stops = np.cumsum([len(text) for text in texts]).astype(np.int64)
    starts = stops - np.array([len(text) for text in texts], np.int64)
    flags, times = np.empty(len(texts), np.int64), np.empty(len(texts), np.int64)
    parse_stimes(pool, starts, stops, flags, times)
    return [(FLAGS[flag], us) for flag, us in zip(flags.tolist(), times.tolist(), strict=True)]


def test_times_agree_with_the_twin():
    assert parsed(TIMES) == [parse_time(text) for text in TIMES]


def test_what_the_twin_says_of_times():
    assert parse_time(b"261123143500") == parse_time(b"2026112314350000") == parse_time(b"2026-11-23T14:35:00")
    assert parse_time(b"2026-11-23T14:35:00+01:00") == ("utc", parse_time(b"20261123133500")[1])
    assert parse_time(b"1970-01-01T00:00:00.000001Z") == ("utc", 1)


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(st.datetimes(), st.text("0123456789-:T.Z+ ", max_size=34)),
    st.sampled_from(["%Y%m%d%H%M%S", "%Y-%m-%dT%H:%M:%S.%fZ", "%y%m%d%H%M%S"]),
)
def test_any_time_agrees(moment: object, form: str):
    raw = moment if isinstance(moment, str) else moment.strftime(form)  # type: ignore[attr-defined]
    assert parsed([raw.encode()]) == [parse_time(raw.encode())]


NUMBERS = [
    "0",
    "-0",
    "1.5",
    "+1.5e3",
    ".5",
    "5.",
    "-.5e-3",
    "1e400",
    "1e-400",
    "9007199254740993",
    "123456789012345",
    "1e22",
    "1e23",
    "0.1",
    "00012",
]
NOT_NUMBERS = ["", "+", ".", "e5", "1e", "1e+", "1.2.3", "1 2", "0x10", "nan", "inf", "1_000", "--1", "1,5"]


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers(number: str):
    kind, value = parse_number(np.frombuffer(number.encode() + b" ", np.uint8), 0, len(number))
    assert kind in (NUMBER, DIFFICULT)
    if kind == NUMBER:
        assert math.copysign(1, value) == math.copysign(1, float(number))
        assert value == float(number)


@pytest.mark.parametrize("other", NOT_NUMBERS)
def test_what_is_no_number(other: str):
    kind, _ = parse_number(np.frombuffer(other.encode() + b" ", np.uint8), 0, len(other))
    assert kind == NOT_NUMBER
    assert is_text_number(other.encode()) is None


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.floats(allow_nan=False, allow_infinity=False).map(repr),
        st.text("0123456789+-.eE ", max_size=25),
        st.decimals(allow_nan=False, allow_infinity=False).map(str),
    )
)
def test_any_number_agrees(written: str):
    raw = written.encode()
    kind, value = parse_number(np.frombuffer(raw + b" ", np.uint8), 0, len(raw))
    twin = is_text_number(raw)
    assert (kind == NOT_NUMBER) == (twin is None)
    if kind == NUMBER:
        assert np.float64(value).tobytes() == np.float64(twin).tobytes()


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.integers(-(1 << 64), 1 << 64).map(str), st.text("0123456789+-", max_size=22)))
def test_any_integer_agrees(written: str):
    raw = written.encode().strip(BLANKS)
    good, value = parse_int(np.frombuffer(raw + b" ", np.uint8), 0, len(raw))
    assert (value if good else None) == integer_of(raw)
