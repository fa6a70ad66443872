"""Window reduction against exact arithmetic."""

import math
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.gather import transpose, valid_bits
from kernels.missing import NAN_BITS, NULL, NULL_BITS
from kernels.reduce import BLOCK, COLUMNS, MOMENTS, QUANTILES, TRENDS, reduce_windows
from kernels.reference import gather as slow_gather
from kernels.reference.reduce import reduce_one

VALUES = st.lists(
    st.one_of(st.floats(-1e6, 1e6, width=32), st.just(math.nan), st.just(NULL), st.integers(-3, 3).map(float)), min_size=1, max_size=40
)


def reduce(values, time_us):
    matrix, times = np.asarray([values], np.float64), np.asarray(time_us, np.int64)
    one = (np.asarray([0]), np.asarray([len(values)]), QUANTILES)
    return dict(zip(COLUMNS, reduce_windows(matrix, times, *one)[0, 0].tolist(), strict=True))


@given(VALUES, st.data())
@settings(max_examples=150, deadline=None)
def test_statistics_are_those_of_exact_arithmetic(values, data):
    steps = data.draw(st.lists(st.integers(0, 10**7), min_size=len(values), max_size=len(values)))
    time_us = np.cumsum(steps).tolist()
    found, expected = reduce(values, time_us), reduce_one(values, time_us, 5)
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
        found = reduce(values.tolist(), list(range(n)))
        assert [found["median"], found["p05"], found["p95"]] == np.quantile(values, [0.5, 0.05, 0.95]).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_std_is_right_at_an_offset_of_1e9(seed):
    noise = np.random.default_rng(seed).normal(scale=1e-3, size=500)
    values = (noise + 1e9).tolist()
    exact = reduce_one(values, list(range(500)), 0)["std"]
    assert reduce(values, list(range(500)))["std"] == pytest.approx(exact, rel=1e-12, abs=0)


def test_windows_and_sensors_are_reduced_apart():
    matrix = np.asarray([[1.0, 2.0, 3.0, 4.0], [5.0, 5.0, 5.0, 6.0]])
    out = reduce_windows(matrix, np.arange(4), np.asarray([0, 2]), np.asarray([2, 4]), QUANTILES)
    assert out[0, 0, COLUMNS.index("mean")] == 1.5
    assert out[1, 1, COLUMNS.index("max")] == 6.0


def test_a_missing_sample_is_counted_and_left_out_wherever_it_stands():
    values = np.random.default_rng(3).normal(loc=1e6, size=50)
    for places in ([0], [49], [0, 1, 2], [48, 49], [7, 20, 33], list(range(49)), list(range(1, 50)), list(range(50))):
        for gap in (math.nan, NULL):
            holed = values.copy()
            holed[places] = gap
            time_us = np.arange(50) * 1_000
            found, expected = reduce(holed, time_us), reduce_one(holed.tolist(), time_us.tolist(), 0)
            assert (found["n"], found["missing"]) == (50 - len(places), len(places))
            left = ~np.isnan(holed)
            dense = reduce(values[left], time_us[left]) if left.any() else dict.fromkeys(COLUMNS, math.nan)
            for name in COLUMNS[2:]:
                want = expected.get(name)
                assert math.isnan(found[name]) if want is None else found[name] == pytest.approx(want, rel=1e-9), name
                assert np.float64(found[name]).tobytes() == np.float64(dense[name]).tobytes(), name


@pytest.mark.parametrize("what", [MOMENTS, TRENDS, QUANTILES])
def test_bits_depend_on_the_windows_samples_alone(what):
    rng = np.random.default_rng(5)
    sizes = [1, 2, 15, 16, 17, 31, 33, 200, 0, 5]
    matrix = rng.normal(size=(3, sum(sizes)))
    matrix[1, rng.integers(0, sum(sizes), 20)] = math.nan
    time_us = np.cumsum(rng.integers(0, 2_000, sum(sizes)))
    stop = np.cumsum(sizes)
    start = stop - sizes
    together = reduce_windows(matrix, time_us, start, stop, what)
    for w in range(len(sizes)):
        for j in range(3):
            at = slice(start[w], stop[w])
            alone = reduce_windows(matrix[j : j + 1, at], time_us[at], np.asarray([0]), np.asarray([sizes[w]]), what)
            assert alone[0, 0].tobytes() == together[w, j].tobytes()


def test_what_is_left_out_is_null_and_changes_nothing_else():
    values, one = np.random.default_rng(6).normal(size=(1, 40)), (np.arange(40), np.asarray([0]), np.asarray([40]))
    everything = reduce_windows(values, *one, QUANTILES)[0, 0]
    for what, absent in ((MOMENTS, ("median", "p05", "p95", "slope", "area")), (TRENDS, ("median", "p05", "p95"))):
        for name, found, full in zip(COLUMNS, reduce_windows(values, *one, what)[0, 0], everything, strict=True):
            assert np.isnan(found) if name in absent else found == full, name


def uneven(kind, n):
    """Samples that no even histogram divides well."""
    rng = np.random.default_rng(n)
    noise = rng.normal(size=n)
    shapes = {
        "plateau after a ramp": np.where(np.arange(n) < n // 10, np.linspace(0.0, 1e6, n), 1e6) + noise,
        "two values": np.where(np.arange(n) % 50 == 7, 1.0, 2.0),
        "converter steps": np.round(noise * 2) / 4,
        "all magnitudes": 10.0 ** rng.integers(-300, 300, n),
        "too far apart": np.where(noise > 0, 1.7e308, -1.7e308),
        "too near": np.where(noise > 0, 5e-324, 0.0),
        "infinite": np.where(noise > 2.5, math.inf, noise),
    }
    return shapes[kind]


@pytest.mark.parametrize("n", [65, 501, BLOCK + 100])
@pytest.mark.parametrize(
    "kind", ["plateau after a ramp", "two values", "converter steps", "all magnitudes", "too far apart", "too near", "infinite"]
)
def test_quantiles_are_exact_where_samples_crowd(kind, n):
    if "LOADLOCK_TEST_WITHOUT_JIT" in os.environ and n > 501:
        pytest.skip("slow as plain Python")
    values = uneven(kind, n)
    found = reduce(values, range(n))
    with np.errstate(all="ignore"):
        expected = np.quantile(values, [0.5, 0.05, 0.95])
    np.testing.assert_array_equal([found["median"], found["p05"], found["p95"]], expected)


def test_transpose_and_validity_agree_with_their_twins():
    values = np.arange(40, dtype=np.float64)
    start, columns = np.asarray([0, 10, 25]), np.asarray([3, 0, 7])
    found = transpose(values, start, columns, np.empty((3, 3))).tolist()
    assert found == slow_gather.transpose(values.tolist(), start.tolist(), columns.tolist())
    bits = np.asarray([1, NULL_BITS, NAN_BITS, 2, 3, NULL_BITS, 4, 5, 6, NULL_BITS], np.int64)
    bitmap, nulls = valid_bits(bits)
    assert (bitmap.tolist(), nulls) == slow_gather.valid_bits(bits.tolist())


@pytest.mark.parametrize("n", [1, 31, 64, 65, 97, 300])
@pytest.mark.parametrize("columns", [[0], [0, 1, 2, 3, 4, 5], [6, 1, 0, 5], [0, 6, 2, 6]])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_samples_are_gathered_from_any_number_of_records(n, columns, kind):
    random = np.random.default_rng(n)
    values = random.random(7 * n).astype(kind)
    start = random.permutation(n) * 7
    found = transpose(values, start, np.asarray(columns), np.empty((len(columns), n))).tolist()
    assert found == slow_gather.transpose(values.tolist(), start.tolist(), columns)
