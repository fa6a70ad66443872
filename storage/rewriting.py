"""Rows leave a table for good: files that hold them are written anew without them, those in the catalog itself are deleted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage.errors import IntegrityError
from storage.files import Stager, sha256_of
from storage.mirrorbase import INLINED, relative_path
from storage.schema import COLUMNS
from storage.store import Store


@dataclass(slots=True)
class Rewriting:
    """What a change removes and deletes. ``known``: the ledger's record of each data file: none is read that is not what was committed."""

    store: Store
    stager: Stager
    known: Mapping[str, dict[str, Any]]
    removed: dict[str, list[Path]] = field(default_factory=dict)
    deleted: dict[str, str] = field(default_factory=dict)

    def leave_out(self, table: str, predicate: str) -> None:
        """Let the rows of ``table`` go for which ``predicate`` is true; other rows of their files are in staged ones from now on."""
        found = self.store.rows(f"SELECT DISTINCT filename FROM lake.main.{table} WHERE {predicate}")
        if any(row[0].startswith(INLINED) for row in found):
            self.deleted[table] = predicate
        names = ", ".join(f'"{name}"' for name in COLUMNS[table])
        for path in sorted(Path(row[0]) for row in found if not row[0].startswith(INLINED)):
            prove(self.store, self.known, path)
            rest = self.store.arrow(f"SELECT {names} FROM lake.main.{table} WHERE filename = ? AND ({predicate}) IS NOT TRUE", [str(path)])
            self.removed.setdefault(table, []).append(path)
            if rest.num_rows:
                self.stager.write(table, rest)


def prove(store: Store, known: Mapping[str, dict[str, Any]], path: Path) -> None:
    """Raise :class:`IntegrityError` unless the file at ``path`` is the one that was committed: damage must not be written anew."""
    entry = known.get(relative_path(path, store.path))
    if entry is None or not path.exists() or sha256_of(path) != entry["sha256"]:
        raise IntegrityError(f"{path}: damaged, missing or not known to the ledger; nothing was changed. 'loadlock audit verify' says more")
