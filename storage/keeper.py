"""Keeps the mirror in step with the catalog: at the lock, before a commit and after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from storage.catalog import rows
from storage.errors import IntegrityError
from storage.index import Head
from storage.ledger import Entry
from storage.mirror import BASE_END, Mirror, scan
from storage.mirrorbase import base_bodies, commit_body, joined, pack, relative_path, unpack

if TYPE_CHECKING:
    from storage.store import Change

_CHANGES = "SELECT changes_made FROM __ducklake_metadata_lake.ducklake_snapshot_changes WHERE snapshot_id > ? ORDER BY snapshot_id"
_TABLES = "SELECT table_id FROM __ducklake_metadata_lake.ducklake_table WHERE table_name = ? AND end_snapshot IS NULL"
_ADDED = ("inserted_into_table:", "inlined_insert:")


def check_catalog(path: Path) -> None:
    """Raise :class:`IntegrityError` where the catalog of the lake at ``path`` is gone (DuckLake would make an empty one)."""
    if not (path / "catalog.sqlite").exists():
        raise IntegrityError(
            f"{path / 'catalog.sqlite'}: the catalog is missing; put it back, or rebuild it from the data files and the mirror: "
            f"'loadlock restore --from-mirror --lake {path}'"
        )


@dataclass(slots=True)
class Keeper:
    """The mirror of the lake at ``root``; ``confirmed``: the catalog's snapshot that the mirror is known to stand for."""

    root: Path
    mirror: Mirror
    confirmed: int = -1

    def settle(self, connection: duckdb.DuckDBPyConnection, head: Head, acknowledged: Head) -> None:
        """Bring the mirror to the catalog's ``head``; ``acknowledged``: an entry that the index has seen committed."""
        tail_known = self.confirmed == head.snapshot
        whole = self.mirror.settle(head.seq, head.hash, (acknowledged.seq, acknowledged.hash))
        if not whole or (not tail_known and self._departed(connection)):
            self.start_again(connection, head)
        self.confirmed = head.snapshot

    def _departed(self, connection: duckdb.DuckDBPyConnection) -> bool:
        """Tell whether the catalog changed since the last record in a way that the record does not describe."""
        tail = self.mirror.tail
        assert tail is not None
        last = scan(tail.path).records[-1]
        head, _ = unpack(last.body)
        if last.kind == BASE_END:
            return bool(rows(connection, _CHANGES, [head["snapshot"]]))
        emptied = [*head["removed"], *head.get("flushed", ())]
        return self._undescribed(connection, head["snapshot"], emptied, head["deleted"])

    def _undescribed(self, connection: duckdb.DuckDBPyConnection, before: int, emptied: Sequence[str], deleted: Mapping[str, str]) -> bool:
        found = [row[0] for row in rows(connection, _CHANGES, [before])]
        if len(found) != 1:
            return True
        odd = [item for item in str(found[0]).split(",") if not item.startswith(_ADDED)]
        if not odd:
            return False
        whole = {str(rows(connection, _TABLES, [table])[0][0]) for table in emptied if table not in deleted}
        return any(item.partition(":")[2] not in whole or not item.startswith(("deleted_from_table:", "inlined_delete:")) for item in odd)

    def start_again(self, connection: duckdb.DuckDBPyConnection, head: Head) -> None:
        """Write a new base from the catalog."""
        end = pack({"snapshot": head.snapshot}, {})
        self.mirror.start_again(head.seq, head.hash, base_bodies(connection, self.root), end)

    def record(
        self, change: Change, entry: Entry, snapshot: int, left: Mapping[str, list[pa.Table]], on_step: Callable[[str], None]
    ) -> None:
        """Write down what is about to be committed on top of ``snapshot``, and make it durable.

        ``left``: the rows that stay in the catalog, of each table that the change flushes.
        """
        files: list[dict[str, Any]] = [staged.entry(self.root) for staged in change.files]
        removed = {table: [relative_path(path, self.root) for path in paths] for table, paths in change.removed.items() if paths}
        tables = dict(change.rows)
        for table, pieces in left.items():
            tables[table] = joined(table, [*pieces, *([tables[table]] if table in tables else [])])
        body = commit_body(entry, files, removed, change.deleted, tables, snapshot, sorted(left))
        self.mirror.append(entry.seq, entry.hash, body, on_step)

    def follow(self, connection: duckdb.DuckDBPyConnection, change: Change, before: int, head: Head) -> None:
        """After a commit: write a new base if rows went in a way that the record can't describe."""
        emptied = [*(table for table, paths in change.removed.items() if paths), *change.flushed]
        if self._undescribed(connection, before, emptied, change.deleted):
            self.start_again(connection, head)
        self.confirmed = head.snapshot
