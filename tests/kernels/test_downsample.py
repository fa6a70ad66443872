"""The line that is drawn keeps its extremes, its ends and its gaps."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import downsample
from kernels.reference import downsample as slow

VALUES = st.one_of(st.floats(allow_nan=False), st.integers(-2, 2).map(float), st.just(math.nan))
SAMPLES = st.lists(st.tuples(st.one_of(st.integers(0, 20), st.integers(0, 2**50)), VALUES), max_size=120)


def arrays(samples, origin):
    steps, values = zip(*samples, strict=True) if samples else ((), ())
    return np.cumsum(np.asarray([origin, *steps], np.int64))[1:], np.asarray(values, np.float64)


@given(SAMPLES, st.integers(-(2**60), 2**60), st.integers(1, 12))
@settings(max_examples=200, deadline=None)
def test_places_are_those_of_the_twin(samples, origin, buckets):
    time_us, values = arrays(samples, origin)
    found = downsample.extremes(time_us, values, buckets)
    np.testing.assert_array_equal(found, slow.extremes(time_us, values, buckets))
    assert len(found) <= downsample.KEPT * buckets


@given(SAMPLES.filter(len), st.integers(1, 12))
@settings(max_examples=100, deadline=None)
def test_extremes_ends_and_gaps_stay(samples, buckets):
    time_us, values = arrays(samples, 0)
    found = downsample.extremes(time_us, values, buckets)
    kept = values[found]
    assert (found[0], found[-1]) == (0, len(values) - 1)
    assert np.all(np.diff(found) > 0)
    assert np.isnan(kept).any() == np.isnan(values).any()
    if not np.isnan(values).all():
        assert (np.nanmin(kept), np.nanmax(kept)) == (np.nanmin(values), np.nanmax(values))


def test_one_spike_among_a_million_is_drawn():
    values = np.zeros(1_000_000)
    values[777_777] = 9.0
    values[123_456:123_460] = math.nan
    found = downsample.extremes(np.arange(1_000_000) * 100_000, values, 500)
    assert len(found) <= 3000
    assert {777_777, 123_456, 123_459} <= set(found.tolist())
