"""Sequence kernels against their slow twins."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import sequence
from kernels.reference import sequence as slow

KEYS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 12)), max_size=30, unique=True)
STEPS = st.sampled_from([sequence.COUNTER, sequence.ANY, 3, 7])


def columns(rows, width):
    table = np.asarray(rows, np.int64).reshape(-1, width)
    return tuple(np.ascontiguousarray(table[:, i]) for i in range(width))


@given(KEYS, KEYS, STEPS)
@settings(max_examples=150, deadline=None)
def test_a_key_is_covered_by_the_run_that_spans_it(old, new, step):
    runs = slow.runs_of(old, step)
    keys = sorted(new)
    assert sequence.covered(*columns(keys, 2), *columns(runs, 4)).tolist() == slow.covered(keys, runs)


@given(KEYS, KEYS, STEPS)
@settings(max_examples=150, deadline=None)
def test_merging_uncovered_keys_gives_the_runs_of_the_union(old, new, step):
    runs = slow.runs_of(old, step)
    fresh = [key for key, run in zip(sorted(new), slow.covered(sorted(new), runs), strict=True) if run < 0]
    merged = sequence.merge_runs(*columns(fresh, 2), *columns(runs, 4), step)
    assert [tuple(row) for row in merged.tolist()] == slow.runs_of([*old, *fresh], step)


@given(KEYS, KEYS)
@settings(max_examples=100, deadline=None)
def test_find_keys_finds_exactly_the_equal_ones(left, right):
    a, b = sorted(left), sorted(right)
    assert sequence.find_keys(*columns(a, 2), *columns(b, 2)).tolist() == [b.index(key) if key in b else -1 for key in a]


def test_same_content_compares_bits_and_lengths():
    left = np.asarray([1, 2, 3, 4], np.int64)
    right = np.asarray([1, 2, 9, 4], np.int64)
    starts, counts = np.asarray([0, 2, 3], np.int64), np.asarray([2, 2, 1], np.int64)
    assert sequence.same_content(left, starts, counts, right, starts, counts).tolist() == [True, False, True]
    assert not sequence.same_content(left, starts, counts, right, starts, counts - 1).any()


def test_repeated_keys_are_those_of_their_predecessor():
    stream, time, seq = (np.asarray(x, np.int64) for x in ([0, 0, 0, 1], [5, 5, 5, 5], [1, 1, 2, 2]))
    assert sequence.same_as_previous(stream, time, seq).tolist() == [False, True, False, False]
    assert sequence.is_sorted(stream, time, seq)
    assert not sequence.is_sorted(stream[::-1].copy(), time, seq)
