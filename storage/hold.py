"""A hold on the catalog's file between transactions, for whoever commits often.

DuckDB opens the SQLite file for each transaction and closes it behind. Whoever is the last to close a file copies its log back and removes
it, under a lock that nobody may open the file against; and DuckDB's SQLite waits for a lock in whole seconds. So each commit of a lone
writer cost a copy, and whoever opened the lake meanwhile slept for one to four seconds. While somebody holds the file open, nobody is last.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import duckdb

LOG_BYTES_MOST = 16 << 20
"""With a longer log there is no hold until the next transaction ended: a hold is a reader, and keeps the log from being begun anew."""


class Hold:
    """One writer's hold: a transaction of its own that has read something. ``log``: the catalog's write-ahead log."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._cursor: duckdb.DuckDBPyConnection | None = None

    def renew(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Hold the catalog as it is now, and let go of it as it was. A hold that can't be had is done without."""
        before, self._cursor = self._cursor, None
        with contextlib.suppress(duckdb.Error, OSError):
            if not self._log.exists() or self._log.stat().st_size <= LOG_BYTES_MOST:
                cursor = connection.cursor()
                cursor.execute("BEGIN")
                cursor.execute("SELECT count(*) FROM __ducklake_metadata_lake.ducklake_metadata").fetchall()
                self._cursor = cursor
        _end(before)

    def release(self) -> None:
        """Let go."""
        before, self._cursor = self._cursor, None
        _end(before)


def _end(cursor: duckdb.DuckDBPyConnection | None) -> None:
    if cursor is not None:
        with contextlib.suppress(duckdb.Error):
            cursor.execute("ROLLBACK")
        cursor.close()
