"""Exact deduplication: whatever the order, the cuts and the repetitions, keys, contents and gaps come out as from the set of records."""

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.gaps import gap_count, gaps_of
from ingest.keys import ACCEPTED, CONFLICT, DUPLICATE, KeyBook, StreamState, content_digest
from ingest.recent import Recent
from ingest.records import StreamKey
from ingest.segment import Registry, Segment
from ingest.timing import Stages
from kernels import sequence
from kernels.reference import sequence as slow
from storage.history import Contents
from storage.texts import NO_TEXTS

STREAMS = 3
KEYS = [StreamKey("T", None, "7", f"s{i}") for i in range(STREAMS)]
RECORDS = st.lists(st.tuples(st.just(0), st.integers(0, 12), st.integers(0, 9), st.integers(0, 2)), min_size=1, max_size=40)
COUNTERS, SPARSE, PERIODS = -1, 0, 2


class FakeIndex:
    """Runs as the last batch left them."""

    def __init__(self):
        self.held = {key.stream: [] for key in KEYS}

    def runs(self, _tool, _chamber, _trace, stream):
        return self.held[stream]


class FakeHistory:
    """Kept records, (stream, time, seq) -> value, and conflicts in memory."""

    def __init__(self):
        self.kept = {}
        self.rivals = []

    def contents(self, _tool, _chamber, _trace, streams, ranges):
        inside = lambda key: key[0] in streams and any(lo <= key[1] <= hi for lo, hi in ranges)  # noqa: E731
        rows = sorted((key, value) for key, value in self.kept.items() if inside(key))
        n = len(rows)
        column = lambda i: np.asarray([key[i] for key, _ in rows], np.int64)  # noqa: E731
        bits = np.asarray([float(v) for _, v in rows], np.float64).view(np.int64)
        names = [key[0] for key, _ in rows]
        return Contents(names, column(1), column(2), np.arange(n), np.ones(n, np.int64), bits, ["p"] * n, NO_TEXTS)

    def has_conflicts(self, _tool):
        return True

    def conflicts(self, _tool, _chamber, _trace, streams, _ranges):
        one = lambda value: np.asarray([value], np.float64).view(np.int64)  # noqa: E731
        return [(*key, content_digest(one(float(value)), ())) for key, value in self.rivals if key[0] in streams]

    def keys(self, _tool, _chamber, _trace, stream, lo, hi):
        found = sorted(key[1:] for key in self.kept if key[0] == stream and lo <= key[1] <= hi)
        return np.asarray([k[0] for k in found], np.int64), np.asarray([k[1] for k in found], np.int64)


def segment(records, timed):
    n = len(records)
    stream = np.asarray([r[0] for r in records], np.int32)
    time = np.asarray([r[1] for r in records], np.int64)
    seq = time.copy() if timed else np.asarray([r[2] for r in records], np.int64)
    zeros = np.zeros(n, np.int32)
    frames = np.arange(n, dtype=np.int64)
    values = np.asarray([float(r[3]) for r in records])
    return Segment(
        stream,
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
    """Ingest ``batches`` one commit each, each in ``cuts`` segments; return outcomes, kept records, conflicts and runs by stream."""
    index, history, outcomes = FakeIndex(), FakeHistory(), Counter()
    for batch in batches:
        registry = Registry()
        for key in KEYS:
            registry.stream(key, period_us)
        book = KeyBook(index, history, registry, Recent(), Stages())
        for part in np.array_split(np.asarray(batch, np.int64).reshape(-1, 4), cuts):
            rows = [tuple(row) for row in part.tolist()]
            if not rows:
                continue
            piece = segment(rows, period_us >= 0)
            states = book.resolve(piece).state.tolist()
            outcomes.update(states)
            for (stream, time, _, value), seq, state in zip(rows, piece.seq.tolist(), states, strict=True):
                key = (KEYS[stream].stream, time, seq)
                if state == ACCEPTED:
                    assert key not in history.kept
                    history.kept[key] = value
                elif state == CONFLICT:
                    history.rivals.append((key, value))
        for number, key in enumerate(KEYS):
            index.held[key.stream] = [tuple(row) for row in book.state(number).now.tolist()]
    return outcomes, history, index.held


def check(records, arrived, border, period_us, cuts):
    """Deliver ``arrived`` in two batches and compare with what the set ``records`` comes to."""
    outcomes, history, held = deliver([arrived[:border], arrived[border:]], period_us, cuts)
    sent = [(KEYS[stream].stream, t, t if period_us >= 0 else s, v) for stream, t, s, v in records]
    step = period_us if period_us <= 0 else period_us * 3 // 2
    for name, runs in held.items():
        keys = sorted({row[1:3] for row in sent if row[0] == name})
        assert runs == slow.runs_of(keys, step)
        if period_us == COUNTERS:
            assert gaps_of(np.asarray(runs, np.int64).reshape(-1, 4), -1) == slow.gaps_of(keys)
    contents = set(sent)
    assert {(*key, value) for key, value in [*history.kept.items(), *history.rivals]} == contents
    assert outcomes[ACCEPTED] == len({row[:3] for row in sent})
    assert outcomes[CONFLICT] == len(contents) - outcomes[ACCEPTED]
    assert outcomes[DUPLICATE] == len(records) - len(contents)


@given(RECORDS, st.sampled_from([COUNTERS, SPARSE, PERIODS]), st.integers(1, 3), st.data())
@settings(max_examples=300, deadline=None)
def test_any_order_and_cut_gives_the_runs_gaps_and_contents_of_the_set(records, period_us, cuts, data):
    shuffled = data.draw(st.permutations(records))
    check(records, shuffled, data.draw(st.integers(0, len(records))), period_us, cuts)


@st.composite
def nearly_in_order(draw):
    """Streams that interleave, mostly in order: some records late, some again, with other values or at another time."""
    arrivals = []
    for stream in range(STREAMS):
        restart = draw(st.integers(1, 60))
        arrivals += [(float(k), stream, 2 * k, k % restart, 0) for k in range(draw(st.integers(0, 60)))]
    for _ in range(draw(st.integers(0, 12)) if arrivals else 0):
        at, stream, time, seq, value = arrivals[draw(st.integers(0, len(arrivals) - 1))]
        kind = draw(st.sampled_from(["again", "late", "other value", "other time"]))
        if kind == "late":
            arrivals.remove((at, stream, time, seq, value))
        arrivals.append((at + draw(st.integers(0, 30)) + 0.5, stream, time + (kind == "other time"), seq, value + (kind == "other value")))
    return [tuple(row) for _, *row in sorted(arrivals)]


@given(nearly_in_order(), st.sampled_from([COUNTERS, SPARSE, PERIODS]), st.integers(1, 3), st.data())
@settings(max_examples=300, deadline=None)
def test_streams_nearly_in_order_give_the_runs_gaps_and_contents_of_the_set(records, period_us, cuts, data):
    check(records, records, data.draw(st.integers(0, len(records))), period_us, cuts)


def test_streams_in_order_are_neither_sorted_nor_matched(monkeypatch):
    for name in ("order_keys", "covered", "merge_runs"):
        monkeypatch.setattr(sequence, name, None)
    records = [(k % STREAMS, k, k, 0) for k in range(60)]
    check(records, records, 30, COUNTERS, 2)


PAIRS = st.sets(st.tuples(st.integers(0, 40), st.integers(0, 12)), max_size=30)


@given(PAIRS, PAIRS, st.sampled_from([COUNTERS, SPARSE, PERIODS]))
@settings(max_examples=300, deadline=None)
def test_what_changed_of_a_stream_holds_all_its_new_and_gone_runs_and_gaps(old, new, period_us):
    step = period_us if period_us <= 0 else period_us * 3 // 2
    before, now = (np.asarray(slow.runs_of(sorted(keys), step), np.int64).reshape(-1, 4) for keys in (old, old | new))
    state = StreamState(KEYS[0], period_us, before, now)
    rows_before, rows_now = ({tuple(row) for row in runs.tolist()} for runs in (before, now))
    assert state.added() == sorted(rows_now - rows_before)
    assert state.removed() == sorted(rows_before - rows_now)
    gaps_before, gaps_now = (gaps_of(runs, period_us) for runs in (before, now))
    some_before, some_now = (gaps_of(runs, period_us) for runs in state.changed(around=1))
    assert some_now - some_before == gaps_now - gaps_before
    assert some_before - some_now == gaps_before - gaps_now
    assert gap_count(now, period_us) == len(gaps_now)


def test_a_hundred_million_keys_in_order_leave_less_than_a_megabyte():
    streams, together, batches = 1_000, 1_000_000, 100
    stream = np.arange(together, dtype=np.int32) % streams
    seq = np.arange(together) // streams
    run_stream, runs = np.empty(0, np.int32), np.empty((0, 4), np.int64)
    for _ in range(batches):
        late, *_, run_stream, runs, _ = sequence.advance(stream, seq * 10, seq, run_stream, runs, np.full(streams, COUNTERS))
        assert len(late) == 0
        seq += together // streams
    assert run_stream.nbytes + runs.nbytes < 1 << 20
    assert (runs[:, 3] - runs[:, 1] + 1).sum() == together * batches


def test_a_stream_of_thousands_of_gaps_is_as_exact_as_a_set():
    rng = np.random.default_rng(3)
    held = set()
    run_stream, runs, step = np.empty(0, np.int32), np.empty((0, 4), np.int64), np.full(1, COUNTERS)
    for _ in range(20):
        seq = rng.integers(0, 60_000, 2_000)
        stream = np.zeros(len(seq), np.int32)
        late, *keys, run_stream, runs, begin = sequence.advance(stream, seq * 10, seq, run_stream, runs, step)
        inside = sequence.covered(*keys, begin, runs)
        order, *outside = sequence.order_keys(*(column[inside < 0] for column in keys))
        first = ~sequence.same_as_previous(*outside)
        run_stream, runs = sequence.merge_runs(*(column[first] for column in outside), run_stream, runs, step)
        new = np.ones(len(seq), bool)
        new[late] = False
        new[late[np.flatnonzero(inside < 0)[order[first]]]] = True
        expected = []
        for number in seq.tolist():
            expected.append(number not in held)
            held.add(number)
        assert new.tolist() == expected
    assert len(runs) > 5_000
    assert [tuple(run) for run in runs.tolist()] == slow.runs_of([(10 * number, number) for number in held], COUNTERS)


def test_a_gap_in_a_timed_stream_counts_the_missing_periods():
    runs = np.asarray([[0, 0, 1000, 1000], [4000, 4000, 5000, 5000]], np.int64)
    (gap,) = gaps_of(runs, 1000)
    assert gap == (2000, 3000, 2, 1000, 4000)
    assert gaps_of(runs, 0) == set()
