"""The lake on disk: made once, opened often, changed only by one commit at a time under the writer lock."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from storage import ledger
from storage.catalog import INLINE_ROWS, lacking, open_catalog, show_views
from storage.errors import CatalogDown, IntegrityError, StoreDown
from storage.files import StagedFile
from storage.hold import Hold
from storage.index import Index, IndexDelta
from storage.keeper import Keeper, check_catalog
from storage.locks import Waiting, in_turn, on_and_on, writer_lock
from storage.marker import read_marker
from storage.mirror import Mirror
from storage.mirrorbase import inlined, inlined_tables
from storage.patience import NOTHING, answered, out_of_order, patiently
from storage.points import Step, reached
from storage.rollforward import SNAPSHOT, roll_forward
from storage.schema import COLUMNS

REMOVED_TOGETHER = 500
"""Files that one DELETE lets go of: DuckLake finds them by name, and looks at its list of files once for all."""

LIVE = "(SELECT path FROM __ducklake_metadata_lake.ducklake_data_file WHERE end_snapshot IS NULL)"


def utc_now() -> datetime:
    """Return the time in UTC, without zone, to the microsecond."""
    return datetime.now(UTC).replace(tzinfo=None)


@dataclass(slots=True)
class Change:
    """What one commit makes visible, all of it or nothing.

    ``deleted``: table -> SQL predicate of rows to delete, before others come. ``flushed``: table -> row id up to which the rows that the
    catalog itself holds leave it (a file of ``files`` holds them). ``expired``: snapshots that the catalog forgets.
    """

    action: str
    actor: str
    batch_id: str
    body: dict[str, Any]
    index: IndexDelta
    files: list[StagedFile] = field(default_factory=list)
    removed: dict[str, list[Path]] = field(default_factory=dict)
    rows: dict[str, pa.Table] = field(default_factory=dict)
    deleted: dict[str, str] = field(default_factory=dict)
    flushed: dict[str, int] = field(default_factory=dict)
    expired: list[int] = field(default_factory=list)


class Store:
    """An open lake. ``on_step`` is called at each of :data:`storage.points.STEPS`; ``clock`` gives the time of ledger entries.

    ``upgrading``: the lake may be of an older format; then it is read, and its index left alone.
    """

    def __init__(
        self,
        path: Path,
        *,
        read_only: bool = False,
        on_step: Step = reached,
        clock: Callable[[], datetime] = utc_now,
        upgrading: bool = False,
    ) -> None:
        self.path = path = path.resolve()
        self.data = path / "data"
        self.read_only = read_only
        self.on_step = on_step
        self.clock = clock
        self.upgrading = upgrading
        self.marker = read_marker(path, older=upgrading)
        self.connection = patiently_connected(self._connect)
        self._index: Index | None = None
        self._turn = threading.Lock()
        self.on_wait: Waiting = on_and_on
        self._keeper = Keeper(path, Mirror(path / "mirror"))
        self._hold: Hold | None = None

    def _connect(self) -> duckdb.DuckDBPyConnection:
        check_catalog(self.path)
        connection = open_catalog(self.path / "catalog.sqlite", self.data, read_only=self.read_only)
        show_views(connection, lacking(connection) if self.upgrading else ())
        if not self.read_only:
            # A writer reads a file once; keeping its blocks would make memory grow with the input.
            connection.execute("SET enable_external_file_cache = false")
        return connection

    @property
    def index(self) -> Index:
        """The working index (opened at first use, never by readers)."""
        if self._index is None:
            self._index = Index(self.path / "index.sqlite")
        return self._index

    def close(self) -> None:
        """Close the connection and the index."""
        if self._hold is not None:
            self._hold.release()
        with contextlib.suppress(duckdb.ConnectionException):  # closed already
            self.connection.interrupt()  # a query that was broken off runs on otherwise, and would be waited for
        self.connection.close()
        if self._index is not None:
            self._index.close()
            self._index = None

    @contextmanager
    def single_threaded(self) -> Iterator[None]:
        """Let the connection work in the caller's thread alone: a writer's look-ups are small."""
        self.connection.execute("SET threads = 1")
        try:
            yield
        finally:
            with contextlib.suppress(duckdb.Error):
                self.connection.execute("RESET threads")

    @contextmanager
    def held_open(self) -> Iterator[None]:
        """Keep the catalog's file open between transactions (:mod:`storage.hold`), as a caller may already do."""
        if self._hold is not None:
            yield
            return
        hold = self._hold = Hold(self.path / "catalog.sqlite-wal")
        hold.take(self.connection)
        try:
            yield
        finally:
            self._hold = None
            hold.release()

    @contextmanager
    def heeding(self, on_wait: Waiting) -> Iterator[None]:
        """Call ``on_wait`` while the writer lock is waited for."""
        before, self.on_wait = self.on_wait, on_wait
        try:
            yield
        finally:
            self.on_wait = before

    @contextmanager
    def twin(self) -> Iterator[Store]:
        """Yield the same lake, opened once more for another thread of this process."""
        store = Store(self.path, read_only=self.read_only, on_step=self.on_step, clock=self.clock)
        store._turn = self._turn
        try:
            yield store
        finally:
            store.close()

    def rows(self, query: str, parameters: list[Any] | None = None) -> list[tuple[Any, ...]]:
        """Run ``query`` over tables and views, return all rows."""
        reached("lake_asked")
        return self.connection.execute(query, parameters or []).fetchall()

    def arrow(self, query: str, parameters: list[Any] | None = None) -> pa.Table:
        """Run ``query`` over tables and views, return an Arrow table."""
        reached("lake_asked")
        return self.connection.execute(query, parameters or []).to_arrow_table()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Read several things at one snapshot of the lake (and without looking the catalog up for each)."""
        self.connection.execute("BEGIN")
        try:
            yield
        finally:
            with contextlib.suppress(duckdb.Error):
                self.connection.execute("ROLLBACK")

    def at_snapshot(self, snapshot: int) -> None:
        """Attach the lake anew as it was at ``snapshot``."""
        self.connection.close()
        self.connection = open_catalog(self.path / "catalog.sqlite", self.data, read_only=True, snapshot=snapshot)
        show_views(self.connection, lacking(self.connection))

    def snapshot(self) -> int:
        """Return the catalog's newest snapshot; the ledger can't change without it."""
        return int(self.rows(SNAPSHOT)[0][0])

    def head(self) -> tuple[int, str]:
        """Return (seq, hash) of the newest ledger entry in the catalog."""
        found = self.rows("SELECT seq, hash FROM lake.main.ledger ORDER BY seq DESC LIMIT 1")
        return (int(found[0][0]), str(found[0][1])) if found else (0, ledger.GENESIS)

    @contextmanager
    def locked(self, wait_s: float) -> Iterator[None]:
        """Hold the writer lock with the index rolled forward to the ledger's head."""
        with in_turn(self._turn, wait_s, self.on_wait), writer_lock(self.path / "lock", wait_s, self.on_wait):
            with answered("the lock was taken"):
                self.on_step("lock_held")
                acknowledged = self.index.head()
                roll_forward(self.connection, self.index)
                self.on_step("index_current")
                self._keeper.settle(self.connection, self.index.head(), acknowledged)
                self.on_step("mirror_current")
            yield

    def ensure_index(self, wait_s: float) -> None:
        """Roll the index forward if it does not stand at the ledger's head."""
        with answered("the lake was looked at"):
            current = self.index.head().snapshot == self.snapshot()
        if not current:
            with self.locked(wait_s):
                pass

    def commit(self, build: Callable[[int], Change]) -> ledger.Entry:
        """Commit what ``build`` returns for the next ledger seq, in one transaction; the caller holds the lock.

        The outcome of a failed COMMIT is unknown: the catalog is opened anew and the ledger asked before another try (rule R4).
        """
        seq, previous, _, snapshot = self.index.head()
        assert snapshot >= 0, "the index is rolled forward when the lock is taken"
        change = build(seq + 1)
        entry = ledger.seal(seq + 1, self.clock(), change.actor, change.action, change.batch_id, change.body, previous)
        self.on_step("change_built")
        try:
            patiently(lambda: self._try_commit(change, entry, snapshot), duckdb.Error, OSError)
        except OSError as error:
            raise StoreDown(f"the data store failed while the batch was committed ({error}); {NOTHING}") from error
        except duckdb.Error as error:
            raise CatalogDown(f"the catalog did not take the commit ({error}); {NOTHING}") from error
        with contextlib.suppress(OSError, sqlite3.Error, duckdb.Error):  # it is committed: whoever takes the lock next makes up for these
            self._follow(change, entry, snapshot)
            if self._hold is not None:
                self._hold.keep_short()
        return entry

    def _follow(self, change: Change, entry: ledger.Entry, snapshot: int) -> None:
        self.on_step("committed")
        change.index.seq, change.index.hash = entry.seq, entry.hash
        self.index.apply(change.index)
        self.index.stand_at(self.snapshot())
        self.on_step("index_applied")
        self._keeper.follow(self.connection, change, snapshot, self.index.head())
        self.on_step("mirror_followed")

    def _try_commit(self, change: Change, entry: ledger.Entry, snapshot: int) -> None:
        """Commit, unless a try before, whose outcome was not to be known, did."""
        try:
            self._transact(change, entry, snapshot)
        except (duckdb.Error, OSError):
            self.reconnect()
            if not self._recorded(entry):
                raise

    def _transact(self, change: Change, entry: ledger.Entry, snapshot: int) -> None:
        execute = self.connection.execute
        execute("BEGIN")
        self.on_step("begun")
        if self.snapshot() != snapshot:
            execute("ROLLBACK")
            raise IntegrityError("the catalog moved while the writer lock was held; is something else writing to this catalog?")
        self.on_step("head_checked")
        for table, paths in change.removed.items():
            self._remove(table, paths)
        for table, predicate in change.deleted.items():
            execute(f"DELETE FROM lake.main.{table} WHERE {predicate}")
        left = {table: self._flush(table, last) for table, last in change.flushed.items()}
        if change.expired:  # its answer holds times with a zone, which Python can't take without pytz
            execute("SELECT count(*) FROM ducklake_expire_snapshots('lake', versions => ?)", [change.expired]).fetchall()
        self.on_step("files_removed")
        for table in sorted({staged.table for staged in change.files}):
            paths_added = [str(staged.path) for staged in change.files if staged.table == table]
            execute(f"CALL ducklake_add_data_files('lake', '{table}', ?)", [paths_added])
        self.on_step("files_added")
        for table, values in change.rows.items():
            self._insert(table, values)
        self.on_step("rows_inserted")
        execute(
            "INSERT INTO lake.main.ledger VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [entry.seq, entry.recorded_at, entry.actor, entry.action, entry.batch_id, entry.body, entry.prev_hash, entry.hash],
        )
        self.on_step("ledger_inserted")
        extra = ledger.canonical({"batch_id": entry.batch_id, "seq": entry.seq, "hash": entry.hash})
        execute("CALL lake.set_commit_message(?, ?, extra_info => ?)", [entry.actor, entry.action, extra])
        self.on_step("message_set")
        for staged in change.files:
            if not staged.path.exists() or staged.path.stat().st_size != staged.size:
                execute("ROLLBACK")
                raise IntegrityError(f"{staged.path}: a staged file vanished or changed before the commit; run the same command again")
        self.on_step("files_checked")
        self._keeper.record(change, entry, snapshot, left, self.on_step)
        execute("COMMIT")

    def _remove(self, table: str, paths: Sequence[Path]) -> None:
        """Let go of whole files: by default DuckLake would note each of their rows as deleted and go on naming the file."""
        if not paths:
            return
        names = [path.name for path in paths]
        if self.rows(f"SELECT count(*) FROM {LIVE} WHERE split_part(path, '/', -1) IN (SELECT unnest(?))", [names]) != [(len(names),)]:
            self.connection.execute("ROLLBACK")
            raise IntegrityError(f"{table}: another commit removed files that this one replaces; run the same command again")
        limit = f"CALL lake.set_option('data_inlining_row_limit', ?, table_name => '{table}')"
        self.connection.execute(limit, [0])
        for start in range(0, len(paths), REMOVED_TOGETHER):
            some = [str(path) for path in paths[start : start + REMOVED_TOGETHER]]
            self.connection.execute(f"DELETE FROM lake.main.{table} WHERE filename IN ({', '.join('?' * len(some))})", some)
        self.connection.execute(limit, [INLINE_ROWS])

    def _flush(self, table: str, last: int) -> list[pa.Table]:
        """Take the rows up to row id ``last`` out of the catalog, return those that stay in it."""
        names = inlined_tables(self.connection, table)
        where = f"filename IN ({', '.join('?' * len(names))}) AND rowid <= ?"
        self.connection.execute(f"DELETE FROM lake.main.{table} WHERE {where}", [*names, last])
        return list(inlined(self.connection, table))

    def _insert(self, table: str, values: pa.Table) -> None:
        if values.num_rows == 0:
            return
        names = ", ".join(f'"{name}"' for name in COLUMNS[table])
        self.connection.register("incoming", values)
        try:
            self.connection.execute(f"INSERT INTO lake.main.{table} ({names}) SELECT {names} FROM incoming")
        finally:
            self.connection.unregister("incoming")

    def reconnect(self) -> None:
        """Open the catalog anew after an error (rule R4)."""
        with contextlib.suppress(duckdb.Error):
            self.connection.execute("ROLLBACK")
        if self._hold is not None:
            self._hold.release()
        self.connection.close()
        self.connection = self._connect()
        if self._hold is not None:
            self._hold.take(self.connection)

    def _recorded(self, entry: ledger.Entry) -> bool:
        return bool(self.rows("SELECT 1 FROM lake.main.ledger WHERE seq = ? AND hash = ?", [entry.seq, entry.hash]))


def patiently_connected(connect: Callable[[], duckdb.DuckDBPyConnection]) -> duckdb.DuckDBPyConnection:
    """Return what ``connect`` returns; raise :class:`CatalogDown` when the catalog can't be opened, in several tries."""
    try:
        return patiently(connect, duckdb.Error)
    except duckdb.Error as error:
        if not out_of_order(error):
            raise
        raise CatalogDown(f"the catalog can't be opened ({error}); {NOTHING}") from error
