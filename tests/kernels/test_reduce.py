"""Window reduction against exact arithmetic."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.gather import transpose, valid_bits
from kernels.missing import NAN_BITS, NULL, NULL_BITS
from kernels.reduce import COLUMNS, reduce_windows
from kernels.reference import gather as slow_gather
from kernels.reference.reduce import reduce_one

VALUES = st.lists(
    st.one_of(st.floats(-1e6, 1e6, width=32), st.just(math.nan), st.just(NULL), st.integers(-3, 3).map(float)), min_size=1, max_size=40
)


def reduce(values, time_us, started_us):
    matrix, times = np.asarray([values], np.float64), np.asarray(time_us, np.int64)
    one = (np.asarray([0]), np.asarray([len(values)]), np.asarray([started_us]))
    return dict(zip(COLUMNS, reduce_windows(matrix, times, *one)[0, 0].tolist(), strict=True))


@given(VALUES, st.data())
@settings(max_examples=150, deadline=None)
def test_statistics_are_those_of_exact_arithmetic(values, data):
    steps = data.draw(st.lists(st.integers(0, 10**7), min_size=len(values), max_size=len(values)))
    time_us = np.cumsum(steps).tolist()
    found, expected = reduce(values, time_us, 5), reduce_one(values, time_us, 5)
    for name in COLUMNS:
        want = expected.get(name)
        if want is None:
            assert math.isnan(found[name]), name
        else:
            scale = max(1.0, *(abs(v) for v in values if not math.isnan(v))) if expected["n"] else 1.0
            tolerance = {"slope": 1e-6 * scale, "area": 1e-9 * scale * max(1.0, time_us[-1] / 1e6)}.get(name, 1e-12 * scale)
            assert found[name] == pytest.approx(want, rel=1e-9, abs=tolerance), name


def test_quantiles_are_those_of_numpy_to_the_bit():
    rng = np.random.default_rng(7)
    for n in (1, 2, 3, 4, 10, 21, 99, 100):
        values = np.round(rng.normal(size=n), 1)
        found = reduce(values.tolist(), list(range(n)), 0)
        assert [found["median"], found["p05"], found["p95"]] == np.quantile(values, [0.5, 0.05, 0.95]).tolist()


def test_std_is_right_at_an_offset_of_1e9():
    noise = np.random.default_rng(1).normal(scale=1e-3, size=500)
    values = (noise + 1e9).tolist()
    exact = reduce_one(values, list(range(500)), 0)["std"]
    assert reduce(values, list(range(500)), 0)["std"] == pytest.approx(exact, rel=1e-12)


def test_windows_and_sensors_are_reduced_apart():
    matrix = np.asarray([[1.0, 2.0, 3.0, 4.0], [5.0, 5.0, 5.0, 6.0]])
    out = reduce_windows(matrix, np.arange(4), np.asarray([0, 2]), np.asarray([2, 4]), np.asarray([0, 2]))
    assert out[0, 0, COLUMNS.index("mean")] == 1.5
    assert out[1, 1, COLUMNS.index("max")] == 6.0


def test_transpose_and_validity_agree_with_their_twins():
    values = np.arange(40, dtype=np.float64)
    start, columns = np.asarray([0, 10, 25]), np.asarray([3, 0, 7])
    found = transpose(values, start, columns, np.empty((3, 3))).tolist()
    assert found == slow_gather.transpose(values.tolist(), start.tolist(), columns.tolist())
    bits = np.asarray([1, NULL_BITS, NAN_BITS, 2, 3, NULL_BITS, 4, 5, 6, NULL_BITS], np.int64)
    bitmap, nulls = valid_bits(bits)
    assert (bitmap.tolist(), nulls) == slow_gather.valid_bits(bits.tolist())
