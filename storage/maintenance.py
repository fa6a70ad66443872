"""Maintenance as a whole: what ``compact`` does, and what runs by itself after an ingest when it is due."""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta

import duckdb

from storage import compaction, expiry, logmerge, sweeping
from storage.errors import is_interrupt
from storage.upkeep import Items, Upkeep

DUE, DONE = "maintenance_due_us", "maintenance_seq"
"""Numbers in the index: when it is due again, and the ledger entry at which it was last done."""

AGAIN = timedelta(hours=1)
"""After a failure."""


def compact(upkeep: Upkeep, *, everything: bool = False, dry_run: bool = False) -> Items:
    """Merge the small files of closed tool-days, then flush and merge the other tables."""
    days = compaction.compact_days(upkeep, everything=everything, dry_run=dry_run)
    upkeep.tell("other tables", 0, 0)
    return days + logmerge.compact_logs(upkeep, everything=everything, dry_run=dry_run)


def run(upkeep: Upkeep) -> dict[str, Items]:
    """Do all that the rules ask for now."""
    return {"compact": compact(upkeep), "expire": expiry.expire(upkeep), "sweep": sweeping.sweep(upkeep)}


def run_when_due(upkeep: Upkeep) -> str | None:
    """Do it if it is due: once a day, after the day before is closed, or after many commits. Return why it was put off, if it was.

    An ingest that has committed must not fail by it, whatever goes wrong.
    """
    store, index, now = upkeep.store, upkeep.store.index, upkeep.store.clock()
    due, done = index.counter(DUE), index.counter(DONE)
    seq = index.head().seq
    if due is None or done is None:
        index.note(**{DUE: _next(now, upkeep), DONE: seq})
        return None
    if _microseconds(now) < due and seq - done < upkeep.rules.commits:
        return None
    try:
        run(upkeep)
        index.note(**{DUE: _next(now, upkeep), DONE: index.head().seq})
    except Exception as error:
        with contextlib.suppress(duckdb.Error):
            store.connection.execute("ROLLBACK")
        if is_interrupt(error):
            raise
        index.note(**{DUE: _microseconds(now + AGAIN), DONE: index.head().seq})
        return f"maintenance was put off, nothing was lost ({type(error).__name__}: {error})"
    return None


def _next(now: datetime, upkeep: Upkeep) -> int:
    """Return when the day of ``now`` will be closed."""
    midnight = datetime(now.year, now.month, now.day) + timedelta(days=1)
    return _microseconds(midnight + upkeep.rules.quiet)


def _microseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1)) // timedelta(microseconds=1)
