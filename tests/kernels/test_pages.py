"""Page encodings against their slow twins."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import pages
from kernels.reference import pages as slow

INT64 = st.integers(-(2**63), 2**63 - 1)
STEADY = st.builds(
    lambda first, step, count: [(first + i * step + 2**63) % 2**64 - 2**63 for i in range(count)],
    INT64,
    st.integers(-9, 9),
    st.integers(0, 400),
)
NUMBERS = st.one_of(st.lists(INT64, max_size=300), STEADY, st.lists(st.integers(-5, 2**40), max_size=300))
CODES = st.integers(1, 17).flatmap(
    lambda width: st.tuples(st.just(width), st.lists(st.tuples(st.integers(0, (1 << width) - 1), st.integers(1, 40)), max_size=40))
)


def bits_of(numbers):
    return np.asarray(numbers, np.int64).view(np.uint64)


@given(NUMBERS)
@settings(max_examples=100, deadline=None)
def test_byte_streams_hold_each_byte_of_every_value(numbers):
    assert [row.tobytes() for row in pages.byte_streams(bits_of(numbers))] == slow.split_bytes(numbers)


@given(NUMBERS, st.integers(1, 5))
@settings(max_examples=200, deadline=None)
def test_deltas_in_whole_bytes_read_back(numbers, copies):
    assert slow.read_delta_binary_packed(pages.delta_bytes(np.asarray(numbers, np.int64), copies)) == numbers * copies


@given(CODES, st.integers(1, 5))
@settings(max_examples=200, deadline=None)
def test_hybrid_runs_and_packed_bits_read_back(drawn, copies):
    width, stretches = drawn
    codes = [code for code, count in stretches for _ in range(count)]
    array = np.asarray(codes, np.int32)
    assert slow.read_rle_hybrid(pages.rle_hybrid(array, width), width, len(codes)) == codes
    assert slow.read_rle_hybrid(pages.rle_hybrid(array, width, copies), width, len(codes) * copies) == codes * copies
    assert slow.read_rle_hybrid(pages.packed(array, width), width, len(codes)) == codes
    values, counts = (np.asarray(column, np.int64) for column in (zip(*stretches, strict=True) if stretches else ((), ())))
    assert slow.read_rle_hybrid(pages.runs(values, counts, width), width, len(codes)) == codes


def test_equal_values_cost_a_run():
    assert len(pages.rle_hybrid(np.full(100_000, 3), 2)) == 4
