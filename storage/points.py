"""Names for every step that touches disk or catalog, so that a fault can be put at each of them.

The running program says ``reached(name)`` and goes on: one look at a variable. A test sets what is to happen with :func:`watched`.
This is the one global of the house that changes: a file's name and bytes pass through too many hands for an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

STEPS = (
    "lock_held",
    "index_current",
    "mirror_current",
    "change_built",
    "begun",
    "head_checked",
    "files_removed",
    "files_added",
    "rows_inserted",
    "ledger_inserted",
    "message_set",
    "files_checked",
    "mirror_written",
    "mirror_synced",
    "committed",
    "index_applied",
    "mirror_followed",
)
"""The numbered steps of a commit, in order; a crash before ``committed`` leaves nothing, a crash from it on leaves all."""

POINTS: dict[str, str] = dict.fromkeys(STEPS, "a step of the commit") | {
    "payload_opening": "a delivered file is about to be opened",
    "payload_read": "a chunk of it was read",
    "spooled": "statistics wait in a temporary file",
    "history_asked": "the lake is about to be read",
    "lake_asked": "a question is about to be put to catalog and data files",
    "source_proven": "delivered bytes were found again and have their digest",
    "kept_read": "a chunk of delivered bytes that the lake keeps was read",
    "lock_opened": "the lock's file is open, the lock not yet held",
    "mark_made": "a running batch left its mark",
    "mark_removed": "it took it back",
    "stale_mark_removed": "the mark of a batch that died was removed",
    "file_opened": "a file is there under its temporary name, empty",
    "file_written": "its bytes were handed over",
    "file_synced": "they are durable",
    "file_renamed": "the file has its name",
    "file_durable": "so has its folder",
    "file_forgotten": "a staged file was removed",
    "files_read": "small files were read to be merged",
    "rows_folded": "rows of a log were read, and those that still count are known",
    "merge_proven": "a merged file was read back and holds the same rows",
    "file_proven": "a data file was read to be proven",
    "damage_put_aside": "a damaged file was moved out of the data files, its folders are not durable yet",
    "damage_put_back": "it was moved back: the commit that lets go of it failed",
    "stand_ins_gone": "what stood in for damaged files is removed",
    "folder_made": "the folder of a lake to be is there",
    "catalog_attached": "the catalog is open",
    "options_set": "a new catalog knows its options",
    "table_made": "it has one table more",
    "tables_made": "it has all of them, committed",
    "segment_opened": "a segment of the mirror is open for the next record",
    "segment_durable": "a new segment's folder is durable",
    "mirror_cut": "a record that was not committed was cut off",
    "segment_removed": "a segment was removed",
    "base_opened": "a new base is there under its temporary name, empty",
    "base_written": "its bytes were handed over",
    "base_synced": "they are durable",
    "base_renamed": "it has its name",
    "base_durable": "so has the mirror's folder",
    "index_written": "a change of the index is written, not committed",
    "index_committed": "it is committed",
    "index_stands": "the index knows at which snapshot it stands",
    "trouble_noted": "the index knows of a dependency that failed",
    "snapshots_gone": "the catalog forgot snapshots",
    "rows_forgotten": "rows that no snapshot shows are deleted, not committed",
    "sweep_noted": "the ledger says what will be removed",
    "orphan_removed": "one of them is gone",
    "released_removed": "what expired snapshots released is gone",
    "sweep_durable": "the folders of what was removed are durable",
    "remains_cleared": "what an interrupted run left of a backup, a restored lake or a catalog is removed",
    "backup_begun": "a backup's folder is there",
    "catalog_copied": "it has the catalog",
    "file_linked": "it has one data file more, by link",
    "file_copied": "by copy",
    "backup_whole": "it is no longer marked as unfinished",
    "restore_begun": "a restored lake's folder is there",
    "file_restored": "it has one data file more",
    "catalog_restored": "it has its catalog",
    "restore_whole": "it is no longer marked as unfinished",
    "catalog_built": "a lost catalog is built anew, under another name",
    "catalog_put_back": "it has its name",
    "upgrade_noted": "the marker says that a lake is being brought to a newer format",
    "migrated": "its catalog has that format, committed",
    "erased": "a kept or put-aside file of purged data is gone",
    "scrubbed": "catalog and index were written anew, without what they had let go of",
    "key_written": "a private key is durable",
}
"""Name -> what has just been done when it is reached."""

Step = Callable[[str], None]
Watcher = Callable[[str, Path | None], None]

_watcher: Watcher | None = None


def reached(name: str, path: Path | None = None) -> None:
    """Say that the step ``name`` was reached; ``path`` is a file whose last bytes are not durable yet."""
    if _watcher is not None:
        _watcher(name, path)


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Let ``watcher`` be called at each point that is reached, in every thread, as long as the ``with`` block runs."""
    global _watcher  # noqa: PLW0603  (see above)
    _watcher = watcher
    try:
        yield
    finally:
        _watcher = None
