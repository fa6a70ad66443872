"""The working index: what a writer looks up by key, in a SQLite file beside the catalog.

It is derived: every row follows from the lake's tables, it stands at one ledger entry (``head``), and a lost or stale index is
rolled forward or rebuilt from them. It holds payload keys, the runs of each stream, and the newest windows, so that a commit
reads what it touches and not the history. It is written under the writer lock only, except for the window ids it hands out.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from storage.circuits import DEPENDENCY, Circuit
from storage.indexschema import SCHEMA
from storage.points import reached

Item = TypeVar("Item")


class Run(NamedTuple):
    """A stretch of a stream without a gap, in (time, seq) order: its first and last record."""

    time_lo: int
    seq_lo: int
    time_hi: int
    seq_hi: int


class Head(NamedTuple):
    """Ledger seq and hash, the index's generation, and the catalog's snapshot (-1: unknown) at which the index stands."""

    seq: int
    hash: str
    generation: str
    snapshot: int


class Facts(NamedTuple):
    """What is known of a tool: the last event and trace times (None: no data), and whether it has texts and conflicts at all."""

    last_event_us: int | None = None
    last_trace_us: int | None = None
    has_texts: bool = False
    has_conflicts: bool = False


class KnownPayload(NamedTuple):
    """A payload that was committed."""

    payload_id: str
    sha256: str
    ledger_seq: int


@dataclass(slots=True, frozen=True)
class Window:
    """One window as the index holds it; times in microseconds UTC, chamber and context '' where there is none.

    ``source``: 'event' or 'context'. ``ordinal`` tells event windows apart that start at the same time.
    """

    window_id: int
    tool: str
    chamber: str
    lot: str | None
    wafer: str | None
    recipe: str | None
    step: str | None
    occurrence: int
    started_us: int
    ended_us: int | None
    complete: bool
    source: str
    ordinal: int
    revision: int = 0

    @property
    def context(self) -> tuple[str | None, str | None, str | None, str | None]:
        """(lot, wafer, recipe, step)."""
        return self.lot, self.wafer, self.recipe, self.step

    def same_row(self, other: Window) -> bool:
        """Tell whether both show the same to an analyst."""
        return replace(self, revision=0) == replace(other, revision=0)


_WINDOW = "window_id, tool, chamber, lot, wafer, recipe, step, occurrence, started_us, ended_us, complete, source, ordinal, revision"

_FIELDS = tuple(_WINDOW.split(", "))
_COMPLETE = _FIELDS.index("complete")

row_of = attrgetter(*_FIELDS)
"""A window as the index stores it."""


Place = tuple[str, str, tuple[str | None, ...]]
"""Tool, chamber ('' for none) and (lot, wafer, recipe, step)."""

AT_ONCE = 100
"""What one query asks for: SQLite before 3.32 takes 999 parameters."""


def _some(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    return (items[a : a + AT_ONCE] for a in range(0, len(items), AT_ONCE))


def window_of(row: Sequence[Any]) -> Window:
    """Build a window from a row of its columns, in their order."""
    fields = list(row)
    fields[_COMPLETE] = bool(fields[_COMPLETE])
    return Window(*fields)


class Index:
    """The open index file of one lake."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        with self._transaction():
            for statement in SCHEMA.split(";"):
                self._db.execute(statement)
            if self._db.execute("SELECT count(*) FROM head").fetchone()[0] == 0:
                self._db.execute("INSERT INTO head VALUES (0, '', ?, -1)", [uuid.uuid4().hex])

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            reached("index_written")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
        reached("index_committed", Path(f"{self._path}-wal"))

    def head(self) -> Head:
        """Return where the index stands."""
        return Head(*self._db.execute("SELECT seq, hash, generation, snapshot FROM head").fetchone())

    def stand_at(self, snapshot: int) -> None:
        """Note the catalog's snapshot at which the index stands."""
        self._db.execute("UPDATE head SET snapshot = ?", [snapshot])
        reached("index_stands")

    def clear(self) -> None:
        """Forget everything; the next roll-forward rebuilds it."""
        with self._transaction():
            for table in ("payload", "stream", "run", "window", "tool", "chamber", "checkpoint", "dictionary", "sensor", "circuit", "owed"):
                self._db.execute(f"DELETE FROM {table}")
            self._db.execute("UPDATE head SET seq = 0, hash = '', generation = ?, snapshot = -1", [uuid.uuid4().hex])

    def scrub(self) -> None:
        """Write the file anew, without streams that have no records and without what its free pages hold."""
        self._db.execute("DELETE FROM stream WHERE id NOT IN (SELECT stream FROM run)")
        self._db.execute("VACUUM")
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    # --- payloads

    def payload(self, key: str) -> KnownPayload | None:
        """Return the committed payload of ``key``."""
        row = self._db.execute("SELECT payload_id, sha256, ledger_seq FROM payload WHERE key = ?", [key]).fetchone()
        return None if row is None else KnownPayload(*row)

    def size_known(self, size: int) -> bool:
        """Tell whether any committed payload was delivered with ``size`` bytes."""
        return self._db.execute("SELECT 1 FROM payload WHERE size = ? LIMIT 1", [size]).fetchone() is not None

    def tool_revision(self, tool: str) -> int:
        """Return the last ledger seq that touched ``tool``, 0 where none."""
        row = self._db.execute("SELECT revision FROM tool WHERE tool = ?", [tool]).fetchone()
        return 0 if row is None else int(row[0])

    def facts(self, tool: str) -> Facts:
        """Return what is known of ``tool``."""
        row = self._db.execute("SELECT last_event_us, last_trace_us, has_texts, has_conflicts FROM tool WHERE tool = ?", [tool]).fetchone()
        return Facts() if row is None else Facts(row[0], row[1], bool(row[2]), bool(row[3]))

    def dictionary(self, tool: str) -> str | None:
        """Return the newest learned dictionary of ``tool`` as JSON."""
        row = self._db.execute("SELECT body FROM dictionary WHERE tool = ?", [tool]).fetchone()
        return None if row is None else str(row[0])

    def sensors(self, tool: str, trace: str) -> dict[int, tuple[str | None, ...]]:
        """Return position -> (sensor, unit, svid, source) as last named."""
        found = self._db.execute("SELECT position, sensor, unit, svid, source FROM sensor WHERE tool = ? AND trace = ?", [tool, trace])
        return {row[0]: tuple(row[1:]) for row in found}

    # --- circuits

    def circuits(self) -> list[Circuit]:
        """Return every circuit that was ever opened, or counts failures."""
        return [Circuit(*row) for row in self._db.execute(f"SELECT {', '.join(Circuit._fields)} FROM circuit")]

    def circuit_revision(self, kind: str, tool: str) -> int:
        """Return the ledger seq that last changed a circuit, 0 where none did."""
        row = self._db.execute("SELECT revision FROM circuit WHERE kind = ? AND tool = ?", [kind, tool]).fetchone()
        return 0 if row is None else int(row[0])

    def owed(self, most: int) -> list[tuple[int, str]]:
        """Return (window_id, tool) of at most ``most`` windows whose features are owed."""
        return self._db.execute("SELECT window_id, tool FROM owed ORDER BY window_id LIMIT ?", [most]).fetchall()

    def owing(self, window_ids: Sequence[int]) -> set[int]:
        """Return those of ``window_ids`` whose features are owed."""
        found: set[int] = set()
        for some in _some(window_ids):
            marks = ", ".join("?" * len(some))
            found.update(row[0] for row in self._db.execute(f"SELECT window_id FROM owed WHERE window_id IN ({marks})", some))
        return found

    def note_trouble(self, dependency: str, reason: str, now_us: int) -> None:
        """Remember that a dependency failed, here because the lake could not take it: the next commit writes it down."""
        self._db.execute(
            "INSERT INTO trouble VALUES (?, ?, ?, 1) "
            "ON CONFLICT (dependency) DO UPDATE SET reason = excluded.reason, failures = failures + 1",
            [dependency, reason, now_us],
        )
        reached("trouble_noted")

    def troubles(self) -> list[tuple[str, str, int, int]]:
        """Return (dependency, reason, since_us, failures) of what failed and is not written down yet."""
        return self._db.execute("SELECT dependency, reason, since_us, failures FROM trouble ORDER BY dependency").fetchall()

    # --- streams

    def runs(self, tool: str, chamber: str, trace: str, stream: str) -> list[tuple[int, int, int, int]]:
        """Return the stream's runs in (time, seq) order, as the fields of :class:`Run`: there may be very many."""
        found = self._db.execute(
            "SELECT time_lo, seq_lo, time_hi, seq_hi FROM run JOIN stream ON run.stream = stream.id "
            "WHERE tool = ? AND chamber = ? AND trace = ? AND stream.stream = ? ORDER BY time_lo, seq_lo, time_hi, seq_hi",
            [tool, chamber, trace, stream],
        )
        return found.fetchall()

    def streams(self, tool: str | None = None) -> list[tuple[str, str, str, str, bool, int]]:
        """Return (tool, chamber, trace, stream, timed, period_us) of all streams, or of one tool's."""
        where, parameters = ("", []) if tool is None else (" WHERE tool = ?", [tool])
        found = self._db.execute(f"SELECT tool, chamber, trace, stream, timed, period_us FROM stream{where}", parameters)
        return [(*row[:4], bool(row[4]), row[5]) for row in found]

    def chambers(self, tool: str) -> set[str]:
        """Return the chambers ('' for none) that streams and events of ``tool`` have named so far."""
        return {row[0] for row in self._db.execute("SELECT chamber FROM chamber WHERE tool = ?", [tool])}

    # --- windows

    def reserve_window_ids(self, count: int) -> int:
        """Return the first of ``count`` window ids that nobody else will get."""
        with self._transaction():
            row = self._db.execute("SELECT next FROM counter WHERE name = 'window'").fetchone()
            first = int(row[0]) if row else 1
            self._db.execute(
                "INSERT INTO counter VALUES ('window', ?) ON CONFLICT (name) DO UPDATE SET next = excluded.next", [first + count]
            )
        return first

    def counter(self, name: str) -> int | None:
        """Return a number that was noted under ``name``."""
        row = self._db.execute("SELECT next FROM counter WHERE name = ?", [name]).fetchone()
        return None if row is None else int(row[0])

    def note(self, **numbers: int) -> None:
        """Note numbers under names of their own."""
        with self._transaction():
            self._db.executemany("INSERT OR REPLACE INTO counter VALUES (?, ?)", list(numbers.items()))

    def windows_after(self, tool: str, chamber: str, from_us: int) -> list[Window]:
        """Return the event windows of a chamber that end after, or are open at, ``from_us``, in order of start."""
        before = self._db.execute(
            "SELECT max(started_us) FROM window WHERE tool = ? AND chamber = ? AND source = 'event' AND started_us < ?",
            [tool, chamber, from_us],
        ).fetchone()[0]
        found = self._db.execute(
            f"SELECT {_WINDOW} FROM window WHERE tool = ? AND chamber = ? AND source = 'event' AND started_us >= ? "
            "ORDER BY started_us, ordinal",
            [tool, chamber, from_us if before is None else before],
        )
        return [window_of(row) for row in found]

    def windows_between(self, tool: str, from_us: int, to_us: int) -> list[Window]:
        """Return every window of ``tool`` that touches the times from ``from_us`` to ``to_us``."""
        found = self._db.execute(
            f"SELECT {_WINDOW} FROM window WHERE tool = ? AND started_us <= ? AND coalesce(ended_us, ?) >= ?", [tool, to_us, to_us, from_us]
        )
        return [window_of(row) for row in found]

    def windows_of_contexts(self, places: Iterable[Place]) -> list[Window]:
        """Return every window that is at one of ``places`` exactly."""
        found: list[Window] = []
        for some in _some([(tool, chamber, *context) for tool, chamber, context in places]):
            marks = ", ".join(["(?, ?, ?, ?, ?, ?)"] * len(some))
            rows = self._db.execute(
                f"WITH place (tool_, chamber_, lot_, wafer_, recipe_, step_) AS (VALUES {marks}) "
                f"SELECT {_WINDOW} FROM place CROSS JOIN window ON tool = tool_ AND chamber = chamber_ "
                "AND lot IS lot_ AND wafer IS wafer_ AND recipe IS recipe_ AND step IS step_",
                [field for place in some for field in place],
            )
            found += [window_of(row) for row in rows]
        return found

    def window(self, window_id: int) -> Window | None:
        """Return the newest state of a window."""
        row = self._db.execute(f"SELECT {_WINDOW} FROM window WHERE window_id = ?", [window_id]).fetchone()
        return None if row is None else window_of(row)

    def checkpoint(self, tool: str, before_us: int) -> tuple[int, str] | None:
        """Return (time_us, state) of the newest checkpoint of the tool's events that lies before ``before_us``."""
        row = self._db.execute(
            "SELECT time_us, state FROM checkpoint WHERE tool = ? AND time_us < ? ORDER BY time_us DESC LIMIT 1", [tool, before_us]
        ).fetchone()
        return None if row is None else (int(row[0]), str(row[1]))

    # --- roll-forward

    def apply(self, delta: IndexDelta) -> None:
        """Take one committed ledger entry's changes and stand at it."""
        with self._transaction():
            db = self._db
            db.executemany("DELETE FROM payload WHERE payload_id = ?", [(name,) for name in delta.payloads_removed])
            db.executemany("INSERT OR REPLACE INTO payload VALUES (?, ?, ?, ?, ?)", delta.payloads)
            db.executemany(
                "INSERT OR IGNORE INTO stream (tool, chamber, trace, stream, timed, period_us) VALUES (?, ?, ?, ?, ?, ?)", delta.streams
            )
            db.executemany(
                "DELETE FROM run WHERE stream = (SELECT id FROM stream WHERE tool = ? AND chamber = ? AND trace = ? AND stream = ?) "
                "AND time_lo = ? AND seq_lo = ? AND time_hi = ? AND seq_hi = ?",
                delta.runs_removed,
            )
            db.executemany(
                "INSERT OR REPLACE INTO run SELECT id, ?, ?, ?, ? FROM stream WHERE tool = ? AND chamber = ? AND trace = ? AND stream = ?",
                [(*row[4:], *row[:4]) for row in delta.runs_added],
            )
            db.executemany("DELETE FROM window WHERE window_id = ?", [(window_id,) for window_id in delta.windows_removed])
            db.executemany(f"INSERT OR REPLACE INTO window ({_WINDOW}) VALUES ({', '.join('?' * 14)})", map(row_of, delta.windows))
            db.executemany("DELETE FROM checkpoint WHERE tool = ? AND time_us >= ?", delta.checkpoints_void)
            db.executemany("INSERT OR REPLACE INTO checkpoint VALUES (?, ?, ?, ?)", delta.checkpoints)
            db.executemany(
                "INSERT INTO tool VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (tool) DO UPDATE SET revision = excluded.revision, "
                "last_event_us = coalesce(max(last_event_us, excluded.last_event_us), last_event_us, excluded.last_event_us), "
                "last_trace_us = coalesce(max(last_trace_us, excluded.last_trace_us), last_trace_us, excluded.last_trace_us), "
                "has_texts = max(has_texts, excluded.has_texts), has_conflicts = max(has_conflicts, excluded.has_conflicts)",
                [(tool, revision, *delta.facts.get(tool, Facts())) for tool, revision in delta.tools.items()],
            )
            db.executemany("INSERT OR REPLACE INTO dictionary VALUES (?, ?)", delta.dictionaries)
            db.executemany("INSERT OR REPLACE INTO sensor VALUES (?, ?, ?, ?, ?, ?, ?)", delta.sensors)
            db.executemany("DELETE FROM chamber WHERE tool = ? AND chamber = ?", delta.chambers_removed)
            db.executemany("INSERT OR IGNORE INTO chamber VALUES (?, ?)", delta.chambers)
            db.executemany("INSERT OR REPLACE INTO circuit VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", delta.circuits)
            db.executemany("INSERT OR REPLACE INTO owed VALUES (?, ?)", [row[:2] for row in delta.owed if row[2]])
            db.executemany("DELETE FROM owed WHERE window_id = ?", [row[:1] for row in delta.owed if not row[2]])
            db.executemany("DELETE FROM trouble WHERE dependency = ?", [(row[1],) for row in delta.circuits if row[0] == DEPENDENCY])
            highest = max((w.window_id for w in delta.windows), default=0) + 1
            db.execute(
                "INSERT INTO counter VALUES ('window', ?) ON CONFLICT (name) DO UPDATE SET next = max(next, excluded.next)", [highest]
            )
            db.execute("UPDATE head SET seq = ?, hash = ?", [delta.seq, delta.hash])


@dataclass(slots=True)
class IndexDelta:
    """What one ledger entry changes in the index. Chambers are '' where there is none.

    ``tools``: tool -> the ledger seq that touched it. ``checkpoints_void``: (tool, time_us) from which checkpoints no longer hold.
    ``circuits``: (the fields of a circuit..., revision). ``owed``: (window_id, tool, owed or no longer).
    """

    seq: int
    hash: str
    payloads: Iterable[tuple[str, str, str, int, int]] = ()
    payloads_removed: Iterable[str] = ()
    streams: Iterable[tuple[str, str, str, str, bool, int]] = ()
    runs_removed: Iterable[tuple[str, str, str, str, int, int, int, int]] = ()
    runs_added: Iterable[tuple[str, str, str, str, int, int, int, int]] = ()
    windows: Sequence[Window] = ()
    windows_removed: Iterable[int] = ()
    tools: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[str, Facts] = field(default_factory=dict)
    dictionaries: Iterable[tuple[str, str]] = ()
    sensors: Iterable[tuple[Any, ...]] = ()
    chambers: Iterable[tuple[str, str]] = ()
    chambers_removed: Iterable[tuple[str, str]] = ()
    checkpoints_void: Iterable[tuple[str, int]] = ()
    checkpoints: Iterable[tuple[str, int, int, str]] = ()
    circuits: Sequence[tuple[Any, ...]] = ()
    owed: Sequence[tuple[int, str, bool]] = ()
