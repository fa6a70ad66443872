"""Exact deduplication: whatever the order, the cuts and the repetitions, keys, contents and gaps come out as from the set of records."""

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.gaps import gaps_of
from ingest.keys import ACCEPTED, CONFLICT, DUPLICATE, KeyBook, content_digest
from ingest.recent import Recent
from ingest.records import StreamKey
from ingest.segment import Registry, Segment
from ingest.timing import Stages
from kernels.reference import sequence as slow
from storage.history import Contents
from storage.texts import NO_TEXTS

KEY = StreamKey("T", None, "7", "")
RECORDS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 9), st.integers(0, 2)), min_size=1, max_size=40)


class FakeIndex:
    """Runs as the last batch left them."""

    def __init__(self):
        self.held = []

    def runs(self, *_key):
        return self.held


class FakeHistory:
    """Kept records and conflicts in memory."""

    def __init__(self):
        self.kept = {}
        self.rivals = []

    def contents(self, _tool, _chamber, _trace, _streams, ranges):
        inside = lambda key: any(lo <= key[0] <= hi for lo, hi in ranges)  # noqa: E731
        rows = sorted((key, value) for key, value in self.kept.items() if inside(key))
        n = len(rows)
        column = lambda i: np.asarray([key[i] for key, _ in rows], np.int64)  # noqa: E731
        bits = np.asarray([float(v) for _, v in rows], np.float64).view(np.int64)
        return Contents([""] * n, column(0), column(1), np.arange(n), np.ones(n, np.int64), bits, ["p"] * n, NO_TEXTS)

    def has_conflicts(self, _tool):
        return True

    def conflicts(self, _tool, _chamber, _trace, _streams, _ranges):
        one = lambda value: np.asarray([value], np.float64).view(np.int64)  # noqa: E731
        return [("", *key, content_digest(one(float(value)), ())) for key, value in self.rivals]

    def keys(self, _tool, _chamber, _trace, _stream, lo, hi):
        found = sorted(key for key in self.kept if lo <= key[0] <= hi)
        return np.asarray([k[0] for k in found], np.int64), np.asarray([k[1] for k in found], np.int64)


def segment(records, timed):
    n = len(records)
    time = np.asarray([r[0] for r in records], np.int64)
    seq = time.copy() if timed else np.asarray([r[1] for r in records], np.int64)
    zeros = np.zeros(n, np.int32)
    frames = np.arange(n, dtype=np.int64)
    values = np.asarray([float(r[2]) for r in records])
    return Segment(
        zeros,
        zeros,
        zeros - 1,
        seq,
        time,
        time,
        zeros,
        frames,
        frames,
        np.ones(n, np.int64),
        values,
        frames * 10,
        frames * 10 + 10,
        zeros,
        NO_TEXTS,
    )


def deliver(batches, period_us, cuts):
    """Ingest ``batches`` one commit each, each in ``cuts`` segments; return outcomes, kept records, conflicts and runs."""
    index, history, outcomes = FakeIndex(), FakeHistory(), Counter()
    for batch in batches:
        registry = Registry()
        registry.stream(KEY, period_us)
        book = KeyBook(index, history, registry, Recent(), Stages())
        for part in np.array_split(np.asarray(batch, np.int64).reshape(-1, 3), cuts):
            rows = [tuple(row) for row in part.tolist()]
            if not rows:
                continue
            piece = segment(rows, period_us >= 0)
            states = book.resolve(piece).state.tolist()
            outcomes.update(states)
            for (time, _, value), seq, state in zip(rows, piece.seq.tolist(), states, strict=True):
                if state == ACCEPTED:
                    assert (time, seq) not in history.kept
                    history.kept[time, seq] = value
                elif state == CONFLICT:
                    history.rivals.append(((time, seq), value))
        index.held = [tuple(row) for row in book.state(0).now.tolist()]
    return outcomes, history, index.held


@given(RECORDS, st.sampled_from([-1, 0, 2]), st.integers(1, 3), st.data())
@settings(max_examples=300, deadline=None)
def test_any_order_and_cut_gives_the_runs_gaps_and_contents_of_the_set(records, period_us, cuts, data):
    shuffled = data.draw(st.permutations(records))
    border = data.draw(st.integers(0, len(records)))
    outcomes, history, runs = deliver([shuffled[:border], shuffled[border:]], period_us, cuts)
    keys = {(t, t if period_us >= 0 else s) for t, s, _ in records}
    step = period_us if period_us <= 0 else period_us * 3 // 2
    assert runs == slow.runs_of(sorted(keys), step)
    if period_us == -1:
        assert gaps_of(np.asarray(runs, np.int64), -1) == slow.gaps_of(sorted(keys))
    contents = {(t, t if period_us >= 0 else s, v) for t, s, v in records}
    stored = {(*key, value) for key, value in [*history.kept.items(), *history.rivals]}
    assert stored == contents
    assert outcomes[ACCEPTED] == len(keys)
    assert outcomes[CONFLICT] == len(contents) - len(keys)
    assert outcomes[DUPLICATE] == len(records) - len(contents)


def test_a_gap_in_a_timed_stream_counts_the_missing_periods():
    runs = np.asarray([[0, 0, 1000, 1000], [4000, 4000, 5000, 5000]], np.int64)
    (gap,) = gaps_of(runs, 1000)
    assert gap == (2000, 3000, 2, 1000, 4000)
    assert gaps_of(runs, 0) == set()
