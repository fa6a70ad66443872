"""Merges the small files of a closed tool-day into one, outside the lock; the lock is held for the commit alone.

Only traces and conflicts have files by tool and day; :mod:`storage.logmerge` does the other tables. Old snapshots keep the old files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from storage.errors import IntegrityError
from storage.files import StagedFile, Stager
from storage.index import IndexDelta
from storage.points import reached
from storage.schema import arrow_schema
from storage.store import Change, Store
from storage.tracemerge import NotMergeable, gather
from storage.upkeep import META, DataFile, Items, Upkeep, data_files, names_all, swept

DAILY = ("traces", "conflicts")
"""Tables of which every file holds one tool's rows."""

MOST_FILES = 3
"""Small files that a closed tool-day may keep."""

UNIT_ROWS = 4 << 20
"""Samples that are merged into one file, as many as the ingest holds in memory; files of half as many are no longer small."""

UNIT_FILES = 2_000


@dataclass(slots=True, frozen=True)
class Unit:
    """Files of one table, tool and day (of UTC) that become one."""

    table: str
    tool: str
    day: str
    files: list[DataFile]

    def item(self, upkeep: Upkeep) -> dict[str, object]:
        """Return what the answer says of it."""
        return {
            "table": self.table,
            "tool": self.tool,
            "day": self.day,
            "files": len(self.files),
            "rows": sum(file.rows for file in self.files),
            "bytes": sum(file.size for file in self.files),
            "paths": [upkeep.relative(file.path) for file in self.files],
        }


def units(upkeep: Upkeep, *, everything: bool = False) -> list[Unit]:
    """Return what can be merged now; ``everything``: open tool-days too, and where two files are."""
    found = []
    now = upkeep.store.clock()
    newest = settled_snapshot(upkeep.store, now - upkeep.rules.quiet)
    for table in DAILY:
        for (tool, day), files in sorted(_by_day(upkeep.store, table).items()):
            over = datetime.fromisoformat(day) + timedelta(days=1) + upkeep.rules.quiet <= now
            quiet = max(file.begin for file in files) <= newest
            small = [file for file in files if file.rows * 2 < UNIT_ROWS]
            if everything or (over and quiet and len(small) > MOST_FILES):
                found += [Unit(table, tool, day, some) for some in _portions(small)]
    return found


def settled_snapshot(store: Store, moment: datetime) -> int:
    """Return the newest snapshot that was committed by ``moment``, by the ledger's clock (all older ones that were forgotten count)."""
    seq = store.rows("SELECT coalesce(max(seq), 0) FROM lake.main.ledger WHERE recorded_at <= ?", [moment])[0][0]
    later = store.rows(
        f"SELECT min(snapshot_id) FROM {META}.ducklake_snapshot_changes WHERE json_extract(commit_extra_info, '$.seq')::BIGINT > ?", [seq]
    )[0][0]
    return store.snapshot() if later is None else int(later) - 1


def _by_day(store: Store, table: str) -> dict[tuple[str, str], list[DataFile]]:
    """Return the files by (tool, day of the first row), each in order of that row's time."""
    statistics = store.rows(
        f"""SELECT s.data_file_id, max(s.min_value) FILTER (c.column_name = 'tool'), max(s.max_value) FILTER (c.column_name = 'tool'),
                   max(s.min_value) FILTER (c.column_name = 'ts')
            FROM {META}.ducklake_table t
            JOIN {META}.ducklake_column c ON c.table_id = t.table_id AND c.end_snapshot IS NULL AND c.column_name IN ('tool', 'ts')
            JOIN {META}.ducklake_data_file f ON f.table_id = t.table_id AND f.end_snapshot IS NULL
            JOIN {META}.ducklake_file_column_stats s ON s.data_file_id = f.data_file_id AND s.column_id = c.column_id
            WHERE t.table_name = ? AND t.end_snapshot IS NULL GROUP BY ALL""",
        [table],
    )
    of = {row[0]: row[1:] for row in statistics}
    days: dict[tuple[str, str], list[tuple[str, int, DataFile]]] = {}
    for file in data_files(store, table):
        least, most, time = of.get(file.number, (None, None, None))
        if least is not None and least == most and time is not None:
            days.setdefault((least, time[:10]), []).append((time, file.number, file))
    return {key: [file for _, _, file in sorted(some, key=lambda entry: entry[:2])] for key, some in days.items()}


def _portions(files: Sequence[DataFile]) -> Iterator[list[DataFile]]:
    """Yield stretches of ``files`` that are merged together."""
    portion: list[DataFile] = []
    rows = 0
    for file in files:
        if portion and (rows + file.rows > UNIT_ROWS or len(portion) == UNIT_FILES):
            if len(portion) > 1:
                yield portion
            portion, rows = [], 0
        portion.append(file)
        rows += file.rows
    if len(portion) > 1:
        yield portion


def merge(upkeep: Upkeep, unit: Unit) -> dict[str, object] | None:
    """Merge ``unit`` and commit it; return what was done, None if another commit was faster or the files are not ours to merge."""
    store, stager = upkeep.store, upkeep.stager()
    paths = [file.path for file in unit.files]
    with ExitStack() as stack:
        stack.callback(stager.release)
        with swept(stager):
            try:
                staged = _write(upkeep, stager, unit, paths)
            except NotMergeable:
                stager.discard()
                return None
            except FileNotFoundError:  # replaced by another commit, and swept: what is left is planned anew next time
                stager.discard()
                if names_all(store, unit.table, paths):
                    raise
                return None
            prove_same(store, unit.table, paths, staged)
            reached("merge_proven")
            stack.enter_context(store.locked(upkeep.wait_s))
            if not names_all(store, unit.table, paths):
                stager.discard()
                return None
        done = unit.item(upkeep)
        body = {"software": upkeep.software, "table": unit.table, "tool": unit.tool, "day": unit.day, "rows": staged.rows}
        body |= {"files": [staged.entry(store.path)], "removed": done["paths"]}
        change = Change("compact", upkeep.actor, "", body, IndexDelta(0, ""), [staged], {unit.table: paths})
        entry = store.commit(lambda _seq: change)
    return done | {"bytes_after": staged.size, "ledger_seq": entry.seq}


def _write(upkeep: Upkeep, stager: Stager, unit: Unit, paths: Sequence[Path]) -> StagedFile:
    if unit.table == "traces":
        gathered = gather(paths)
        return stager.write_traces(gathered.pieces(upkeep.rules.row_group_rows), gathered.optional(), gathered.sample())
    schema = arrow_schema(unit.table)
    rows = pa.concat_tables([read(path).select(schema.names).cast(schema) for path in paths])  # files differ in what may be NULL
    return stager.write(unit.table, rows.sort_by([(name, "ascending") for name in ("chamber", "trace", "ts", "seq", "stream", "position")]))


def read(path: Path) -> pa.Table:
    """Return all of a file, its pages' checksums proven."""
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        reached("files_read")
        return file.read()


def prove_same(store: Store, table: str, paths: Sequence[Path], staged: StagedFile) -> None:
    """Raise :class:`IntegrityError` unless the new file, read back, holds the rows of ``paths``."""
    sums = [
        store.rows("SELECT count(*), sum(hash(t)) FROM read_parquet(?) t", [[str(path) for path in some]])
        for some in (paths, [staged.path])
    ]
    if sums[0] != sums[1]:
        raise IntegrityError(
            f"{table}: the merged file holds other rows than {paths[0].name} and {len(paths) - 1} more; nothing was changed"
        )


def compact_days(upkeep: Upkeep, *, everything: bool = False, dry_run: bool = False) -> Items:
    """Merge every tool-day that is due; return what was, or would be, done."""
    with upkeep.store.reading():
        found = units(upkeep, everything=everything)
    if dry_run:
        return [unit.item(upkeep) for unit in found]
    done = []
    for number, unit in enumerate(found):
        upkeep.tell("tool-days merged", number, len(found))
        done.append(merge(upkeep, unit))
    return [item for item in done if item is not None]
