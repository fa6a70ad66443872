"""The walk over a Parquet file's page headers against its slow twin, on pyarrow's files and on damaged ones."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.pagewalk import NO_CHECKSUM, walk_pages
from kernels.reference import pagewalk as slow


def written(*, checksum: bool = True, version: str = "1.0", statistics: bool = True) -> tuple[bytes, int]:
    """A file of several columns and row groups, and where its pages end."""
    sink = io.BytesIO()
    table = pa.table({"n": np.arange(900), "x": np.sqrt(np.arange(900)), "t": [f"wafer {i % 7}" for i in range(900)]})
    pq.write_table(
        table,
        sink,
        row_group_size=300,
        data_page_size=512,
        data_page_version=version,
        write_page_checksum=checksum,
        write_statistics=statistics,
    )
    data = sink.getvalue()
    return data, len(data) - 8 - int.from_bytes(data[-8:-4], "little")


def fast(data: bytes, at: int, end: int, most: int = 1000) -> tuple[list[tuple[int, ...]], int]:
    pages = np.empty((most, 3), np.int64)
    count, stop = walk_pages(np.frombuffer(data, np.uint8).copy(), at, end, pages)
    return [tuple(row) for row in pages[:count].tolist()], stop


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize("checksum", [True, False])
def test_every_page_is_found_with_its_checksum(version: str, statistics: bool, checksum: bool) -> None:
    data, end = written(checksum=checksum, version=version, statistics=statistics)
    pages, stop = fast(data, 4, end)
    assert (pages, stop) == slow.walk_pages(data, 4, end)
    assert stop == end
    assert len(pages) > 9
    for a, b, crc in pages:
        assert crc == (zlib.crc32(data[a:b]) if checksum else NO_CHECKSUM)


def test_a_walk_goes_on_where_the_room_ended() -> None:
    data, end = written()
    pages, _ = slow.walk_pages(data, 4, end)
    some, at = fast(data, 4, end, most=5)
    rest, stop = fast(data, at, end)
    assert some + rest == pages
    assert stop == end


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_both_stop_at_the_same_place_in_a_damaged_file(drawn: st.DataObject) -> None:
    data, end = written()
    spoilt = bytearray(data)
    headers = [4, *(stop for _, stop, _ in slow.walk_pages(data, 4, end)[0][:-1])]
    for _ in range(drawn.draw(st.integers(1, 4))):
        at = drawn.draw(st.sampled_from(headers)) + drawn.draw(st.integers(0, 40))
        spoilt[min(at, len(spoilt) - 1)] = drawn.draw(st.integers(0, 255))
    assert fast(bytes(spoilt), 4, end) == slow.walk_pages(bytes(spoilt), 4, end)


@given(st.binary(max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_bytes_end_the_walk_and_nothing_else(data: bytes) -> None:
    assert fast(data, 0, len(data)) == slow.walk_pages(data, 0, len(data))
