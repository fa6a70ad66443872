"""Moves rows that the catalog holds into data files, merges small files of tables without days, and drops what was superseded.

All tables go in one commit. What is dropped stays where a kept snapshot needs it: in the old files, and in the catalog's own history.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from storage.compaction import DAILY, read
from storage.files import StagedFile, Stager
from storage.index import IndexDelta
from storage.mirrorbase import inlined_tables
from storage.points import reached
from storage.schema import COLUMNS, arrow_schema, fitted
from storage.store import Change, Store
from storage.upkeep import DataFile, Items, Upkeep, data_files, names_all, swept

FLUSH_ROWS = 64
"""Rows of a table that the catalog may go on holding."""

MERGED_ROWS = 1 << 19
MERGED_BYTES = 16 << 20
"""More is not merged at a time; what is read into memory grows with both."""

LONG_ROWS = {"ledger": 1 << 16, "quarantine_log": 64}
"""As ``MERGED_ROWS``, for tables with long rows."""

REVISED = ("windows_log", "features_log", "gaps_log")
"""Tables of which ``superseded`` names replaced rows; once these are dropped, so are its entries."""

ORDER = {
    "ledger": ("seq",),
    "payloads": ("ledger_seq", "payload_id"),
    "events": ("tool", "ts", "chamber", "ceid"),
    "texts": ("tool", "chamber", "trace", "ts", "seq", "stream", "position"),
    "windows_log": ("tool", "started_at", "window_id"),
    "features_log": ("tool", "started_at", "window_id", "trace", "position"),
    "gaps_log": ("tool", "chamber", "trace", "after_ts"),
    "superseded": ("subject", "window_id", "id"),
    "streams_log": ("tool", "chamber", "trace", "stream", "time_lo", "seq_lo"),
    "quarantine_log": ("payload_id", "start"),
    "quarantine_states": ("revision",),
    "circuits_log": ("revision",),
    "features_owed_log": ("revision",),
    "sensors": ("tool", "trace", "position", "valid_from"),
    "dictionaries": ("revision",),
    "configs": ("revision",),
}
"""Table -> order of its rows in a merged file."""

FOLDED = {
    "windows_log": "FROM merged m ANTI JOIN replaced s ON m.window_id = s.window_id AND m.revision = s.revision",
    "features_log": "FROM merged m ANTI JOIN replaced s ON m.window_id = s.window_id AND m.revision = s.revision",
    "gaps_log": "FROM merged m ANTI JOIN replaced s ON m.gap_id = s.id AND m.revision < s.by_revision",
    "streams_log": "FROM (FROM merged QUALIFY row_number() OVER (PARTITION BY tool, chamber, trace, stream, time_lo, seq_lo, time_hi, "
    "seq_hi ORDER BY revision DESC, op DESC) = 1) WHERE op > 0 OR NOT $whole",
}
"""Table -> the rows that still count; ``$whole``: nothing of the table is elsewhere."""

STILL_NEEDED = """
FROM merged WHERE subject NOT IN ('window', 'gap')
UNION ALL
FROM merged m SEMI JOIN (
  SELECT window_id, revision FROM lake.main.windows_log WHERE NOT list_contains($windows_log, filename)
  UNION ALL
  SELECT window_id, revision FROM lake.main.features_log WHERE NOT list_contains($features_log, filename)) v
  ON m.window_id = v.window_id AND m.revision = v.revision WHERE m.subject = 'window'
UNION ALL
FROM merged m SEMI JOIN (SELECT gap_id, revision FROM lake.main.gaps_log WHERE NOT list_contains($gaps_log, filename)) v
  ON m.id = v.gap_id AND v.revision < m.by_revision WHERE m.subject = 'gap'
"""
"""Entries of ``superseded`` of which the merge leaves a victim where it is."""


@dataclass(slots=True)
class Part:
    """What of one table is merged: files, and the ``count`` rows up to row id ``last`` that the catalog holds (-1: none)."""

    table: str
    files: list[DataFile]
    last: int
    count: int
    whole: bool
    sources: list[str] = field(default_factory=list)
    """What DuckLake calls the files, the catalog's own tables among them."""

    def item(self, upkeep: Upkeep) -> dict[str, object]:
        """Return what the answer says of it."""
        return {
            "table": self.table,
            "files": len(self.files),
            "rows": self.count + sum(file.rows for file in self.files),
            "from_catalog": self.count,
            "bytes": sum(file.size for file in self.files),
            "paths": [upkeep.relative(file.path) for file in self.files],
        }


def parts(upkeep: Upkeep, *, everything: bool = False) -> list[Part]:
    """Return what can be flushed and merged now; ``everything``: few rows and files, too."""
    store = upkeep.store
    found = {table: part(store, table, 1 if everything else FLUSH_ROWS) for table in COLUMNS if table not in DAILY}
    if found["superseded"] is None and any(found[table] for table in REVISED):
        found["superseded"] = part(store, "superseded", 1)
    return [one for one in found.values() if one is not None]


def part(store: Store, table: str, flush_rows: int) -> Part | None:
    """Return what of ``table`` is due, None where nothing is.

    A file is taken in while it is at most twice as large as all that was taken before it: each row is rewritten a few times in its life,
    and the number of files grows with the logarithm of the rows.
    """
    names = inlined_tables(store.connection, table)
    count, last = _held(store, table, names)
    most, partly = LONG_ROWS.get(table, MERGED_ROWS), False
    if count > most:
        marks = ", ".join("?" * len(names))
        query = f"SELECT rowid FROM lake.main.{table} WHERE filename IN ({marks}) ORDER BY rowid LIMIT 1 OFFSET ?"
        last, count, partly = int(store.rows(query, [*names, most - 1])[0][0]), most, True
    due = count >= flush_rows
    gathered = count if due else 0
    files = sorted(data_files(store, table), key=lambda file: (file.rows, file.number))
    taken: list[DataFile] = []
    size = 0
    for file in files:
        gathered += file.rows
        size += file.size
        if gathered > most or size > MERGED_BYTES or ((taken or due) and file.rows > 2 * (gathered - file.rows)):
            break
        taken.append(file)
    if not due and len(taken) < 2:
        return None
    sources = [str(file.path) for file in taken] + (names if due and not partly else [])
    whole = len(taken) == len(files) and not partly and (due or not count)
    return Part(table, taken, last if due else -1, count if due else 0, whole, sources)


def _held(store: Store, table: str, names: list[str], last: int = 1 << 62) -> tuple[int, int]:
    """Return (number, last row id) of the rows of ``table`` that the catalog itself holds, up to row id ``last``."""
    marks = ", ".join("?" * len(names))
    query = f"SELECT count(*), coalesce(max(rowid), -1) FROM lake.main.{table} WHERE filename IN ({marks}) AND rowid <= ?"
    count, most = store.rows(query, [*names, last])[0] if names else (0, -1)
    return int(count), int(most)


def _rows(store: Store, one: Part) -> pa.Table:
    """Return all rows of a part."""
    schema = arrow_schema(one.table)
    pieces = [fitted(read(file.path), one.table) for file in one.files]
    if one.count:
        names = ", ".join(f'"{name}"' for name in schema.names)
        held = inlined_tables(store.connection, one.table)
        query = f"SELECT {names} FROM lake.main.{one.table} WHERE filename IN ({', '.join('?' * len(held))}) AND rowid <= ?"
        pieces.append(fitted(store.arrow(query, [*held, one.last]), one.table))
    return pa.concat_tables(pieces)


def _write(store: Store, stager: Stager, one: Part, taken: dict[str, list[str]]) -> StagedFile | None:
    """Write the rows that still count, in order; None where there are none. The caller's transaction holds the lake still."""
    connection = store.connection
    merged = _rows(store, one)
    connection.register("merged", merged)
    try:
        query = FOLDED.get(one.table, "FROM merged")
        if one.table == "superseded":
            parameters: dict[str, object] = {table: taken.get(table, []) for table in REVISED}
            kept = connection.execute(STILL_NEEDED, parameters).to_arrow_table()
        else:
            subject = "gap" if one.table == "gaps_log" else "window"
            replaced = connection.execute("SELECT * FROM lake.main.superseded WHERE subject = ?", [subject]).to_arrow_table()
            connection.register("replaced", replaced)
            kept = connection.execute(query, {"whole": one.whole} if "$whole" in query else None).to_arrow_table()
            connection.unregister("replaced")
    finally:
        connection.unregister("merged")
    reached("rows_folded")
    assert one.table in FOLDED or one.table == "superseded" or kept.num_rows == merged.num_rows, "only these tables lose rows"
    if kept.num_rows == 0:
        return None
    return stager.write(one.table, kept.cast(arrow_schema(one.table)).sort_by([(name, "ascending") for name in ORDER[one.table]]))


def compact_logs(upkeep: Upkeep, *, everything: bool = False, dry_run: bool = False) -> Items:
    """Flush and merge whatever is due, in one commit; return what was, or would be, done."""
    store, stager = upkeep.store, upkeep.stager()
    with ExitStack() as stack:
        stack.callback(stager.release)
        with swept(stager):
            with store.reading():
                seq = store.head()[0]
                found = parts(upkeep, everything=everything)
                if dry_run or not found:
                    return [one.item(upkeep) for one in found]
                taken = {one.table: one.sources for one in found}
                written = {one.table: _write(store, stager, one, taken) for one in found}
            stack.enter_context(store.locked(upkeep.wait_s))
            if not all(_unchanged(store, one) for one in found):
                stager.discard()
                return []
        items = [_done(one.item(upkeep), written[one.table]) for one in found]
        body = {
            "software": upkeep.software,
            "tables": {one.table: {"rows": item["rows"], "kept": item["kept"]} for one, item in zip(found, items, strict=True)},
            "settled": seq,
            "files": [staged.entry(store.path) for staged in stager.files],
            "removed": [upkeep.relative(file.path) for one in found for file in one.files],
        }
        removed: dict[str, list[Path]] = {one.table: [file.path for file in one.files] for one in found}
        flushed = {one.table: one.last for one in found if one.count}
        change = Change("compact", upkeep.actor, "", body, IndexDelta(0, ""), list(stager.files), removed, flushed=flushed)
        entry = store.commit(lambda _seq: change)
    return [item | {"ledger_seq": entry.seq} for item in items]


def _done(item: dict[str, object], staged: StagedFile | None) -> dict[str, object]:
    return item | {"kept": staged.rows if staged else 0, "bytes_after": staged.size if staged else 0}


def _unchanged(store: Store, one: Part) -> bool:
    """Tell whether files and rows are still where they were when they were read."""
    held = _held(store, one.table, inlined_tables(store.connection, one.table), one.last)[0] if one.count else 0
    return held == one.count and names_all(store, one.table, [file.path for file in one.files])
