"""The text kernels against their slow twins."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kernels import text, text_number, text_time
from kernels.missing import NAN_BITS, NULL_BITS
from kernels.reference import text as slow


def scan(data, delimiter=b",", quote=b'"', line_end=b"\n", width=2, limit=64, rows=1000, odd_rows=1000, chunks=None):
    """Run the kernel over ``data``, fed in ``chunks`` bytes at a time, with outputs of any size."""
    sound, odd, at, inside = [], [], 0, False
    known = len(data) if chunks is None else 0
    while True:
        known = min(len(data), known + (chunks or 0))
        final = known == len(data)
        before = -1
        while before != at:
            before = at
            buffer = np.frombuffer(data[:known], np.uint8).copy()
            starts, stops = np.empty(rows * width, np.int32), np.empty(rows * width, np.int32)
            row_start, row_stop = np.empty(rows, np.int32), np.empty(rows, np.int32)
            odds = np.empty((odd_rows, 4), np.int32)
            separator = text.RUNS if delimiter is None else ord(delimiter)
            n, o, at, inside, escaped = text.scan_rows(
                *(buffer, at, known, final, inside, separator, ord(quote), ord(line_end)),
                *(width, limit, starts, stops, row_start, row_stop, odds),
            )
            if escaped:
                text.unescape(buffer, starts, stops, n * width, ord(quote))
            for row in range(n):
                cells = [buffer[starts[c] : stops[c]].tobytes() for c in range(row * width, row * width + width)]
                sound.append((int(row_start[row]), int(row_stop[row]), cells))
            odd += [tuple(span[:3]) for span in odds[:o].tolist()]
        if final:
            return sound, odd


ROWS = st.lists(
    st.sampled_from([b"a", b"1.5", b",", b'"', b'""', b"\n", b"\r\n", b"\r", b" ", b"\t", b"xyz" * 9, b"\xff", b";"]), max_size=40
).map(b"".join)


@settings(max_examples=400, deadline=None)
@given(
    ROWS, st.sampled_from([b",", b"\t", b";"]), st.sampled_from([b"\n", b"\r"]), st.sampled_from([1, 2, 3]), st.sampled_from([5, 16, 64])
)
@example(b'a,"b\nc,d\ne,f\n', b",", b"\n", 2, 64)
@example(b'"a""b",c\n"d\n",e\n', b",", b"\n", 2, 64)
def test_scanner_and_twin_agree_on_any_bytes(data, delimiter, line_end, width, limit):
    shape = {"delimiter": delimiter, "line_end": line_end, "width": width, "limit": limit}
    assert scan(data, **shape) == slow.scan_rows(data, delimiter, b'"', line_end, width, limit)


@settings(max_examples=200, deadline=None)
@given(ROWS, st.integers(1, 9), st.sampled_from([b",", None]), st.sampled_from([5, 16, 64]), st.integers(1, 3))
def test_no_cut_into_chunks_and_no_size_of_outputs_changes_the_rows(data, chunks, delimiter, limit, room):
    whole = scan(data, delimiter, limit=limit)
    assert scan(data, delimiter, limit=limit, chunks=chunks, rows=room, odd_rows=room) == whole


@settings(max_examples=200, deadline=None)
@given(ROWS, st.sampled_from([b",", None]), st.sampled_from([5, 64]))
def test_rows_and_odd_spans_tile_the_payload(data, delimiter, limit):
    sound, odd = scan(data, delimiter, limit=limit)
    spans = sorted([(start, stop) for start, stop, _ in sound] + [(start, stop) for _, start, stop in odd])
    assert [start for start, _ in spans] == [0, *(stop for _, stop in spans)][: len(spans)]
    assert (spans[-1][1] if spans else 0) == len(data)


def test_runs_of_blanks_part_fields():
    sound, odd = scan(b"  1.5 \t 2 \r\n3  4\n \t \n5\n6 7", None)
    assert [fields for _, _, fields in sound] == [[b"1.5", b"2"], [b"3", b"4"], [b"6", b"7"]]
    assert [kind for kind, _, _ in odd] == [text.BLANK, text.WRONG_COUNT]


def cells_of(texts):
    data = [entry.encode() if isinstance(entry, str) else entry for entry in texts]
    stops = np.cumsum([len(entry) + 1 for entry in data], dtype=np.int32) - 1
    starts = stops - np.array([len(entry) for entry in data], np.int32)
    return np.frombuffer(b",".join(data) + b",", np.uint8), starts, stops, 1


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([b"", b" ", b"a", b" a", b"a ", b"b\xff", b"abc", b"4.0", b"4"]), min_size=1, max_size=30))
def test_codes_number_the_distinct_stripped_texts(texts):
    codes, firsts = np.empty(len(texts), np.int64), np.empty(len(texts), np.int64)
    count = text.encode(*cells_of(texts), 0, codes, firsts)
    assert codes.tolist() == slow.encode(texts)
    assert [codes[row] for row in firsts[:count]] == list(range(count))


@settings(deadline=None)
@given(st.lists(st.integers(-(2**62), 2**62) | st.integers(0, 5), min_size=1, max_size=50))
def test_dense_codes_number_the_distinct_keys(keys):
    codes, firsts = np.empty(len(keys), np.int64), np.empty(len(keys), np.int64)
    count = text.densify(np.array(keys, np.int64), codes, firsts)
    assert codes.tolist() == slow.encode([str(key).encode() for key in keys])
    assert [keys[row] for row in firsts[:count]] == list(dict.fromkeys(keys))


def numbers(texts, missing=()):
    values, kinds = np.empty((len(texts), 1)), np.empty((len(texts), 1), np.uint8)
    raw = [entry.encode() for entry in missing]
    stops = np.cumsum([len(entry) for entry in raw], dtype=np.int64)
    odd = text_number.parse_numbers(
        *cells_of(texts), np.zeros(1, np.int64), ord("."), np.frombuffer(b"".join(raw), np.uint8), stops, values, kinds
    )
    assert odd == np.count_nonzero(kinds > text_number.MISSING)
    return values[:, 0], kinds[:, 0]


DECIMAL = st.from_regex(r"[+-]?([0-9]{1,25}(\.[0-9]{0,25})?|\.[0-9]{1,20})([eE][+-]?[0-9]{1,3})?", fullmatch=True)
DOUBLES = st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack("<d", struct.pack("<Q", bits))[0])
SPELLINGS = (
    DOUBLES.map(repr)
    | DECIMAL
    | st.floats().map(repr)
    | st.floats(-1e6, 1e6).map("{:.3f}".format)
    | st.text("0123456789.eE+-naif", max_size=8)
)


@settings(max_examples=500, deadline=None)
@given(st.lists(SPELLINGS, min_size=1, max_size=20))
@example(
    ["9007199254740993", "9007199254740993.0", "1e23", "8.5", "1e400", "5e-324", "2.2250738585072011e-308", "1e", ".", "-", "+.5", "1 2"]
)
@example(
    [
        "18446744073709551616",
        "0.000000000000000000000000000000000000001",
        "1" * 400,
        "0" * 400 + "1",
        "1e99999999999999999999",
        "nan",
        "-Infinity",
    ]
)
def test_numbers_are_the_nearest_doubles(texts):
    values, kinds = numbers(texts)
    for entry, value, kind in zip(texts, values.tolist(), kinds.tolist(), strict=True):
        want = slow.parse_number(entry, ".")
        if entry == "":
            assert kind == text_number.MISSING
        elif want is None:
            assert kind == text_number.TEXT
        elif not kind & text_number.SLOW:  # left to the caller
            assert kind in (text_number.NUMBER, text_number.WIDE)
            assert struct.pack("<d", value) == struct.pack("<d", want) or (math.isnan(value) and math.isnan(want))


def test_hardly_any_double_is_left_to_the_caller():
    draws = np.random.default_rng(3).uniform(-1e5, 1e5, 2000)
    values, kinds = numbers([repr(value) for value in draws.tolist()])
    assert not kinds.any()
    assert np.array_equal(values, draws)


def test_missing_texts_and_nan_have_their_own_bits():
    values, kinds = numbers(["", "NaN", "-9.99", " x ", "-9.9"], missing=("-9.99", "x"))
    bits = values.view(np.int64).tolist()
    assert bits[:4] == [NULL_BITS, NAN_BITS, NULL_BITS, NULL_BITS]
    assert kinds.tolist() == [text_number.MISSING, text_number.NUMBER, text_number.MISSING, text_number.MISSING, text_number.NUMBER]


@pytest.mark.parametrize(("entry", "wide"), [("9007199254740992", False), ("-9007199254740993", True), ("1" * 19, True), ("1e19", False)])
def test_integers_beyond_53_bits_keep_their_text(entry, wide):
    assert bool(numbers([entry])[1][0] & text_number.WIDE) == wide


def test_a_decimal_comma_excludes_the_point():
    values, kinds = numbers_with_comma()
    assert values.tolist()[::2] == [1.5, 150.0]
    assert kinds.tolist() == [text_number.NUMBER, text_number.TEXT, text_number.NUMBER]


def numbers_with_comma():
    raw = np.frombuffer(b"1,5;1.5;1,5e2", np.uint8)
    values, kinds = np.empty((3, 1)), np.empty((3, 1), np.uint8)
    where = (np.array([0, 4, 8], np.int32), np.array([3, 7, 13], np.int32), 1, np.zeros(1, np.int64))
    text_number.parse_numbers(raw, *where, ord(","), np.zeros(0, np.uint8), np.zeros(0, np.int64), values, kinds)
    return values[:, 0], kinds[:, 0]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(DECIMAL | st.text("0123456789.e-", max_size=5), min_size=1, max_size=10),
    st.sampled_from([(1, 6), (1, -3), (864, 8), (6, 7), (1, 0)]),
)
@example(["481637082.333", "0.0000005", "0.0000015", "0.00000150000000000000001", "9" * 17, "1e-30"], (1, 6))
def test_scaled_decimals_are_exact(texts, unit):
    values, kinds = np.empty(len(texts), np.int64), np.empty(len(texts), np.uint8)
    text_number.parse_scaled(*cells_of(texts), 0, ord("."), *unit, values, kinds)
    for entry, value, kind in zip(texts, values.tolist(), kinds.tolist(), strict=True):
        want = slow.parse_scaled(entry, ".", *unit)
        if entry == "":
            assert kind == text_number.EMPTY
        elif want is None:
            assert kind == text_number.UNREADABLE
        elif kind != text_number.LONG:
            assert value == want


def test_a_huge_power_costs_no_time():
    values, kinds = np.empty(3, np.int64), np.empty(3, np.uint8)
    text_number.parse_scaled(*cells_of(["0e999999999", "1e999999999", "1e-999999999"]), 0, ord("."), 1, 6, values, kinds)
    assert values[[0, 2]].tolist() == [0, 0]
    assert kinds.tolist() == [text_number.EXACT, text_number.LONG, text_number.ROUNDED]


def program(*steps):
    return np.array([(step, 0) if isinstance(step, int) else (text_time.LITERAL, ord(step)) for step in steps], np.int64)


T = text_time
LAYOUTS = {
    "%Y-%m-%d %H:%M:%S": program(T.YEAR, "-", T.MONTH, "-", T.DAY, T.BLANKS, T.HOUR, ":", T.MINUTE, ":", T.SECOND),
    "%d.%m.%y %I:%M:%S.%f %p": program(
        *(T.DAY, ".", T.MONTH, ".", T.YEAR2, T.BLANKS, T.HOUR12, ":", T.MINUTE, ":", T.SECOND, ".", T.FRACTION, T.BLANKS, T.HALF)
    ),
    "%Y%j%H%z": program(T.YEAR, T.DAY_OF_YEAR, T.HOUR, T.ZONE),
    "%d%b%Y": program(T.DAY, T.MONTH_NAME, T.YEAR),
    "%Y%m%d%H%M%S": program(T.YEAR, T.MONTH, T.DAY, T.HOUR, T.MINUTE, T.SECOND),
    None: program(*(T.YEAR, "-", T.MONTH, "-", T.DAY, T.END_OK, T.ISO_T, T.HOUR, ":", T.MINUTE, T.ISO_TAIL)),
}
MOMENTS = st.datetimes().map(lambda moment: moment.isoformat()) | st.datetimes().map(str)


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(list(LAYOUTS)),
    st.datetimes(),
    st.sampled_from(["", "Z", "+02:00", "-0530", " +01:00"]),
    st.integers(0, 25),
    st.characters(codec="ascii", min_codepoint=33),
)
def test_what_the_time_kernel_reads_the_standard_library_reads_alike(layout, moment, zone, at, char):
    good = (
        moment.isoformat(sep=" ") if layout is None else moment.strftime(layout.replace("%z", "").replace("%Y", f"{moment.year:04}"))
    ) + zone
    spoiled = good[:at] + char + good[at + 1 :]
    texts = [good, spoiled.strip() or "x"]
    times, zoned, kinds = np.empty(2, np.int64), np.empty(2, np.bool_), np.empty(2, np.uint8)
    text_time.parse_times(*cells_of(texts), 0, LAYOUTS[layout], times, zoned, kinds)
    for entry, time_us, named, kind in zip(texts, times.tolist(), zoned.tolist(), kinds.tolist(), strict=True):
        want = slow.parse_time(entry, layout)
        if kind == text_time.READ and want is not None:
            assert (time_us, named) == want
        elif kind == text_time.READ:  # beyond the library: more forms of ISO 8601's tail, nothing of a strptime format
            assert layout is None


def test_usual_times_are_read_by_the_kernel():
    texts = ["2020-03-09 10:14:33", "2020-03-09T10:14:33.1234567Z", "2020-03-09 10:14:33,5+01:00", "2020-03-09"]
    times, zoned, kinds = np.empty(4, np.int64), np.empty(4, np.bool_), np.empty(4, np.uint8)
    data = ";".join(texts).encode()
    stops = np.cumsum([len(entry) + 1 for entry in texts], dtype=np.int32) - 1
    starts = stops - np.array([len(entry) for entry in texts], np.int32)
    assert text_time.parse_times(np.frombuffer(data, np.uint8), starts, stops, 1, 0, LAYOUTS[None], times, zoned, kinds) == 0
    noon = 1583748873_000_000
    assert times.tolist() == [noon, noon + 123_457, noon + 500_000 - 3600_000_000, 1583712000_000_000]
    assert zoned.tolist() == [False, True, True, False]
