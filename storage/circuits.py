"""Circuits as the lake keeps them: the breaker of one tool or of one dependency, as rows of ``circuits_log``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa

from storage.catalog import rows
from storage.schema import rows_table

CLOSED, OPEN, HALF_OPEN = "closed", "open", "half-open"
HOLD, FORCE = "hold", "force"
TOOL, DEPENDENCY = "tool", "dependency"
DERIVED, CATALOG, DATA_STORE = "derived", "catalog", "data store"
"""The dependencies: derived work (features), and what a commit can't do without."""


class Circuit(NamedTuple):
    """One circuit. Times are microseconds UTC; ``failures`` counts the failing payloads since the last sound one.

    ``override``: '' or what was put in its place under approval until ``until_us`` (None: until that is ended): ``hold``, it is open
    whatever comes; ``force``, it is closed, and no delivery is judged; ``force SHA-256``, so for the one delivery of these bytes.
    """

    kind: str
    tool: str
    state: str = CLOSED
    reason: str = ""
    opened_us: int | None = None
    retry_us: int | None = None
    failures: int = 0
    override: str = ""
    until_us: int | None = None

    def overridden(self, now_us: int) -> str:
        """Return the override that is in force, '' where none is."""
        return self.override if self.until_us is None or self.until_us > now_us else ""

    def at(self, now_us: int) -> str:
        """Return closed, open or half-open: open, and the cool-down is over."""
        if (override := self.overridden(now_us)) in (HOLD, FORCE):
            return OPEN if override == HOLD else CLOSED
        return HALF_OPEN if self.state == OPEN and (self.retry_us or 0) <= now_us else self.state


def log_table(circuits: Iterable[Circuit], revision: int) -> pa.Table:
    """Return the rows of ``circuits_log`` that ledger entry ``revision`` writes."""
    written = [
        (c.tool, c.state, c.reason, c.opened_us, c.retry_us, c.failures, c.kind, revision, c.override or None, c.until_us) for c in circuits
    ]
    return rows_table("circuits_log", written)


def logged(connection: duckdb.DuckDBPyConnection, after: int) -> list[tuple[Any, ...]]:
    """Return (circuit's fields..., revision) of the rows that ledger entries after ``after`` wrote, oldest first."""
    return rows(
        connection,
        "SELECT kind, tool, state, reason, epoch_us(opened_at), epoch_us(retry_at), failures, "
        "coalesce(override, ''), epoch_us(override_until), revision FROM lake.main.circuits_log "
        "WHERE revision > ? ORDER BY revision",
        [after],
    )
