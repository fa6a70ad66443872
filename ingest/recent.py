"""The newest records of each stream, kept in memory: re-sent messages and windows that span segments rarely need a file read back.

Only a shortcut: what it holds is a copy of kept records, and what it does not hold is looked up in the files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ingest.records import Float64, Int64, Layout
from ingest.segment import Registry, Segment
from kernels.gather import transpose
from kernels.runs import counted, distinct, numbered
from kernels.sequence import find_keys
from storage.history import Contents
from storage.texts import Texts

TAIL_RECORDS = 1024
TAIL_SAMPLES = 1 << 21
TAILS = 2
Place = tuple[str, str | None, str]
"""(tool, chamber, trace)."""


@dataclass(slots=True, frozen=True)
class Tail:
    """The last kept records of one (tool, chamber, trace) with one layout, in order of (time, seq, stream), record-major."""

    place: Place
    layout: Layout
    streams: list[str]
    stream: Int64
    time_us: Int64
    seq: Int64
    window: Int64
    values: Float64
    payloads: list[str]
    payload: Int64
    texts: Texts

    @property
    def width(self) -> int:
        """Samples of a record."""
        return len(self.layout)

    def contents(self, stream: str) -> tuple[Contents, Int64] | None:
        """Return the records of ``stream`` as history would."""
        if stream not in self.streams:
            return None
        at = np.flatnonzero(self.stream == self.streams.index(stream))
        count = np.full(len(at), self.width, np.int64)
        payload = [self.payloads[i] for i in self.payload[at].tolist()]
        bits, texts = self.values.view(np.int64), self.texts.select(at)
        return Contents([stream] * len(at), self.time_us[at], self.seq[at], at * self.width, count, bits, payload, texts), at


@dataclass(slots=True)
class Recent:
    """Tails by place, and the windows all of whose samples they hold. A batch works on a copy and hands it on when it is committed."""

    tails: dict[Place, tuple[Tail, ...]] = field(default_factory=dict)
    windows: frozenset[int] = frozenset()
    revisions: dict[str, int] = field(default_factory=dict)
    """tool -> ledger seq of our own last commit that touched it."""
    broken: set[int] = field(default_factory=set)
    """Windows of the batch at hand of which some samples are not here."""

    def copy(self) -> Recent:
        """Return a copy; tails are never changed."""
        return Recent(dict(self.tails), self.windows, dict(self.revisions))

    def forget_foreign(self, revision_of: Callable[[str], int]) -> None:
        """Drop every tool that somebody else has written to since our own last commit."""
        for place in list(self.tails):
            if revision_of(place[0]) != self.revisions.get(place[0]):
                self._drop(self.tails.pop(place))

    def _drop(self, tails: Iterable[Tail]) -> None:
        for tail in tails:
            self.lose(distinct(tail.window).tolist())

    def leaving(self, place: Place) -> list[int]:
        """Return the windows, all of whose samples are here, of which the next ``add`` to ``place`` will drop some."""
        tails = self.tails.get(place, ())
        dropped = [tail.window for tail in tails[: len(tails) + 1 - TAILS]]
        return sorted(self.windows.intersection(np.concatenate(dropped).tolist())) if dropped else []

    def lose(self, window_ids: Iterable[int]) -> None:
        """Give up windows: not all of their samples are here, or some lie in another window now."""
        lost = set(window_ids)
        self.windows -= lost
        self.broken |= lost

    def add(
        self,
        place: Place,
        layout: Layout,
        segment: Segment,
        registry: Registry,
        record: Int64,
        window: Int64,
        payload_ids: Sequence[str],
        new_ids: set[int],
    ) -> None:
        """Keep the end of a group of accepted records (sorted; ``window`` beside)."""
        numbers, stream = numbered(segment.stream[record])
        last = np.zeros(len(numbers), np.int64)
        last[stream] = np.arange(len(record))
        running = np.isin(window, window[last][window[last] > 0])
        begun = np.isin(window, np.asarray(sorted(self.windows), np.int64))
        keep = np.flatnonzero(running | begun | (np.arange(len(record)) >= len(record) - TAIL_RECORDS))
        if len(keep) * len(layout) > TAIL_SAMPLES:
            keep = np.arange(max(0, len(record) - TAIL_RECORDS), len(record))
        chosen = record[keep]
        sheet = np.empty((len(layout), len(chosen)))
        flat = transpose(segment.values, segment.value_start[chosen], np.arange(len(layout)), sheet).T
        tail = Tail(
            place,
            layout,
            [registry.streams[i].stream for i in numbers.tolist()],
            stream[keep],
            segment.time_us[chosen],
            segment.seq[chosen],
            window[keep],
            np.ascontiguousarray(flat).reshape(-1),
            list(payload_ids),
            segment.payload[chosen].astype(np.int64),
            segment.texts.select(chosen),
        )
        ids, counts = counted(window)
        held = dict(zip(*(a.tolist() for a in counted(tail.window)), strict=True))
        whole = {i for i, n in zip(ids.tolist(), counts.tolist(), strict=True) if i and held.get(i) == n}
        self.lose(set(ids.tolist()) - whole)
        self.windows |= {i for i in whole & new_ids if i not in self.broken}
        self.lose(whole - self.windows)
        before = self.tails.get(place, ())
        self._drop(before[: len(before) + 1 - TAILS])
        self.tails[place] = (*before[len(before) + 1 - TAILS :], tail)

    def find(self, place: Place, stream: str, time_us: Int64, seq: Int64) -> Iterable[tuple[Contents, Int64]]:
        """Yield (contents, index into them or -1) of each tail for sorted keys."""
        for tail in self.tails.get(place, ()):
            found = tail.contents(stream)
            if found is not None:
                yield found[0], find_keys(time_us, seq, found[0].time_us, found[0].seq)

    def samples(self, tool: str, window_id: int) -> dict[str, list[tuple[Tail, Int64]]] | None:
        """Return trace -> (tail, records) of a window whose samples are all here, else None."""
        if window_id not in self.windows:
            return None
        parts: dict[str, list[tuple[Tail, Int64]]] = {}
        for place, tails in self.tails.items():
            if place[0] == tool:
                for tail in tails:
                    at = np.flatnonzero(tail.window == window_id)
                    if len(at):
                        parts.setdefault(place[2], []).append((tail, at))
        return parts
