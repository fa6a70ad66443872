"""Texts beside values, against dictionaries of records."""

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.texts import NO_TEXTS, joined, same_texts, texts_of

BESIDE = st.dictionaries(
    st.integers(0, 9), st.dictionaries(st.integers(0, 5), st.text(max_size=3) | st.just("x"), min_size=1, max_size=3), max_size=6
)


def build(beside, order=None):
    """Return the texts of {record: {position: text}}, given in the order of ``order``."""
    rows = [(record, position, text) for record, items in beside.items() for position, text in items.items()]
    rows = sorted(rows) if order is None else [rows[i] for i in order.permutation(len(rows))]
    record, position, text = zip(*rows, strict=True) if rows else ((), (), ())
    return texts_of(np.asarray(record, np.int64), np.asarray(position, np.int64), pa.array(text, pa.string()))


@settings(deadline=None)
@given(BESIDE, st.integers(0, 99))
def test_each_record_has_its_texts_whatever_the_order_they_were_met_in(beside, seed):
    texts = build(beside, np.random.default_rng(seed))
    assert [dict(texts.of(record)) for record in range(10)] == [beside.get(record, {}) for record in range(10)]
    assert len(texts) == sum(map(len, beside.values()))


@settings(deadline=None)
@given(BESIDE, st.permutations(range(10)), st.integers(0, 10))
def test_selected_records_keep_their_texts(beside, records, count):
    chosen = build(beside).select(np.asarray(records[:count], np.int64))
    assert [dict(chosen.of(i)) for i in range(count)] == [beside.get(record, {}) for record in records[:count]]


@settings(deadline=None)
@given(BESIDE, BESIDE)
def test_joined_stretches_count_on(some, others):
    texts = joined([build(some), NO_TEXTS, build(others)], [10, 3, 10])
    assert [dict(texts.of(i)) for i in range(10)] == [some.get(i, {}) for i in range(10)]
    assert [dict(texts.of(13 + i)) for i in range(10)] == [others.get(i, {}) for i in range(10)]


@settings(deadline=None)
@given(BESIDE, BESIDE, st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=8))
def test_pairs_are_the_same_where_positions_and_texts_are(some, others, pairs):
    others = others | {record + 5: items for record, items in some.items() if record < 5}
    left, right = np.asarray([a for a, _ in pairs], np.int64), np.asarray([b for _, b in pairs], np.int64)
    found = same_texts(build(some), left, build(others), right)
    assert found.tolist() == [some.get(a, {}) == others.get(b, {}) for a, b in pairs]
