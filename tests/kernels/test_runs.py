"""Distinct values by runs, against numpy's of all values."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kernels.runs import begins, counted, distinct, numbered

VALUES = st.lists(st.tuples(st.integers(-3, 3), st.integers(1, 4)), max_size=12).map(
    lambda runs: np.repeat(np.array([value for value, _ in runs], np.int64), [n for _, n in runs] or np.zeros(0, np.int64))
)


@given(VALUES, st.sampled_from(["i1", "i4", "i8"]))
def test_what_numpy_finds(values, kind):
    values = values.astype(kind)
    used, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    for found, expected in ((distinct(values), [used]), (numbered(values), [used, inverse]), (counted(values), [used, counts])):
        for mine, theirs in zip(found if isinstance(found, tuple) else [found], expected, strict=True):
            assert mine.dtype == theirs.dtype
            assert np.array_equal(mine, theirs)


@given(VALUES)
def test_runs_begin_where_a_value_changes(values):
    starts = begins(values)
    assert np.array_equal(np.repeat(values[starts], np.diff(starts, append=len(values))), values)
    assert (np.diff(values[starts]) != 0).all()
