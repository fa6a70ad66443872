"""Parquet and Arrow IPC by the same mapping as text."""

from __future__ import annotations

import io
import json
import sys
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.errors import MappingMissing

if str(Path(__file__).parent) not in sys.path:  # test files are no package
    sys.path.insert(0, str(Path(__file__).parent))
from table_support import decode, table

S = 1_000_000


def parquet(data):
    out = io.BytesIO()
    pq.write_table(data, out, row_group_size=3, write_page_checksum=True)
    return out.getvalue()


def arrow_file(data):
    out = io.BytesIO()
    with pa.ipc.new_file(out, data.schema) as writer:
        writer.write_table(data, max_chunksize=3)
    return out.getvalue()


def arrow_stream(data):
    out = io.BytesIO()
    with pa.ipc.new_stream(out, data.schema) as writer:
        writer.write_table(data, max_chunksize=3)
    return out.getvalue()


WRITERS = [parquet, arrow_file, arrow_stream]
TEXT = b"t,w,a,b\n1,X,1.5,1\n2,X,,2\n3,Y,2.5,x\n4,Y,nan,3\n5,Y,-inf,9007199254740993\n"
TABLE = pa.table(
    {
        "t": [1.0, 2.0, 3.0, 4.0, 5.0],
        "w": pa.array(["X", "X", " Y ", "Y", "Y"]).dictionary_encode(),
        "a": pa.array([1.5, None, 2.5, float("nan"), float("-inf")], pa.float32()),
        "b": ["1", "2", "x", "3", "9007199254740993"],
    }
)


@pytest.mark.parametrize("write", WRITERS)
def test_all_containers_give_what_text_gives(write):
    section = table(context={"wafer": "w"}, sensors=["a", "b"], missing=[""])
    text, found = decode(TEXT, section), decode(write(TABLE), section)
    assert [row[:5] + row[6:] for row in found.rows] == [row[:5] + row[6:] for row in text.rows]
    assert found.texts == text.texts == [(2, 1, "x"), (4, 1, "9007199254740993")]
    assert found.layout == text.layout


@pytest.mark.parametrize("write", WRITERS)
def test_the_file_is_one_frame_however_it_is_cut(write):
    data = write(TABLE)
    whole = decode(data, table())
    assert whole.frames == [(0, len(data))]
    assert decode(data, table(), 1) == whole
    assert decode(data, table(), 7) == whole


def test_later_batches_name_no_frame(monkeypatch):
    monkeypatch.setattr("ingest.formats.columnar.BATCH_ROWS", 2)
    data = parquet(TABLE)
    found = decode(data, table())
    assert [row[5] for row in found.rows] == [(0, len(data))] * 2 + [-1] * 3


def test_every_numeric_type_is_a_sensor():
    kinds = [pa.int8(), pa.uint16(), pa.int64(), pa.uint64(), pa.float16(), pa.float32(), pa.decimal128(25, 2), pa.bool_(), pa.null()]
    columns = {f"c{place}": pa.array([None if pa.types.is_null(kind) else 1, None]).cast(kind) for place, kind in enumerate(kinds)}
    data = pa.table({"t": [1, 2], **columns, "name": ["x", "y"], "list": [[1], [2]], "digits": ["7", None]})
    found = decode(parquet(data), table())
    assert found.names == [*columns, "digits"]
    assert [found.column(place) for place in range(8)] == [[1.0, None]] * 8
    assert found.column(8) == [None, None]
    assert found.column(9) == [7.0, None]


def test_wide_integers_keep_their_text():
    values = [2**63 - 1, -(2**63), 2**53, None, -(2**53) - 1]
    data = pa.table({"t": [1, 2, 3, 4, 5], "a": pa.array(values, pa.int64()), "u": pa.array([2**64 - 1, 0, 0, 0, 0], pa.uint64())})
    found = decode(parquet(data), table())
    assert found.texts == [(0, 0, str(2**63 - 1)), (0, 1, str(2**64 - 1)), (1, 0, str(-(2**63))), (4, 0, str(-(2**53) - 1))]


def test_key_values_are_the_values_text():
    data = pa.table(
        {
            **{"t": [1], "i": [7], "f": [4.0], "s": [" x "], "b": [True], "d": [Decimal("1.50")]},
            **{"day": [date(2026, 11, 23)], "n": pa.array([None], pa.int8())},
        }
    )
    found = decode(arrow_stream(data), table(key=["i", "f", "s", "b", "d", "day", "n"]))
    assert json.loads(found.streams[0].stream) == ["7", "4.0", "x", "true", "1.50", "2026-11-23", ""]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_timestamps_are_taken_as_they_are(unit, zone):
    moment = datetime(2026, 7, 1, 12)
    data = pa.table({"t": pa.array([moment], pa.timestamp(unit, zone)), "a": [1.0]})
    found = decode(parquet(data), table(time={"column": "t"}), zone="Asia/Tokyo")
    hours = 0 if zone else 9  # pyarrow takes the moment as UTC where the type has a zone; without one it is the tool's
    assert found.rows[0][3] == int((moment - datetime(1970, 1, 1)).total_seconds() - hours * 3600) * S


def test_numeric_times():
    time = {"column": "t", "unit": "s"}
    assert decode(parquet(pa.table({"t": [481637082.333], "a": [1.0]})), table(time=time)).rows[0][3] == 481637082333000
    assert decode(parquet(pa.table({"t": [481637082], "a": [1.0]})), table(time=time)).rows[0][3] == 481637082000000
    assert decode(parquet(pa.table({"t": ["481637082.333"], "a": [1.0]})), table(time=time)).rows[0][3] == 481637082333000
    with pytest.raises(MappingMissing, match=r"set time.unit"):
        decode(parquet(pa.table({"t": [1.0], "a": [1.0]})), table(time={"column": "t"}))


def test_bad_rows_are_told_by_row_number():
    data = pa.table({"t": [1.0, None, float("inf"), 4.0], "n": pa.array([1, 2, 3, None], pa.int64()), "a": [1, 2, 3, 4]})
    found = decode(parquet(data), table(seq="n"))
    assert [(span.start, span.stop, span.reason, span.rows) for span in found.rejected] == [
        (1, 2, "no_time", True),
        (2, 3, "bad_time", True),
        (3, 4, "bad_seq", True),
    ]
    assert json.loads(found.rejected[0].data) == {"t": None, "n": 2, "a": 2}
    assert len(found.rows) == 1


def test_a_file_without_a_record_is_other():
    data = parquet(pa.table({"t": pa.array([None], pa.float64()), "a": [1]}))
    found = decode(data, table())
    assert found.frames == []
    assert found.other == (len(data), 1)
    assert found.reasons == ["no_time"]
    empty = parquet(pa.table({"t": pa.array([], pa.float64()), "a": pa.array([], pa.int64())}))
    assert decode(empty, table()).other == (len(empty), 1)


def test_text_that_is_not_utf8_costs_its_row():
    text = pa.array([b"A", b"\xff"], pa.binary()).view(pa.string())
    data = pa.table({"t": [1, 2], "w": text, "a": [1, 2]})
    for write in (arrow_stream, arrow_file, parquet):
        found = decode(write(data), table(context={"wafer": "w"}))
        assert found.reasons == ["bad_text"]
        assert len(found.rows) == 1


def test_a_missing_column_names_what_was_found():
    with pytest.raises(MappingMissing, match="did you mean 'w'"):
        decode(parquet(TABLE), table(context={"wafer": "W"}))


@pytest.mark.parametrize("write", WRITERS)
def test_an_unreadable_file_is_one_rejected_span(write):
    data = write(TABLE)[:-20]
    if write is arrow_stream:
        data = data[: len(data) // 2]
    found = decode(data, table(), 100)
    assert [(span.start, span.stop) for span in found.rejected] == [(0, len(data))]
    assert found.reasons == ["bad_parquet" if write is parquet else "bad_arrow"]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(WRITERS), st.integers(4, 10_000), st.integers(0, 255))
def test_no_flipped_byte_raises(write, at, byte):
    data = bytearray(write(TABLE))
    data[at % len(data)] = byte
    try:
        decode(bytes(data), table(sensors=["a", "b"]))
    except MappingMissing:  # a flipped letter of a column's name
        return


def test_a_flipped_value_byte_is_found_by_the_page_checksum():
    column = np.arange(5000, dtype=np.float64)
    out = io.BytesIO()
    plain = {"compression": "none", "use_dictionary": False, "write_page_checksum": True}
    pq.write_table(pa.table({"t": column, "a": column}), out, **plain)
    data = bytearray(out.getvalue())
    data[len(data) // 2] ^= 1
    assert decode(bytes(data), table()).reasons == ["bad_parquet"]
