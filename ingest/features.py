"""Feature rows: what segments reduced in memory where that is the whole window, else all its samples read back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from ingest.batch import Batch
from ingest.spanning import reduce_tails
from ingest.spool import Spool
from ingest.tracefile import Reduced
from kernels.reduce import COLUMNS
from storage.files import SPLIT
from storage.index import Window
from storage.recompute import statistics_of
from storage.schema import arrow_schema

WINDOWS_PER_READ = 512
ROWS_PER_TABLE = 32_768
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


def stage(batch: Batch, pieces: Sequence[Reduced], revision: int | None) -> None:
    """Make the feature rows of ``pieces`` durable as a data file; ``revision``: None for that of each window."""
    rows = tables(pieces, revision, batch.spool)
    if pieces:
        batch.stager.write_pieces("features_log", rows, arrow_schema("features_log"), SPLIT, row_group_rows=ROWS_PER_TABLE)


def tables(pieces: Sequence[Reduced], revision: int | None, spool: Spool) -> Iterator[pa.Table]:
    """Yield the feature rows of ``pieces`` in bounded tables."""
    begin = rows = 0
    for i, piece in enumerate(pieces):
        rows += len(piece.positions)
        if rows >= ROWS_PER_TABLE or i == len(pieces) - 1:
            yield _table(pieces[begin : i + 1], revision, spool)
            begin, rows = i + 1, 0


def _table(pieces: Sequence[Reduced], revision: int | None, spool: Spool) -> pa.Table:
    schema = arrow_schema("features_log")
    lengths = [len(piece.positions) for piece in pieces]
    statistics = np.concatenate([spool.load(piece) for piece in pieces])
    columns: dict[str, pa.Array] = {}
    for i, name in enumerate(COLUMNS):
        column = statistics[:, i]
        columns[name] = pa.array(column.astype(np.int64)) if i < 2 else pa.array(column, mask=np.isnan(column))
    of_window = {
        "window_id": [piece.window.window_id for piece in pieces],
        "tool": [piece.window.tool for piece in pieces],
        "chamber": [piece.window.chamber or None for piece in pieces],
        "trace": [piece.trace for piece in pieces],
        "lot": [piece.window.lot for piece in pieces],
        "wafer": [piece.window.wafer for piece in pieces],
        "recipe": [piece.window.recipe for piece in pieces],
        "step": [piece.window.step for piece in pieces],
        "occurrence": [piece.window.occurrence for piece in pieces],
        "started_at": [piece.window.started_us for piece in pieces],
        "ended_at": [piece.window.ended_us for piece in pieces],
        "complete": [piece.window.complete for piece in pieces],
        "revision": [piece.window.revision if revision is None else revision for piece in pieces],
    }
    repeat = pa.array(np.repeat(np.arange(len(pieces)), lengths))
    for name, values in of_window.items():
        kind = schema.field(name).type
        column = pa.array(values, pa.int64()).cast(kind) if pa.types.is_timestamp(kind) else pa.array(values, kind)
        columns[name] = column.take(repeat)
    columns["sensor"] = pa.array([name for piece in pieces for name in piece.names], pa.string())
    columns["position"] = pa.array([position for piece in pieces for position in piece.positions], pa.int32())
    return pa.table([columns[field.name] for field in schema], schema=schema)
