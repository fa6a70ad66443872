"""Sequence keys: which records of a segment are new, duplicates or conflicts; exact, for ever.

The state of a stream is its list of runs (``kernels.sequence``): it grows with gaps and epochs, not with data. A record inside a run
is looked up in history, contents included; all others are new without a look.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from ingest.recent import Recent
from ingest.records import Int32, Int64, StreamKey
from ingest.segment import Registry, Segment
from ingest.timing import Stages
from kernels import sequence
from kernels.runs import begins, distinct
from storage.history import Contents, History, merge_ranges, spans_of
from storage.index import Index, Run
from storage.texts import same_texts

ACCEPTED, CONFLICT, DUPLICATE = 0, 1, 2
"""Outcomes, the gravest for a frame's account last: a frame counts as the least of its records' outcomes."""


def content_digest(bits: Int64, texts: Sequence[tuple[int, str]]) -> str:
    """Return the SHA-256 of a record's content: its value bits (NaN canonical) and its texts by position."""
    digest = hashlib.sha256(np.ascontiguousarray(bits, "<i8").tobytes())
    digest.update(repr(tuple(texts)).encode())
    return digest.hexdigest()


@dataclass(slots=True)
class StreamState:
    """The runs of one stream: (r, 4) int64 of (time_lo, seq_lo, time_hi, seq_hi), as the batch found them and as they are now.

    ``period_us`` is -1 for a counter, 0 for a sparse time, else the period of a timed stream.
    """

    key: StreamKey
    period_us: int
    before: Int64
    now: Int64

    @property
    def timed(self) -> bool:
        """Tell whether the sequence is a time."""
        return self.period_us >= 0

    @property
    def step(self) -> int:
        """The largest step without a gap, as ``kernels.sequence`` takes it: a timed stream's is one and a half periods."""
        return self.period_us if self.period_us <= 0 else self.period_us * 3 // 2

    def changed(self, around: int = 0) -> tuple[Int64, Int64]:
        """Return the stretches of runs, before and now, outside of which nothing changed, and ``around`` runs on either side."""
        before, now = self.before, self.now
        n = min(len(before), len(now))
        head = np.flatnonzero((before[:n] != now[:n]).any(1))
        begin = int(head[0]) if len(head) else n
        tail = np.flatnonzero((before[len(before) - n :][::-1] != now[len(now) - n :][::-1]).any(1))
        same = min(int(tail[0]) if len(tail) else n, n - begin)
        begin, same = max(0, begin - around), max(0, same - around)
        return before[begin : len(before) - same], now[begin : len(now) - same]

    def added(self) -> list[Run]:
        """Return the runs that are new."""
        before, now = self.changed()
        return sorted(self._rows(now) - self._rows(before))

    def removed(self) -> list[Run]:
        """Return the runs that are gone."""
        before, now = self.changed()
        return sorted(self._rows(before) - self._rows(now))

    @staticmethod
    def _rows(runs: Int64) -> set[Run]:
        return {Run(*row) for row in runs.tolist()}


@dataclass(slots=True)
class Outcome:
    """What became of the ``n`` records of a segment; ``kept`` names the payload that holds a conflicting record's key."""

    state: np.ndarray
    kept: dict[int, str | int] = field(default_factory=dict)
    content: dict[int, str] = field(default_factory=dict)
    """Digests of the conflicting records' contents."""
    lacking: list[int] = field(default_factory=list)
    """Records that are stored, but for their texts, which were lost."""


class KeyBook:
    """The sequence keys of the streams that a batch touches."""

    def __init__(self, index: Index, history: History, registry: Registry, recent: Recent, stages: Stages) -> None:
        self._index = index
        self._history = history
        self._registry = registry
        self._recent = recent
        self._stages = stages
        self.states: dict[int, StreamState] = {}
        self.restoring: list[str] | None = None
        """While lost rows are made up: the ids of the payloads, by number. A record that its run holds and history lacks is new."""
        self._conflicts: dict[tuple[int, int, int], set[str]] = {}
        self._differing: list[tuple[int, int, str | int]] = []

    def state(self, stream: int) -> StreamState:
        """Return the state of a stream, loaded at first touch."""
        found = self.states.get(stream)
        if found is None:
            key = self._registry.streams[stream]
            rows = self._index.runs(key.tool, key.chamber or "", key.trace, key.stream)
            runs = np.fromiter(chain.from_iterable(rows), np.int64, 4 * len(rows)).reshape(-1, 4)
            found = self.states[stream] = StreamState(key, self._registry.periods[stream], runs, runs)
        return found

    def resolve(self, segment: Segment) -> Outcome:
        """Decide over every record of ``segment`` and take the new ones into the streams' runs.

        A record beyond its stream's last run is new at once; only the late ones are looked at further.
        """
        outcome = Outcome(np.zeros(len(segment.seq), np.int8))
        if len(segment.seq) == 0:
            return outcome
        numbers = distinct(segment.stream).tolist()
        before = self._runs(numbers)
        step = np.zeros(numbers[-1] + 1, np.int64)
        step[numbers] = [self.states[number].step for number in numbers]
        late, *keys, run_stream, runs, begin = sequence.advance(segment.stream, segment.time_us, segment.seq, *before, step)
        broken: list[int] = []
        if len(late):
            inside = sequence.covered(*keys, begin, runs)
            fresh = self._settle_late(segment, outcome, late, inside, before)
            odd = (inside >= 0) & (outcome.state[late] == ACCEPTED)
            broken = [number for number in np.unique(segment.stream[late[odd]]).tolist() if not self.states[number].timed]
            run_stream, runs = sequence.merge_runs(*fresh, run_stream, runs, step)
        accepted = outcome.state == ACCEPTED
        rebuilt = self._rebuild(segment, accepted, broken, step) if broken else None
        grown = distinct(segment.stream[accepted])
        self._keep(np.setdiff1d(grown, broken), run_stream, runs)
        if rebuilt is not None:
            self._keep(np.asarray(broken), *rebuilt)
        return outcome

    def _runs(self, numbers: Sequence[int]) -> tuple[Int32, Int64]:
        """Return the runs of some streams in one table, and the stream of each."""
        tables = [self.state(number).now for number in numbers]
        return np.repeat(np.asarray(numbers, np.int32), [len(table) for table in tables]), np.concatenate(tables)

    def _keep(self, numbers: np.ndarray, run_stream: Int32, runs: Int64) -> None:
        """Give some streams their runs."""
        begin, end = np.searchsorted(run_stream, numbers), np.searchsorted(run_stream, numbers, side="right")
        for number, a, b in zip(numbers.tolist(), begin.tolist(), end.tolist(), strict=True):
            self.states[number].now = runs[a:b]

    def _settle_late(
        self, segment: Segment, outcome: Outcome, late: Int64, inside: Int64, before: tuple[Int32, Int64]
    ) -> tuple[Int32, Int64, Int64]:
        """Decide over the late records; return the sorted keys of those that are new and lie in no run.

        ``inside``: the run that holds each, this segment's included; ``before``: the runs without them.
        """
        count = int(segment.stream.max()) + 1
        last = np.full((count, 2), sequence.LOWEST, np.int64)
        last[before[0]] = before[1][:, 2:]
        last_time, last_seq = last[segment.stream[late]].T
        time_us = segment.time_us[late]
        beyond = (time_us > last_time) | ((time_us == last_time) & (segment.seq[late] > last_seq))
        # What a late record inside a run repeats is in history, or it came earlier in this segment.
        within, stored, outside = np.zeros(count, bool), np.zeros(len(segment.seq), bool), np.zeros(len(segment.seq), bool)
        within[segment.stream[late[(inside >= 0) & beyond]]] = True
        stored[late] = (inside >= 0) & ~beyond
        outside[late] = inside < 0
        chosen = np.flatnonzero(stored | outside | within[segment.stream])
        order, stream, times, seq = sequence.order_keys(segment.stream[chosen], segment.time_us[chosen], segment.seq[chosen])
        record = chosen[order]
        repeated = sequence.same_as_previous(stream, times, seq)
        if repeated.any() or stored.any():
            with self._stages("overlap"):
                self._compare(segment, outcome, record, stream, repeated, stored[record])
        fresh = outside[record] & (outcome.state[record] == ACCEPTED)
        return stream[fresh], times[fresh], seq[fresh]

    def _rebuild(self, segment: Segment, accepted: np.ndarray, numbers: Sequence[int], step: Int64) -> tuple[Int32, Int64]:
        """Return (streams, runs) of counters of which a new key lies inside a run.

        A number that its run holds already, at another time, is another key, so the run breaks where it stands.
        """
        run_stream, runs = self._runs(numbers)
        chosen = np.flatnonzero(accepted & np.isin(segment.stream, numbers))
        keys = segment.stream[chosen], segment.time_us[chosen], segment.seq[chosen]
        inside = sequence.covered(*keys, np.searchsorted(run_stream, np.arange(len(step) + 1)), runs)
        broken = np.unique(inside[inside >= 0])
        added = [keys]
        for r in broken.tolist():
            number = int(run_stream[r])
            times, seqs = _within(self._history.keys(*self.states[number].key, int(runs[r, 0]), int(runs[r, 2])), runs[r])
            added.append((np.full(len(times), number, np.int32), times, seqs))
        _, *ordered = sequence.order_keys(*(np.concatenate(column) for column in zip(*added, strict=True)))
        merged: tuple[Int32, Int64] = sequence.merge_runs(*ordered, np.delete(run_stream, broken), np.delete(runs, broken, axis=0), step)
        return merged

    def _compare(
        self,
        segment: Segment,
        outcome: Outcome,
        record: Int64,
        stream: np.ndarray,
        repeated: np.ndarray,
        stored: np.ndarray,
    ) -> None:
        """Compare contents where keys meet: with the kept record in history, else with the first of the segment."""
        bounds = begins(stream).tolist()
        spans = list(zip(bounds, [*bounds[1:], len(record)], strict=True))
        leader = np.maximum.accumulate(np.where(repeated, 0, np.arange(len(record))))
        wanted = stored & ~repeated
        for places, contents, found in self._lookups(segment, record, stream, wanted, spans):
            known = np.full(len(record), -1, np.int64)
            known[places] = found
            wanted[places[found >= 0]] = False
            rivals = np.flatnonzero(known[leader] >= 0)
            self._judge(segment, outcome, record[rivals], contents, known[leader[rivals]], stream[rivals])
            repeated = repeated & (known[leader] < 0)
        if self.restoring is not None:
            self._leave_conflicts(segment, outcome, record[wanted].tolist())
        rivals = np.flatnonzero(repeated)
        if len(rivals):
            self._judge_within(segment, outcome, record[rivals], record[leader[rivals]], stream[rivals])
        self._settle_differing(segment, outcome)

    def _lookups(
        self, segment: Segment, record: Int64, stream: np.ndarray, wanted: np.ndarray, spans: Sequence[tuple[int, int]]
    ) -> Iterator[tuple[Int64, Contents, Int64]]:
        """Yield (places in sorted order, contents, index into them or -1): what is in memory first, then what the files hold.

        The caller clears ``wanted`` where a key was found, so the files are asked for the rest only.
        """
        for a, b in spans:
            if wanted[a:b].any():
                key = self._registry.streams[int(stream[a])]
                places = a + np.flatnonzero(wanted[a:b])
                at = record[places]
                for contents, found in self._recent.find(key[:3], key.stream, segment.time_us[at], segment.seq[at]):
                    yield places, contents, found
        groups: dict[tuple[str, str | None, str], list[tuple[int, int, int]]] = {}
        for a, b in spans:
            if wanted[a:b].any():
                key = self._registry.streams[int(stream[a])]
                groups.setdefault(key[:3], []).append((a, b, int(stream[a])))
        for (tool, chamber, trace), members in groups.items():
            places = np.concatenate([a + np.flatnonzero(wanted[a:b]) for a, b, _ in members])
            ranges = merge_ranges(np.unique(segment.time_us[record[places]]))
            names = [self._registry.streams[number].stream for _, _, number in members]
            contents = self._history.contents(tool, chamber, trace, names, ranges)
            found = np.full(len(places), -1, np.int64)
            begin = spans_of(contents.stream)
            offset = 0
            for a, b, number in members:
                count = int(wanted[a:b].sum())
                lo, hi = begin.get(self._registry.streams[number].stream, (0, 0))
                at = record[places[offset : offset + count]]
                hit = sequence.find_keys(segment.time_us[at], segment.seq[at], contents.time_us[lo:hi], contents.seq[lo:hi])
                found[offset : offset + count] = np.where(hit >= 0, hit + lo, -1)
                offset += count
            yield places, contents, found

    def _judge(self, segment: Segment, outcome: Outcome, record: Int64, contents: Contents, known: Int64, stream: np.ndarray) -> None:
        same = sequence.same_content(*segment.contents(record), contents.bits, contents.start[known], contents.count[known])
        alike = same_texts(segment.texts, record, contents.texts, known)
        if self.restoring is not None:
            self._find_lacking(segment, outcome, record, contents, known, same, alike)
        same &= alike
        outcome.state[record[same]] = DUPLICATE
        for i in np.flatnonzero(~same).tolist():
            self._differing.append((int(record[i]), int(stream[i]), contents.payload[int(known[i])]))

    def _judge_within(self, segment: Segment, outcome: Outcome, record: Int64, first: Int64, stream: np.ndarray) -> None:
        same = sequence.same_content(*segment.contents(record), *segment.contents(first))
        same &= same_texts(segment.texts, record, segment.texts, first)
        outcome.state[record[same]] = DUPLICATE
        for i in np.flatnonzero(~same).tolist():
            self._differing.append((int(record[i]), int(stream[i]), int(segment.payload[first[i]])))

    def _settle_differing(self, segment: Segment, outcome: Outcome) -> None:
        """Book contents that differ from the kept one: a conflict the first time one is seen, a duplicate after that."""
        differing, self._differing = self._differing, []
        places = [(stream, int(segment.time_us[record]), int(segment.seq[record])) for record, stream, _ in differing]
        self._load_conflicts({place for place in places if place not in self._conflicts})
        bits, start, count = segment.contents(np.asarray([record for record, _, _ in differing], np.int64))
        for i, (place, (record, _, kept)) in enumerate(zip(places, differing, strict=True)):
            content = content_digest(bits[start[i] : start[i] + count[i]], segment.texts.of(record))
            if content in self._conflicts[place]:
                outcome.state[record] = DUPLICATE
                continue
            self._conflicts[place].add(content)
            outcome.state[record] = CONFLICT
            outcome.kept[record] = kept
            outcome.content[record] = content

    def _find_lacking(
        self, segment: Segment, outcome: Outcome, record: Int64, contents: Contents, known: Int64, same: np.ndarray, alike: np.ndarray
    ) -> None:
        """Find the stored records whose texts alone were lost; they count as ``alike``."""
        bare = contents.texts.places(known)[1] == 0
        names = self.restoring or []
        done: set[int] = set()
        for i in np.flatnonzero(same & ~alike & bare).tolist():
            if contents.payload[int(known[i])] == names[int(segment.payload[record[i]])] and int(known[i]) not in done:
                done.add(int(known[i]))
                outcome.lacking.append(int(record[i]))
                alike[i] = True

    def _leave_conflicts(self, segment: Segment, outcome: Outcome, records: Sequence[int]) -> None:
        """Let records that stand as conflicts stay what they are, though the record that they contradict is lost."""
        tools = {key.tool for key in self._registry.streams if self._history.has_conflicts(key.tool)}
        some = [record for record in records if self._registry.streams[int(segment.stream[record])].tool in tools]
        places = [(int(segment.stream[record]), int(segment.time_us[record]), int(segment.seq[record])) for record in some]
        self._load_conflicts({place for place in places if place not in self._conflicts})
        for record, place in zip(some, places, strict=True):
            if not self._conflicts[place]:
                continue
            bits, start, count = segment.contents(np.asarray([record], np.int64))
            if content_digest(bits[start[0] : start[0] + count[0]], segment.texts.of(record)) in self._conflicts[place]:
                outcome.state[record] = DUPLICATE

    def _load_conflicts(self, places: set[tuple[int, int, int]]) -> None:
        """Look up the conflicting contents that are stored for ``places`` (stream, time, seq)."""
        self._conflicts |= {place: set() for place in places}
        groups: dict[tuple[str, str | None, str], list[tuple[int, int, int]]] = {}
        for place in sorted(places):
            groups.setdefault(self._registry.streams[place[0]][:3], []).append(place)
        for (tool, chamber, trace), members in groups.items():
            names = {self._registry.streams[stream].stream: stream for stream, _, _ in members}
            ranges = merge_ranges(np.unique(np.asarray([time_us for _, time_us, _ in members], np.int64)))
            if not self._history.has_conflicts(tool):
                continue
            for name, time_us, seq, content in self._history.conflicts(tool, chamber, trace, sorted(names), ranges):
                stored = self._conflicts.get((names[name], time_us, seq))
                if stored is not None:
                    stored.add(content)


def _within(keys: tuple[Int64, Int64], run: Int64) -> tuple[Int64, Int64]:
    """Keep the keys that lie in ``run`` (others may share its first or last time)."""
    time_us, seq = keys
    after = (time_us > run[0]) | ((time_us == run[0]) & (seq >= run[1]))
    before = (time_us < run[2]) | ((time_us == run[2]) & (seq <= run[3]))
    return time_us[after & before], seq[after & before]
