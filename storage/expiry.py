"""Lets old snapshots go: the catalog forgets them, and the files and rows that only they needed are released.

Files that are released stay on disk until :mod:`storage.sweeping` removes them: a long query may still read them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from storage.index import IndexDelta
from storage.points import reached
from storage.store import Change, Store
from storage.upkeep import META, Items, Upkeep

_SNAPSHOTS = f"""
SELECT s.snapshot_id, c.commit_message, l.recorded_at FROM {META}.ducklake_snapshot s
LEFT JOIN {META}.ducklake_snapshot_changes c USING (snapshot_id)
LEFT JOIN lake.main.ledger l ON l.seq = json_extract(c.commit_extra_info, '$.seq')::BIGINT
ORDER BY 1
"""
_UNSEEN = f"""
end_snapshot IS NOT NULL AND NOT EXISTS (
  SELECT 1 FROM {META}.ducklake_snapshot s WHERE s.snapshot_id >= begin_snapshot AND s.snapshot_id < end_snapshot)
"""
"""Rows of the catalog that no snapshot shows."""


@dataclass(slots=True, frozen=True)
class Snapshot:
    """A snapshot, the action that made it, and its time by the ledger (that of the entry before where it has none of its own)."""

    number: int
    action: str | None
    time: datetime


def snapshots(store: Store) -> list[Snapshot]:
    """Return all snapshots in order."""
    found = []
    time: datetime = store.rows("SELECT min(recorded_at) FROM lake.main.ledger WHERE seq = (SELECT min(seq) FROM lake.main.ledger)")[0][0]
    for number, action, recorded_at in store.rows(_SNAPSHOTS):
        time = recorded_at or time
        found.append(Snapshot(int(number), action, time))
    return found


def expirable(upkeep: Upkeep) -> list[Snapshot]:
    """Return the snapshots that the rules no longer keep.

    Of a day that is past ``keep_all`` one is kept: the compaction's that names the fewest files, else the day's last.
    """
    rules, now = upkeep.rules, upkeep.store.clock()
    listed = snapshots(upkeep.store)
    kept = {listed[-1].number} | {one.number for one in listed if one.time >= now - rules.keep_all}
    daily: dict[str, list[Snapshot]] = {}
    for one in listed:
        if one.number not in kept and one.time >= now - rules.keep:
            daily.setdefault(f"{one.time:%Y-%m-%d}", []).append(one)
    named = _files_named(upkeep.store, [one.number for some in daily.values() for one in some if one.action == "compact"])
    for some in daily.values():
        best = min((one for one in some if one.number in named), key=lambda one: (named[one.number], -one.number), default=some[-1])
        kept.add(best.number)
    return [one for one in listed if one.number not in kept]


def _files_named(store: Store, numbers: list[int]) -> dict[int, int]:
    """Return snapshot -> data files that it names."""
    if not numbers:
        return {}
    return dict(
        store.rows(
            f"SELECT s.number, count(f.data_file_id) FROM (SELECT unnest(?)::BIGINT AS number) s LEFT JOIN {META}.ducklake_data_file f "
            "ON f.begin_snapshot <= s.number AND (f.end_snapshot IS NULL OR f.end_snapshot > s.number) GROUP BY 1",
            [numbers],
        )
    )


def expire(upkeep: Upkeep, *, dry_run: bool = False) -> Items:
    """Let the snapshots go that are due, in one commit; return them."""
    store = upkeep.store
    if dry_run:
        with store.reading():
            return [_item(one) for one in expirable(upkeep)]
    if not expirable(upkeep):
        return []
    with store.locked(upkeep.wait_s):
        gone = expirable(upkeep)
        if not gone:
            return []
        numbers = [one.number for one in gone]
        kept = len(snapshots(store)) - len(gone)
        body = {"software": upkeep.software, "snapshots": len(gone), "first": numbers[0], "last": numbers[-1], "kept": kept}
        entry = store.commit(lambda _seq: Change("expire", upkeep.actor, "", body, IndexDelta(0, ""), expired=numbers))
        reached("snapshots_gone")
        forget_rows(store)
    return [_item(one) | {"ledger_seq": entry.seq} for one in gone]


def _item(one: Snapshot) -> dict[str, object]:
    return {"snapshot": one.number, "action": one.action, "time": one.time.isoformat()}


def forget_rows(store: Store) -> int:
    """Remove the rows in the catalog itself that no snapshot shows, which DuckLake keeps for ever; the caller holds the lock."""
    total = 0
    store.connection.execute("BEGIN")
    for (name,) in store.rows(f"SELECT table_name FROM {META}.ducklake_inlined_data_tables"):
        total += int(store.rows(f"DELETE FROM {META}.{name} WHERE {_UNSEEN}")[0][0])
    reached("rows_forgotten")
    store.connection.execute("COMMIT")
    return total
