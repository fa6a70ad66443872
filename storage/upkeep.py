"""What all maintenance shares: the rules, who acts, and the catalog's list of data files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from storage.files import Stager
from storage.mirrorbase import deleted_rows
from storage.store import Store
from storage.telling import Tell, nobody

META = "__ducklake_metadata_lake"


@dataclass(slots=True, frozen=True)
class Rules:
    """When maintenance acts. ``keep_all``: every snapshot that is younger is kept; of each older day one, until ``keep``.

    ``quiet``: a tool-day is closed when it is over, and none of its files came, for so long. ``guard``: age from which a file that no
    snapshot names is removed.
    """

    keep: timedelta = timedelta(days=30)
    keep_all: timedelta = timedelta(hours=48)
    guard: timedelta = timedelta(hours=24)
    quiet: timedelta = timedelta(hours=1)
    commits: int = 500
    level: int = 1
    row_group_rows: int = 262_144
    writer: str = "pages"


@dataclass(slots=True, frozen=True)
class Upkeep:
    """Who keeps ``store`` in order, and by which rules."""

    store: Store
    actor: str
    software: str
    new_id: Callable[[], str]
    rules: Rules = field(default_factory=Rules)
    wait_s: float = 600.0
    tell: Tell = nobody

    def stager(self) -> Stager:
        """Return a writer of data files as the lake's configuration wants them."""
        rules = self.rules
        return Stager(self.store.data, self.new_id, level=rules.level, row_group_rows=rules.row_group_rows, writer=rules.writer)

    def relative(self, path: Path) -> str:
        """Return ``path`` as ledger and mirror name it."""
        return path.relative_to(self.store.path).as_posix()


@dataclass(slots=True, frozen=True)
class DataFile:
    """A data file that the newest snapshot names, no row of which was deleted."""

    number: int
    path: Path
    rows: int
    size: int
    begin: int


def with_holes(store: Store, table: int) -> set[int]:
    """Return the numbers of the files of the table numbered ``table`` from which single rows were deleted."""
    holes = set(deleted_rows(store.connection, table))
    return holes | {row[0] for row in store.rows(f"SELECT data_file_id FROM {META}.ducklake_delete_file WHERE end_snapshot IS NULL")}


def data_files(store: Store, table: str) -> list[DataFile]:
    """Return the files of ``table``, in order of arrival; those with single rows deleted are left out."""
    found = store.rows(
        f"SELECT f.data_file_id, f.path, f.path_is_relative, f.record_count, f.file_size_bytes, f.begin_snapshot, t.table_id "
        f"FROM {META}.ducklake_data_file f JOIN {META}.ducklake_table t USING (table_id) "
        "WHERE t.table_name = ? AND t.end_snapshot IS NULL AND f.end_snapshot IS NULL ORDER BY f.data_file_id",
        [table],
    )
    if not found:
        return []
    holes = with_holes(store, int(found[0][6]))
    folder = store.data / "main" / table
    return [
        DataFile(number, folder / path if relative else Path(path), int(rows), int(size), int(begin))
        for number, path, relative, rows, size, begin, _table in found
        if number not in holes and relative
    ]


def names_all(store: Store, table: str, paths: Sequence[Path]) -> bool:
    """Tell whether the catalog's newest snapshot still names every one of ``paths``."""
    return not paths or {file.path for file in data_files(store, table)} >= set(paths)


@contextmanager
def swept(stager: Stager) -> Iterator[None]:
    """Remove what was staged if the work is broken off."""
    try:
        yield
    except BaseException:
        stager.discard()
        raise


Items = list[dict[str, Any]]
"""What a command did, or would do: one dictionary for each thing."""
