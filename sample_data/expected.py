"""What must come out when the deliveries are ingested into an empty lake: worked out from what was put in, without loadlock.

Plain sets, sorting and numpy by the rules of the contract. Times are microseconds UTC.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CONTEXT = ("lot", "wafer", "recipe", "step")
FATES = ("accepted", "conflict", "duplicate")
PLACES = ("accepted", "duplicate", "conflict", "quarantined", "other")
TABLE = "cmp"


class Stream(NamedTuple):
    """The scope of a sequence; ``key`` stands for the key values of a table."""

    tool: str
    chamber: str
    trace: str
    key: tuple[str, ...] = ()


class Record(NamedTuple):
    """One record: None in ``values`` where no number was sent; ``texts`` are (position from 1, text)."""

    stream: Stream
    seq: int
    time_us: int
    values: tuple[float | None, ...]
    texts: tuple[tuple[int, str], ...] = ()
    context: tuple[str | None, ...] | None = None


class Event(NamedTuple):
    """One event; ``said`` holds the context values that its report names, ``role`` is start, end or None."""

    tool: str
    ceid: int | None
    time_us: int | None
    body: bytes
    system: int
    chamber: str | None = None
    said: tuple[tuple[str, str], ...] = ()
    role: str | None = None


@dataclass(frozen=True)
class Frame:
    """A stretch of a payload: data (records or an event), ``other``, or a piece that can't be understood (``reason``)."""

    data: bytes
    records: tuple[Record, ...] = ()
    event: Event | None = None
    reason: str | None = None


@dataclass
class Payload:
    """One delivered file: its frames tile its bytes."""

    file: str
    tool: str
    frames: list[Frame] = field(default_factory=list)

    def data(self) -> bytes:
        """Return the bytes before any compression."""
        return b"".join(frame.data for frame in self.frames)


def microseconds(moment: datetime) -> int:
    """Return the time of an aware ``moment``."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def readable(time_us: int | None) -> str | None:
    """Return ``time_us`` as ISO 8601 text in UTC, without zone."""
    return None if time_us is None else (EPOCH + timedelta(microseconds=time_us)).replace(tzinfo=None).isoformat(timespec="microseconds")


class Account:
    """The running account of a tool, a payload or all."""

    def __init__(self) -> None:
        self.bytes: Counter[str] = Counter()
        self.records: Counter[str] = Counter()
        self.frames: Counter[str] = Counter()
        self.samples = self.events = self.texts = 0

    def rows(self) -> dict[str, Any]:
        """Return the account under the names of the contract; every figure balances by construction."""
        return {
            "bytes": {"in": sum(self.bytes.values()), **{place: self.bytes[place] for place in PLACES}},
            "records": {
                "decoded": sum(self.records.values()),
                **{fate: self.records[fate] for fate in ("accepted", "duplicate", "conflict")},
            },
            "frames": {"quarantined": self.frames["quarantined"], "other": self.frames["other"]},
            "samples": self.samples,
            "events": self.events,
            "texts": self.texts,
        }


class Outcome:
    """Takes payloads in the order of arrival and keeps what the lake must then hold."""

    def __init__(self) -> None:
        self.kept: dict[tuple[Stream, int, int], Record] = {}
        self.conflicts: dict[tuple[Stream, int, int], set[tuple[Any, ...]]] = defaultdict(set)
        self.events: dict[tuple[Any, ...], Event] = {}
        self.accounts: dict[str, Account] = defaultdict(Account)
        self.quarantine: list[dict[str, Any]] = []

    def take(self, payload: Payload) -> None:
        """Account for one payload: in sum, for its tool and for itself."""
        accounts = [self.accounts[name] for name in ("", payload.tool, payload.file)]
        offset = 0
        for frame in payload.frames:
            fates = [self._record(record, accounts) for record in frame.records]
            if frame.event is not None:
                fates.append(self._event(frame.event, accounts))
            stop = offset + len(frame.data)
            if frame.reason is not None:
                place = "quarantined"
                self.quarantine.append({"file": payload.file, "start": offset, "stop": stop, "reason_class": frame.reason})
            else:
                place = min(fates, key=FATES.index, default="other")
            for account in accounts:
                account.bytes[place] += len(frame.data)
                account.records.update(fates)
                account.frames[place] += 1
            offset = stop

    def _record(self, record: Record, accounts: list[Account]) -> str:
        key = (record.stream, record.seq, record.time_us)
        content = (record.values, record.texts)
        kept = self.kept.get(key)
        if kept is None:
            self.kept[key] = record
            for account in accounts:
                account.samples += len(record.values)
                account.texts += len(record.texts)
            return "accepted"
        if content == (kept.values, kept.texts) or content in self.conflicts[key]:
            return "duplicate"
        self.conflicts[key].add(content)
        return "conflict"

    def _event(self, event: Event, accounts: list[Account]) -> str:
        who = (event.system,) if event.time_us is None else (event.ceid, event.time_us)
        key = (event.tool, event.body, *who)
        if key in self.events:
            return "duplicate"
        self.events[key] = event
        for account in accounts:
            account.events += 1
        return "accepted"

    def gaps(self) -> list[dict[str, Any]]:
        """Return the numbers missing between neighbours of one epoch, stream by stream (sequences that count only)."""
        streams: dict[Stream, list[tuple[int, int]]] = defaultdict(list)
        for stream, seq, time_us in self.kept:
            if stream.trace != TABLE:
                streams[stream].append((time_us, seq))
        rows = []
        for stream, numbers in sorted(streams.items()):
            numbers.sort()
            for (after_us, last), (before_us, seq) in pairwise(numbers):
                if seq > last + 1:
                    first_missing, last_missing = last + 1, seq - 1
                    where = {"tool": stream.tool, "chamber": stream.chamber, "trace": stream.trace, "stream": ""}
                    span = {"first_missing": first_missing, "last_missing": last_missing, "missing": last_missing - first_missing + 1}
                    rows.append(where | span | {"after_ts": readable(after_us), "before_ts": readable(before_us)})
        return rows

    def windows(self) -> list[dict[str, Any]]:
        """Return all windows, of events and of context columns, with their occurrence; times in microseconds."""
        rows = [*self._event_windows(), *self._column_windows()]
        rows.sort(key=lambda row: (row["tool"], row["chamber"], row["started_us"]))
        ranks: Counter[tuple[Any, ...]] = Counter()
        for row in rows:
            same = tuple(row[name] for name in ("tool", "chamber", *CONTEXT))
            ranks[same] += 1
            row["occurrence"] = ranks[same]
        return rows

    def _event_windows(self) -> Iterable[dict[str, Any]]:
        chambers = {(stream.tool, stream.chamber) for stream, _, _ in self.kept if stream.trace != TABLE}
        for tool, chamber in sorted(chambers):
            mine = [e for e in self.events.values() if e.tool == tool and e.time_us is not None and e.chamber in (None, chamber)]
            mine.sort(key=lambda e: (e.time_us, e.role != "end"))
            context: dict[str, str] = {}
            window: dict[str, Any] | None = None
            for event in mine:
                context.update(event.said)
                if event.role is not None and window is not None:
                    same = all(window[name] == value for name, value in event.said)
                    yield window | {"ended_us": event.time_us, "complete": event.role == "end" and same}
                    window = None
                if event.role == "start":
                    window = {
                        "tool": tool,
                        "chamber": chamber,
                        **{name: context.get(name) for name in CONTEXT},
                        "started_us": event.time_us,
                    }
            if window is not None:
                yield window | {"ended_us": None, "complete": False}

    def _column_windows(self) -> Iterable[dict[str, Any]]:
        times: dict[tuple[str, str, tuple[str | None, ...]], list[int]] = defaultdict(list)
        for record in self.kept.values():
            if record.context is not None:
                times[record.stream.tool, record.stream.chamber, record.context].append(record.time_us)
        for (tool, chamber, context), times_us in times.items():
            edges = {"started_us": min(times_us), "ended_us": max(times_us), "complete": True}
            yield {"tool": tool, "chamber": chamber, **dict(zip(CONTEXT, context, strict=True)), **edges}

    def members(self, window: Mapping[str, Any]) -> dict[str, list[Record]]:
        """Return the kept records of ``window`` by trace, in order of (ts, seq)."""
        stop = np.inf if window["ended_us"] is None else window["ended_us"]
        context = tuple(window[name] for name in CONTEXT)
        found: dict[str, list[Record]] = defaultdict(list)
        for record in self.kept.values():
            if (record.stream.tool, record.stream.chamber) != (window["tool"], window["chamber"]):
                continue
            inside = window["started_us"] <= record.time_us < stop if record.context is None else record.context == context
            if inside:
                found[record.stream.trace].append(record)
        for records in found.values():
            records.sort(key=lambda record: (record.time_us, record.seq))
        return found


STATISTICS: Mapping[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "first": lambda values, _: values[0],
    "last": lambda values, _: values[-1],
    "min": lambda values, _: values.min(),
    "max": lambda values, _: values.max(),
    "mean": lambda values, _: values.mean(),
    "std": lambda values, _: values.std(ddof=1) if len(values) > 1 else None,
    "median": lambda values, _: np.median(values),
    "p05": lambda values, _: np.quantile(values, 0.05),
    "p95": lambda values, _: np.quantile(values, 0.95),
    "slope": lambda values, seconds: np.polyfit(seconds - seconds.mean(), values - values.mean(), 1)[0] if len(values) > 1 else None,
    "area": np.trapezoid,
}
"""Statistic to its plain form, of float64 values and seconds since the window's start."""


def features(records: list[Record], position: int, started_us: int) -> dict[str, Any]:
    """Return the feature row of the sensor at ``position`` (from 1) over a window's ``records``."""
    pairs = [((r.time_us - started_us) / 1e6, r.values[position - 1]) for r in records]
    sent = np.array([(second, value) for second, value in pairs if value is not None], dtype=np.float64).reshape(-1, 2)
    row: dict[str, Any] = {"n": len(sent), "missing": len(pairs) - len(sent)}
    for name, statistic in STATISTICS.items():
        value = statistic(sent[:, 1], sent[:, 0]) if len(sent) else None
        row[name] = None if value is None else float(f"{value:.12g}")
    return row
