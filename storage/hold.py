"""A hold on the catalog's file between transactions, for whoever commits often.

DuckDB opens the SQLite file for each transaction and closes it behind. Whoever is the last to close a file copies its log back and removes
it, under a lock that nobody may open the file against; and DuckDB's SQLite waits for a lock in whole seconds. So each commit of a lone
writer cost a copy, and whoever opened the lake meanwhile slept for one to four seconds. While somebody holds the file open, nobody is last.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import duckdb

COMMITS_MOST = 64
COMMITS_MOST_OF_A_LONG_LOG = 8
LONG_LOG = 4 << 20
"""After so many commits the log is copied back, and the next one begins it anew; sooner when its file has so many bytes."""


class Hold:
    """One writer's hold: a transaction of its own that has the file open and reads nothing of it, so that it keeps no state of it alive.

    ``log``: the catalog's write-ahead log.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._cursor: duckdb.DuckDBPyConnection | None = None
        self._commits = 0

    def take(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Hold the catalog's file by a cursor of ``connection``. A hold that can't be had is done without."""
        self.release()
        cursor = connection.cursor()
        try:
            cursor.execute("BEGIN")
            _pragma(cursor, "busy_timeout = 0")
        except duckdb.Error:
            _end(cursor)
        else:
            self._cursor = cursor

    def keep_short(self) -> None:
        """After a commit: have the log copied back once it is long, as far as readers let it, and wait for none of them.

        SQLite does it by itself after 1,000 pages, but not on DuckDB's connections, which still read when they commit.
        """
        if self._cursor is None:
            return
        self._commits += 1
        size = self._log.stat().st_size if self._log.exists() else 0
        if self._commits >= (COMMITS_MOST_OF_A_LONG_LOG if size > LONG_LOG else COMMITS_MOST):
            self._commits = 0
            _pragma(self._cursor, "wal_checkpoint(PASSIVE)")

    def release(self) -> None:
        """Let go."""
        before, self._cursor = self._cursor, None
        if before is not None:
            _end(before)


def _pragma(cursor: duckdb.DuckDBPyConnection, words: str) -> None:
    cursor.execute(f"SELECT * FROM sqlite_query('__ducklake_metadata_lake', 'PRAGMA {words}')").fetchall()


def _end(cursor: duckdb.DuckDBPyConnection) -> None:
    with contextlib.suppress(duckdb.Error):
        cursor.execute("ROLLBACK")
    cursor.close()
