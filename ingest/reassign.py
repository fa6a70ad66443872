"""Late events move window borders: rows that now lie in another window are rewritten, in staged and in committed files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingest.batch import Batch, Written
from ingest.records import Int64
from ingest.rows import by_tool
from ingest.windowbook import CONTEXT, locate
from storage.history import StagedTraces
from storage.pieces import window_ids

TEXTS = ("tool", "chamber", "trace", "stream", "sensor", "payload_id")


class Reassignment:
    """Rewrites what a batch's final windows assign otherwise than the files say."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._by_context: dict[int, bool] = {}
        taken = batch.withdrawal.removed if batch.withdrawal else {}
        self.removed: dict[str, list[Path]] = {table: list(paths) for table, paths in taken.items()}
        self.windows: set[int] = set()
        """Windows that gained or lost rows."""

    def run(self) -> None:
        """Look at every file that the changed windows may touch."""
        batch = self._batch
        for written in list(batch.written):
            if self._stale(written):
                self._staged(written)
        for table in ("traces", "conflicts"):
            found: dict[str, list[str]] = {}
            for tool in batch.windows.tools():
                paths: set[str] = set()
                for chamber, lo, hi in batch.windows.changed_spans(tool):
                    if not self._may_hold(table, tool, lo):
                        continue
                    paths |= set(batch.history.files_with(table, tool, chamber or None, lo, min(hi, 1 << 61)))
                for path in paths:
                    found.setdefault(path, []).append(tool)
            for path, tools in sorted(found.items()):
                self._committed(table, tools, Path(path))

    def _may_hold(self, table: str, tool: str, lo: int) -> bool:
        """Tell whether committed rows of ``tool`` can lie at or after ``lo``; the index knows the last time, and if there are conflicts."""
        facts = self._batch.store.index.facts(tool)
        return facts.has_conflicts if table == "conflicts" else facts.last_trace_us is not None and facts.last_trace_us >= lo

    def _stale(self, written: Written) -> bool:
        """Tell whether the final windows differ from those by which the file's rows were assigned, within its times."""
        lo, hi = written.place.time_lo, written.place.time_hi
        if not written.windows:
            return written.place.table == "conflicts"
        for chamber, used in written.windows.items():
            final = self._batch.windows.windows(written.place.tool, chamber, lo, hi)
            edges = sorted({lo} | {e for w in [*used, *final] for e in (w.started_us, w.ended_us) if e is not None and lo <= e <= hi})
            at = np.asarray(edges, np.int64)
            if (locate(used, at) != locate(final, at)).any():
                return True
        return False

    def _staged(self, written: Written) -> None:
        table = self._rewrite(_read(written.place.path), written.place.tool)
        if table is None:
            return
        batch = self._batch
        batch.history.staged.remove(written.place)
        written.file = batch.stager.replace(written.file, table)
        written.place = StagedTraces(
            written.place.table, written.place.tool, written.file.path, written.place.time_lo, written.place.time_hi
        )
        batch.history.staged.append(written.place)

    def _committed(self, name: str, tools: list[str], path: Path) -> None:
        """Let new files, one for each tool, stand in for a committed one that holds rows of ``tools`` whose window is another now."""
        if path in self.removed.get(name, ()):  # a staged file stands in for it
            return
        before = table = _read(path)
        for tool in tools:
            rewritten = self._rewrite(table, tool)
            table = table if rewritten is None else rewritten
        if table is before:
            return
        self.removed.setdefault(name, []).append(path)
        batch = self._batch
        for tool, own in by_tool(table):
            staged = batch.stager.write(name, own)
            times = own.column("ts").cast(pa.int64()).to_numpy()
            batch.history.staged.append(StagedTraces(name, tool, staged.path, int(times.min()), int(times.max())))

    def _rewrite(self, table: pa.Table, tool: str) -> pa.Table | None:
        """Return ``table`` with the window ids that the final windows give to rows of ``tool``, None where it has them already."""
        column = table.column("window_id").combine_chunks()
        before = np.asarray(column.fill_null(0), np.int64)
        after = before.copy()
        times = table.column("ts").cast(pa.int64()).to_numpy()
        chambers = table.column("chamber").combine_chunks()
        encoded = chambers if pa.types.is_dictionary(chambers.type) else chambers.dictionary_encode()
        codes = np.asarray(encoded.indices.fill_null(-1))
        by_time = ~self._context_rows(before) & _of_tool(table, tool)
        for code in np.unique(codes).tolist():
            chamber = "" if code < 0 else encoded.dictionary[code].as_py()
            at = np.flatnonzero((codes == code) & by_time)
            if len(at):
                after[at] = self._batch.windows.assign(tool, chamber, times[at])
        moved = before != after
        if not moved.any():
            return None
        self.windows |= set(np.unique(before[moved]).tolist()) | set(np.unique(after[moved]).tolist())
        self.windows.discard(0)
        return table.set_column(table.column_names.index("window_id"), "window_id", window_ids(after))

    def _context_rows(self, ids: Int64) -> np.ndarray:
        distinct, inverse = np.unique(ids, return_inverse=True)
        return np.asarray([self._is_context(i) for i in distinct.tolist()], bool)[inverse]

    def _is_context(self, window_id: int) -> bool:
        if window_id == 0:
            return False
        found = self._by_context.get(window_id)
        if found is None:
            held = self._batch.windows.context_windows().get(window_id) or self._batch.store.index.window(window_id)
            found = self._by_context[window_id] = held is not None and held.source == CONTEXT
        return found


def _read(path: Path) -> pa.Table:
    return pq.ParquetFile(path, read_dictionary=list(TEXTS), page_checksum_verification=True).read()


def _of_tool(table: pa.Table, tool: str) -> np.ndarray:
    """Tell for each row if it is of ``tool``."""
    if table.column("tool").unique().to_pylist() == [tool]:
        return np.ones(table.num_rows, np.bool_)
    return np.asarray(pc.equal(table.column("tool").cast(pa.string()), tool))


def paths_of(removed: Iterable[list[Path]]) -> list[str]:
    """Return all paths as text."""
    return [str(path) for paths in removed for path in paths]
