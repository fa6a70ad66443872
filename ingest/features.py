"""Feature rows: what segments reduced in memory where that is the whole window, else all its samples read back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ingest.batch import Batch
from ingest.spanning import reduce_tails
from ingest.spool import Spool
from ingest.tracefile import Reduced
from storage.featurerows import REVISION, FeatureRows
from storage.files import StagedFile
from storage.index import Window
from storage.recompute import statistics_of

WINDOWS_PER_READ = 512
ROWS_TOGETHER = 32_768
"""A row group of features holds about as many rows."""

FAR_US = 1 << 61


def whole(window: Window, pieces: Sequence[Reduced], new_ids: set[int], moved: set[int]) -> bool:
    """Tell whether ``pieces`` hold every sample of ``window``: born in this batch, one piece a trace (or none), borders as they were."""
    traces = [piece.trace for piece in pieces]
    born = window.window_id in new_ids and window.window_id not in moved
    return born and len(traces) == len(set(traces)) and (not pieces or _as_begun(window, pieces))


def collect(batch: Batch, windows: Sequence[Window], moved: set[int], without: Sequence[str]) -> list[Reduced]:
    """Return the statistics of all sensors of ``windows``, in order of window and trace."""
    ready: list[Reduced] = []
    again: dict[str, list[Window]] = {}
    for window in windows:
        pieces = batch.reduced.get(window.window_id, [])
        if whole(window, pieces, batch.windows.new_ids, moved):
            ready += [replace(piece, window=window) for piece in pieces]
        elif window.window_id not in moved and _as_begun(window, held := batch.spanning.get(window.window_id, [])):
            ready += [replace(piece, window=window) for piece in held]
        elif window.window_id not in moved and (tails := reduce_tails(batch.recent, window)) is not None:
            ready += tails
        else:
            again.setdefault(window.tool, []).append(window)
    for tool, members in again.items():
        members.sort(key=lambda w: (w.started_us, w.window_id))
        for a in range(0, len(members), WINDOWS_PER_READ):
            ready += _read_back(batch, tool, members[a : a + WINDOWS_PER_READ], without)
    return sorted(ready, key=lambda piece: (piece.window.started_us, piece.window.window_id, piece.trace))


def _as_begun(window: Window, pieces: Sequence[Reduced]) -> bool:
    """Tell whether ``pieces`` are there and were reduced with the start that the window has now."""
    return bool(pieces) and all(piece.window.started_us == window.started_us for piece in pieces)


def _read_back(batch: Batch, tool: str, windows: Sequence[Window], without: Sequence[str]) -> Iterable[Reduced]:
    lo = min(window.started_us for window in windows)
    hi = max(FAR_US if window.ended_us is None else window.ended_us for window in windows)
    by_id = {window.window_id: window for window in windows}
    rows = batch.history.windows(tool, sorted(by_id), lo, hi, without)
    return [Reduced(by_id[found.window_id], *found[1:]) for found in statistics_of(rows)]


def encode(batch: Batch, pieces: Sequence[Reduced], *, revised: bool = False) -> Callable[[int | None], StagedFile]:
    """Encode the feature rows of ``pieces`` and return what makes them durable as a data file with a revision.

    ``revised``: each row has the revision of its window.
    """
    return batch.stager.features(lambda: rows_of(pieces, batch.spool, revised=revised))


def rows_of(pieces: Sequence[Reduced], spool: Spool, *, revised: bool = False) -> Iterator[FeatureRows]:
    """Yield the feature rows of ``pieces`` in bounded parts; a trace without sensors has none."""
    pieces = [piece for piece in pieces if piece.positions]
    begin = rows = 0
    for i, piece in enumerate(pieces):
        rows += len(piece.positions)
        if rows >= ROWS_TOGETHER or i == len(pieces) - 1:
            yield _rows(pieces[begin : i + 1], spool, revised=revised)
            begin, rows = i + 1, 0


def _rows(pieces: Sequence[Reduced], spool: Spool, *, revised: bool) -> FeatureRows:
    windows = [piece.window for piece in pieces]
    shared: dict[str, list[Any]] = {
        "window_id": [window.window_id for window in windows],
        "tool": [window.tool for window in windows],
        "chamber": [window.chamber or None for window in windows],
        "trace": [piece.trace for piece in pieces],
        "lot": [window.lot for window in windows],
        "wafer": [window.wafer for window in windows],
        "recipe": [window.recipe for window in windows],
        "step": [window.step for window in windows],
        "occurrence": [window.occurrence for window in windows],
        "started_at": [window.started_us for window in windows],
        "ended_at": [window.ended_us for window in windows],
        "complete": [window.complete for window in windows],
    }
    if revised:
        shared[REVISION] = [window.revision for window in windows]
    statistics = np.concatenate([spool.load(piece) for piece in pieces])
    return FeatureRows(shared, [piece.names for piece in pieces], [piece.positions for piece in pieces], statistics)
