"""The line that is drawn keeps its extremes, its ends and its gaps."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import downsample
from kernels.reference import downsample as slow

VALUES = st.one_of(st.floats(allow_nan=False), st.integers(-2, 2).map(float), st.just(math.nan))
SAMPLES = st.lists(st.tuples(st.one_of(st.integers(0, 20), st.integers(0, 2**50)), VALUES), max_size=120)
CELLS = st.one_of(st.integers(1, 200), st.integers(1, 2**52))


def arrays(samples, origin):
    steps, values = zip(*samples, strict=True) if samples else ((), ())
    return np.cumsum(np.asarray([origin, *steps], np.int64))[1:], np.asarray(values, np.float64)


@given(SAMPLES, st.integers(-(2**60), 2**60), CELLS)
@settings(max_examples=200, deadline=None)
def test_places_are_those_of_the_twin(samples, origin, cell_us):
    time_us, values = arrays(samples, origin)
    found = downsample.extremes(time_us, values, cell_us)
    np.testing.assert_array_equal(found, slow.extremes(time_us, values, cell_us))
    assert len(found) <= downsample.KEPT * len(np.unique(time_us // cell_us))


@given(SAMPLES.filter(len), CELLS)
@settings(max_examples=100, deadline=None)
def test_extremes_ends_and_gaps_stay(samples, cell_us):
    time_us, values = arrays(samples, 0)
    found = downsample.extremes(time_us, values, cell_us)
    kept = values[found]
    assert (found[0], found[-1]) == (0, len(values) - 1)
    assert np.all(np.diff(found) > 0)
    assert np.isnan(kept).any() == np.isnan(values).any()
    if not np.isnan(values).all():
        assert (np.nanmin(kept), np.nanmax(kept)) == (np.nanmin(values), np.nanmax(values))


@given(SAMPLES, st.integers(-(2**60), 2**60), st.integers(1, 50), st.integers(1, 20), st.integers(0, 120))
@settings(max_examples=200, deadline=None)
def test_cells_nest_and_pieces_join(samples, origin, cell_us, times, cut):
    """Thinned in two pieces, then again by wider cells, gives what wider cells give at once."""
    time_us, values = arrays(samples, origin)
    first = downsample.extremes(time_us[:cut], values[:cut], cell_us)
    fine = np.concatenate([first, downsample.extremes(time_us[cut:], values[cut:], cell_us) + min(cut, len(values))])
    twice = fine[downsample.extremes(time_us[fine], values[fine], cell_us * times)]
    np.testing.assert_array_equal(twice, downsample.extremes(time_us, values, cell_us * times))


def test_one_spike_among_a_million_is_drawn():
    values = np.zeros(1_000_000)
    values[777_777] = 9.0
    values[123_456:123_460] = math.nan
    found = downsample.extremes(np.arange(1_000_000) * 100_000, values, 200_000_000)
    assert len(found) <= 3000
    assert {777_777, 123_456, 123_459} <= set(found.tolist())
