"""What a purge leaves nothing of: old revisions of windows and features, gaps that were, and the runs of its streams in the logs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ingest.batch import Batch
from ingest.keys import StreamState
from storage.index import Window
from storage.rewriting import Rewriting


def forget(
    batch: Batch, windows: Iterable[Window], gaps: Sequence[str], states: Sequence[StreamState], removed: dict[str, list[Path]]
) -> None:
    """Take what the lake's own logs say of ``windows``, ``gaps`` and streams out of them; the batch writes anew what still holds.

    ``removed``: table -> files that the batch lets go of; those that are written anew here are added.
    """
    withdrawal = batch.withdrawal
    assert withdrawal is not None
    rewriting = Rewriting(batch.store, batch.stager, withdrawal.known, removed, withdrawal.deleted)
    ids = ", ".join(str(window_id) for window_id in sorted({window.window_id for window in windows}))
    if ids:
        rewriting.leave_out("windows_log", f"window_id IN ({ids})")
        rewriting.leave_out("features_log", f"window_id IN ({ids})")
    if gaps:
        rewriting.leave_out("gaps_log", f"gap_id IN ({', '.join(map(_literal, sorted(set(gaps))))})")
    if states:
        keys = sorted({(key.tool, key.chamber or "", key.trace, key.stream) for key in (state.key for state in states)})
        listed = ", ".join(f"({', '.join(map(_literal, key))})" for key in keys)
        rewriting.leave_out("streams_log", f"(tool, coalesce(chamber, ''), trace, stream) IN ({listed})")


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
