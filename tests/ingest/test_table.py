"""Delimited text by a mapping: one test per thing that real files do."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ingest.config import Limits
from ingest.errors import MappingMissing
from ingest.records import Context

if str(Path(__file__).parent) not in sys.path:  # test files are no package
    sys.path.insert(0, str(Path(__file__).parent))
from table_support import decode, table

S = 1_000_000


def test_a_plain_table():
    found = decode(b"t,a,b\n1,2,3\n1.5,4,\n", table())
    assert found.names == ["a", "b"]
    assert [sensor.source for sensor in found.layout] == ["learned", "learned"]
    assert [row[2:5] for row in found.rows] == [(S, S, S), (3 * S // 2,) * 3]
    assert found.column(1) == [3.0, None]
    assert found.frames == [(6, 12), (12, 19)]
    assert found.other == (6, 1)
    assert found.timed == [True]
    assert found.streams == [("T1", None, "tab", "")]


@pytest.mark.parametrize("delimiter", ["\t", ",", ";", "|", "  "])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_delimiter_and_line_end_are_found(delimiter, line_end, bom):
    lines = [["t", "a", "name"], ["1", "2.5", "x"], ["2", "3.5", "y"]]
    data = bom + "".join(delimiter.join(line) + line_end for line in lines).encode()
    found = decode(data, table())
    assert found.names == ["a"]
    assert found.column(0) == [2.5, 3.5]
    assert found.other[1] == 1
    assert found.rejected == []


def test_a_configured_delimiter_stands():
    assert decode(b"t:a\n1:2\n", table(delimiter=":")).column(0) == [2.0]


def test_a_blank_as_delimiter_stands_for_runs_of_blanks():
    assert decode(b"t  a,b\n1  2\n", table(delimiter=" ")).names == ["a,b"]


@pytest.mark.parametrize(
    "keys",
    [
        {"delimiter": "::"},
        {"quote": "\n"},
        {"time": {"column": "t", "origin": "yesterday"}},
        {"time": {"column": "t", "unit": "s", "format": "%Y"}},
        {"time": {"column": "t", "timezone": "Europe/Nowhere"}},
    ],
)
def test_a_mapping_that_cannot_be_is_refused(keys):
    with pytest.raises(ValidationError):
        table(**keys)


def test_decimal_comma():
    found = decode(b"t;a;b\n1,5;2,25;1.5\n", table(decimal=",", sensors=["a", "b"]))
    assert found.rows[0][3] == 1_500_000
    assert found.column(0) == [2.25]
    assert found.texts == [(0, 1, "1.5")]


def test_blank_lines_and_headers_met_again_are_other():
    found = decode(b"\nt,a\n1,2\n\n  \r\nt,a\r\n2,3\n\n", table())
    assert found.column(0) == [2.0, 3.0]
    assert found.other[1] == 6
    assert found.rejected == []


def test_lines_before_the_header_are_other():
    found = decode(b"# exported by the tool\nserial: 5, 6\nt,a\n1,2\n", table())
    assert found.column(0) == [2.0]
    assert found.other[1] == 3


def test_quotes_hide_delimiters_line_ends_and_doubled_quotes():
    data = b'"t","a ""big"" one",s\r\n"1","2","x,\r\n""y"""\r\n2, "3" ,z\r\n'
    found = decode(data, table(sensors=['a "big" one', "s"]))
    assert found.names == ['a "big" one', "s"]
    assert found.column(0) == [2.0, 3.0]
    assert found.texts == [(0, 1, 'x,\r\n"y"'), (1, 1, "z")]


def test_a_stray_quote_costs_one_row():
    rows = b"".join(b"%d,%d\n" % (i, i) for i in range(50))
    found = decode(b't,a\n1,"2\n' + rows, table(sensors=["a"]))
    assert found.reasons == ["bad_quote"]
    assert found.rejected[0].data == b'1,"2\n'
    assert len(found.rows) == 50


def test_a_row_with_too_few_or_too_many_fields_is_rejected_alone():
    found = decode(b"t,a\n1,2\n2\n3,4,5\n4,5\n", table())
    assert found.column(0) == [2.0, 5.0]
    assert [(span.start, span.reason, span.detail) for span in found.rejected] == [
        (8, "bad_row", "1 fields where 2 are expected"),
        (10, "bad_row", "3 fields where 2 are expected"),
    ]
    assert found.rejected[0].tool == "T1"


def test_a_last_row_without_line_end_counts_when_it_is_whole():
    assert decode(b"t,a,b\n1,2,3", table()).column(1) == [3.0]
    found = decode(b"t,a,b\n1,2,3\n2,3", table())
    assert found.reasons == ["incomplete_tail"]
    assert found.rejected[0].data == b"2,3"


def test_a_line_over_the_limit_is_rejected_in_pieces():
    limits = Limits(line_bytes=16)
    found = decode(b"t,a\n1,2\n" + b"x" * 40 + b"\n2,3\n", table(sensors=["a"]), limits=limits)
    assert found.reasons == ["too_long"] * 3
    assert [(span.start, span.stop) for span in found.rejected] == [(8, 24), (24, 40), (40, 49)]
    assert found.column(0) == [2.0, 3.0]


def test_text_that_is_not_utf8_in_a_mapped_field_is_rejected():
    found = decode(b"t,w,a,x\n1,A,1,\xff\n2,\xff,1,b\n3,A,\xff,b\n", table(context={"wafer": "w"}, sensors=["a"]))
    assert [span.reason for span in found.rejected] == ["bad_text", "bad_text"]
    assert len(found.rows) == 1


def test_what_is_no_number_stands_beside_and_nothing_is_lost():
    data = b"t,a\n1,Bad\n2,NaN\n3,-inf\n4,9007199254740993\n5,nan\n6, I/O Timeout \n7,\n"
    found = decode(data, table(sensors=["a"], missing=["", "nan"]))
    assert found.texts == [(0, 0, "Bad"), (3, 0, "9007199254740993"), (5, 0, "I/O Timeout")]
    assert found.column(0) == [None, None, float("-inf"), 9007199254740992.0, None, None, None]
    bits = [row[-1][0].hex() for row in found.rows]
    assert bits[1] != bits[4] == bits[6]  # a NaN that was sent is not a missing value


def test_numeric_columns_are_told_by_the_first_hundred_rows():
    head = b"t,late,early,never\n"
    rows = b"".join(b"%d,%s,%s,\n" % (i, b"x" if i == 100 else b"1", b"x" if i == 99 else b"1") for i in range(150))
    found = decode(head + rows, table())
    assert found.names == ["late", "never"]
    assert found.texts == [(100, 0, "x")]
    assert decode(head + rows, table(), 7) == found


def test_columns_without_name_or_with_the_same_name_stay_apart():
    found = decode(b"t,a,,a,\n1,2,3,4,\n", table())
    assert found.names == ["a", "column_2", "a_2"]


def test_headerless_columns_go_by_index():
    section = table(time={"column": "0", "unit": "s"}, sensors=["2", {"column": "1", "name": "flow", "unit": "sccm"}])
    found = decode(b"1.5 2 3\n2.5 3 4\n", section)
    assert found.names == ["2", "flow"]
    assert found.column(0) == [3.0, 4.0]
    assert found.other == (0, 0)


def test_a_named_header_may_be_addressed_by_index():
    assert decode(b"Time,Flow\n1,2\n", table(time={"column": "0", "unit": "s"}, sensors=["1"])).column(0) == [2.0]


def test_a_header_of_numbers_is_a_header():
    section = table(time={"column": "0", "unit": "s"}, sensors=["1"])
    found = decode(b"0,1,2\n11.946,4.0,751.0\n", section)
    assert found.column(0) == [4.0]
    assert found.other == (6, 1)


def test_tool_and_chamber_and_key_and_context_come_from_columns():
    section = table(
        tool={"column": "M", "prefix": "CMP"}, chamber="CH", key=["CH", "w", "lot"], context={"wafer": "w", "step": "s"}, sensors=["a"]
    )
    data = b"t,M,CH,w,s,a\n1,2,4.0, 77 ,A,1\n2,3,4.0,77,,1\n3,,4.0,77,A,1\n"
    found = decode(data, section, captured={"lot": 'L"1', "wafer": "captured"})
    assert [row[0] for row in found.rows] == [
        ("CMP2", "4.0", "tab", '["4.0","77","L\\"1"]'),
        ("CMP3", "4.0", "tab", '["4.0","77","L\\"1"]'),
    ]
    assert [row[1] for row in found.rows] == [Context('L"1', "77", None, "A"), Context('L"1', "77", None, None)]
    assert found.reasons == ["no_tool"]


def test_the_default_key_is_all_context():
    section = table(context={"step": "s"})
    assert decode(b"t,s\n1,A\n", section, captured={"lot": "L1"}).streams == [("T1", None, "tab", '["L1","A"]')]


def test_no_context_at_all_is_minus_one():
    assert decode(b"t,w\n1,\n", table(context={"wafer": "w"})).rows[0][1] is None


def test_the_tool_given_overrides_the_mapping_and_a_captured_one_does_not():
    data = b"t,M\n1,2\n"
    section = table(tool={"column": "M"})
    assert decode(data, section, tool="GIVEN").streams[0].tool == "GIVEN"
    assert decode(data, section, tool="CAP", captured={"tool": "CAP"}).streams[0].tool == "2"
    assert decode(data, table(tool=None), tool="CAP", captured={"tool": "CAP"}).streams[0].tool == "CAP"
    with pytest.raises(MappingMissing, match="no tool can be told"):
        decode(data, table(tool=None))


def test_a_missing_column_names_file_column_and_what_was_found():
    with pytest.raises(MappingMissing, match=r"drop/file.csv: .*column 'Presure' \(sensors\).*did you mean 'PRESSURE'\?.*t, PRESSURE"):
        decode(b"t,PRESSURE\n1,2\n", table(sensors=["Presure"]))
    with pytest.raises(MappingMissing, match="no header line"):
        decode(b"1,2\n2,3\n", table())


def test_more_columns_than_the_limit_are_deferred():
    with pytest.raises(MappingMissing, match=r"limits\.columns"):
        decode(b"t,a,b,c\n1,2,3,4\n", table(), limits=Limits(columns=3))


@pytest.mark.parametrize("data", [b"", b"\n", b"\xef\xbb\xbf", b"  \r\n\t\n"])
def test_an_empty_file_holds_nothing(data):
    found = decode(data, table())
    assert found.rows == []
    assert found.rejected == []
    assert found.other[0] == len(data)


def test_a_header_alone_holds_nothing():
    assert decode(b"t,a", table()).other == (3, 1)


@pytest.mark.parametrize(
    ("unit", "text", "time_us"),
    [
        ("s", "481637082.333", 481637082333000),
        ("s", "0.0000005", 0),
        ("s", "0.0000015", 2),
        ("ms", "1.0005", 1000),
        ("ns", "1500", 2),
        ("d", "0.5", 43_200 * S),
        ("min", "1e0", 60 * S),
        ("s", "0000000000000000000000000000001.1234564999999999999999", 1123456),
    ],
)
def test_numbers_of_a_unit_are_exact(unit, text, time_us):
    found = decode(f"t,a\n{text},1\n".encode(), table(time={"column": "t", "unit": unit}))
    assert found.rows[0][3] == time_us


def test_an_origin_without_zone_is_local():
    time = {"column": "t", "unit": "s", "origin": "2020-07-01", "timezone": "Europe/Berlin"}
    start = int(datetime(2020, 7, 1, tzinfo=ZoneInfo("Europe/Berlin")).timestamp())
    assert decode(b"t,a\n1,1\n", table(time=time)).rows[0][3] == (start + 1) * S
    time["origin"] = "2020-07-01T00:00Z"
    assert decode(b"t,a\n1,1\n", table(time=time)).rows[0][3] == (start + 7201) * S


@pytest.mark.parametrize(
    ("layout", "text"),
    [
        ("%Y-%m-%d %H:%M:%S", "2020-03-09 10:14:33"),
        ("%d.%m.%Y %H:%M:%S.%f", "09.03.2020 10:14:33.000"),
        ("%m/%d/%Y %I:%M:%S %p", "3/9/2020 10:14:33 AM"),
        ("%d-%b-%y %H:%M:%S", "09-MAR-20 10:14:33"),
        ("%Y%j%H%M%S", "2020069101433"),
        ("%a %b %d %H:%M:%S %Y", "Mon Mar 09 10:14:33 2020"),
        ("%Y-%m-%dT%H:%M:%S%z", "2020-03-09T11:14:33+01:00"),
        (None, "2020-03-09T10:14:33Z"),
        (None, "2020-03-09 10:14:33.000000"),
        (None, "20200309T101433"),
    ],
)
def test_times_as_text(layout, text):
    found = decode(f"t|a\n{text}|1\n".encode(), table(time={"column": "t", "format": layout}))
    assert found.rows[0][3] == 1583748873 * S


def test_a_repeated_hour_has_two_readings_and_the_zone_is_the_tools():
    data = b"t,a\n2026-10-25 02:30:00,1\n2026-10-25 02:30:00+01:00,1\n"
    found = decode(data, table(time={"column": "t"}), zone="Europe/Berlin")
    early, zoned = found.rows
    assert early[4] - early[3] == 3600 * S
    assert early[2] == early[3]
    assert zoned[3] == zoned[4] == early[4]


def test_unreadable_and_empty_times_are_rejected():
    found = decode(b"t,a\nx,1\n,1\nNaN,1\n1e30,1\n1,1\n", table(sensors=["a"]))
    assert found.reasons == ["bad_time", "no_time", "no_time", "bad_time"]
    assert found.rejected[0].detail == "column 't': 'x' is no number of s"
    assert len(found.rows) == 1


def test_a_sequence_column_counts():
    found = decode(b"t,n,a\n1,7,1\n1,8.0,1\n1,x,1\n1,9.5,1\n1,9223372036854775807,2\n1,,1\n", table(seq="n", period=1.0))
    assert [row[2] for row in found.rows] == [7, 8, 9223372036854775807]
    assert found.reasons == ["bad_seq"] * 3
    assert found.timed == [False]


def test_a_utf16_file_is_told():
    with pytest.raises(MappingMissing, match="UTF-16"):
        decode("t,a\n1,2\n".encode("utf-16"), table())


ALPHABET = [b"1", b"2.5", b"x", b",", b",", b"\n", b"\n", b'"', b"\r\n", b" ", b"\xff", b"t,a,b\n", b"1,2,3\n", b"9" * 30]
PAYLOADS = st.tuples(
    st.sampled_from([b"t,a,b\n", b"\xef\xbb\xbft,a,b\r\n", b"\n\nt,a,b\n"]), st.lists(st.sampled_from(ALPHABET), max_size=60)
).map(lambda parts: parts[0] + b"".join(parts[1]))


@settings(max_examples=120, deadline=None)
@given(
    PAYLOADS, st.lists(st.integers(0, 300), max_size=6), st.sampled_from(["*", ["a", "b"]]), st.sampled_from([32, 1 << 20]), st.booleans()
)
def test_no_cut_into_chunks_changes_anything(data, cuts, sensors, line_bytes, eager):
    section, limits = table(sensors=sensors), Limits(line_bytes=line_bytes)
    with pytest.MonkeyPatch.context() as patch:
        if eager:
            patch.setattr("ingest.formats.delimited.BATCH_BYTES", 1)
            patch.setattr("ingest.formats.delimited.JUDGED_ROWS", 3)
            patch.setattr("ingest.formats.delimited.CELLS", 6)
            patch.setattr("ingest.formats.sniff.SNIFF_BYTES", 16)
            patch.setattr("ingest.formats.delimited.ODD_ROWS", 2)
        whole = decode(data, section, limits=limits)
        assert decode(data, section, sorted(min(cut, len(data)) for cut in cuts), limits=limits) == whole
        assert decode(data, section, 1, limits=limits) == whole


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=200)
    | PAYLOADS
    | st.lists(st.sampled_from([b"PAR1", b"ARROW1\0\0", b"\xff\xff\xff\xff", b"\0\1\0\0"]), max_size=5).map(b"".join)
)
def test_no_bytes_raise(data):
    try:
        decode(data, table())
    except MappingMissing:
        return


def test_a_damaged_byte_costs_no_sound_neighbour():
    data = bytearray(b"t,a,b\n" + b"".join(b"%d,%d,%d\n" % (i, i, i) for i in range(10, 40)))
    good = {row[3]: row[-1] for row in decode(bytes(data), table(sensors=["a", "b"])).rows}
    for at in range(6, len(data), 7):
        for byte in b'",\n\0\xff':
            spoiled = bytes(data[:at]) + bytes([byte]) + bytes(data[at + 1 :])
            found = {row[3]: row[-1] for row in decode(spoiled, table(sensors=["a", "b"])).rows}
            assert sum(found.get(time) == values for time, values in good.items()) >= len(good) - 2
