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


STREAMS = st.lists(st.tuples(KEYS, KEYS, STEPS), min_size=1, max_size=4)


def tables(rows):
    """Streams, numbered by place, of lists of equally wide rows: (stream of each row, the rows)."""
    stream = np.repeat(np.arange(len(rows), dtype=np.int32), [len(own) for own in rows])
    return stream, [row for own in rows for row in own]


def begins(stream, streams):
    return np.searchsorted(stream, np.arange(streams + 1))


@given(STREAMS)
@settings(max_examples=150, deadline=None)
def test_a_key_is_covered_by_the_run_of_its_stream_that_spans_it(streams):
    runs = [slow.runs_of(old, step) for old, _, step in streams]
    stream, keys = tables([new for _, new, _ in streams])
    run_stream, table = tables(runs)
    found = sequence.covered(stream, *columns(keys, 2), begins(run_stream, len(streams)), np.asarray(table, np.int64).reshape(-1, 4))
    begin, expected = 0, []
    for (_, new, _), own in zip(streams, runs, strict=True):
        expected += [-1 if run < 0 else begin + run for run in slow.covered(new, own)]
        begin += len(own)
    assert found.tolist() == expected


@given(STREAMS, st.randoms(use_true_random=False), st.booleans())
@settings(max_examples=200, deadline=None)
def test_records_are_taken_as_they_arrive_and_the_late_ones_told(streams, random, nearly):
    news = [sorted(new)[: len(new) * 3 // 4] + new[: len(new) // 2] if nearly else new for _, new, _ in streams]
    expected = [slow.advance(new, old, step) for new, (old, _, step) in zip(news, streams, strict=True)]
    arrived = [(s, k) for s, new in enumerate(news) for k in range(len(new))]
    slots = [s for s, _ in arrived]
    random.shuffle(slots)  # streams interleave, each in its own order
    nth = [0] * len(streams)
    rows, places = [], []
    for s in slots:
        rows.append((s, *news[s][nth[s]]))
        places.append((s, nth[s]))
        nth[s] += 1
    run_stream, table = tables([slow.runs_of(old, step) for old, _, step in streams])
    stream, time, seq = columns(rows, 3)
    steps = np.asarray([step for _, _, step in streams], np.int64)
    late, *keys, found_stream, runs, begin = sequence.advance(
        stream.astype(np.int32), time, seq, run_stream, np.asarray(table, np.int64).reshape(-1, 4), steps
    )
    assert [places[i] for i in late] == [place for place in places if place[1] in expected[place[0]][0]]
    assert [column.tolist() for column in keys] == [column[late].tolist() for column in (stream, time, seq)]
    run_stream, table = tables([own for _, own in expected])
    assert found_stream.tolist() == run_stream.tolist()
    assert [tuple(row) for row in runs.tolist()] == table
    assert begin.tolist() == begins(run_stream, len(streams)).tolist()


@given(STREAMS)
@settings(max_examples=150, deadline=None)
def test_merging_uncovered_keys_gives_the_runs_of_the_union(streams):
    runs = [slow.runs_of(old, step) for old, _, step in streams]
    fresh = [
        [key for key, run in zip(sorted(new), slow.covered(sorted(new), own), strict=True) if run < 0]
        for (_, new, _), own in zip(streams, runs, strict=True)
    ]
    stream, keys = tables(fresh)
    run_stream, table = tables(runs)
    steps = np.asarray([step for _, _, step in streams], np.int64)
    merged = sequence.merge_runs(stream, *columns(keys, 2), run_stream, np.asarray(table, np.int64).reshape(-1, 4), steps)
    expected = tables([slow.runs_of([*old, *own], step) for (old, _, step), own in zip(streams, fresh, strict=True)])
    assert merged[0].tolist() == expected[0].tolist()
    assert [tuple(row) for row in merged[1].tolist()] == expected[1]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6), st.integers(0, 3)), max_size=60), st.booleans())
@settings(max_examples=150, deadline=None)
def test_keys_are_ordered_as_a_stable_sort_does(records, nearly):
    if nearly:
        records = [*sorted(records)[: len(records) * 3 // 4], *records[len(records) * 3 // 4 :]]
    stream, time, seq = columns(records, 3)
    expected = sorted(range(len(records)), key=lambda i: records[i])
    order, *ordered = sequence.order_keys(stream.astype(np.int32), time, seq)
    assert order.tolist() == expected
    assert [column.tolist() for column in ordered] == [column[expected].tolist() for column in (stream, time, seq)]


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
