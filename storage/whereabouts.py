"""Which committed files can hold a tool's rows of a time, told once for a whole batch.

DuckLake asks the catalog about every file of a table for each query: 30 ms where there are a thousand. A batch asks twice a tool, so it
reads the statistics once, and then the files themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from storage.mirrorbase import inlined_tables
from storage.store import Store
from storage.upkeep import META, with_holes

_FILES = f"""
SELECT t.table_id, f.data_file_id, f.path, f.path_is_relative,
       max(s.min_value) FILTER (c.column_name = 'tool'), max(s.max_value) FILTER (c.column_name = 'tool'),
       epoch_us(TRY_CAST(max(s.min_value) FILTER (c.column_name = 'ts') AS TIMESTAMP)),
       epoch_us(TRY_CAST(max(s.max_value) FILTER (c.column_name = 'ts') AS TIMESTAMP))
FROM {META}.ducklake_table t
JOIN {META}.ducklake_data_file f ON f.table_id = t.table_id AND f.end_snapshot IS NULL
JOIN {META}.ducklake_column c ON c.table_id = t.table_id AND c.end_snapshot IS NULL AND c.column_name IN ('tool', 'ts')
LEFT JOIN {META}.ducklake_file_column_stats s ON s.data_file_id = f.data_file_id AND s.column_id = c.column_id
WHERE t.table_name = ? AND t.end_snapshot IS NULL GROUP BY ALL ORDER BY f.data_file_id
"""


@dataclass(slots=True, frozen=True)
class _File:
    path: str
    tools: tuple[str, str] | None
    times: tuple[int, int] | None
    whole: bool

    def admits(self, tool: str, ranges: Sequence[tuple[int, int]]) -> bool:
        """Tell whether rows of ``tool`` within one of the closed ``ranges`` (microseconds) can be here."""
        if self.tools is not None and not self.tools[0] <= tool <= self.tools[1]:
            return False
        return self.times is None or any(self.times[0] <= hi and self.times[1] >= lo for lo, hi in ranges)


class Whereabouts:
    """The files of the lake's table ``table``, as the snapshot shows them in which this is made."""

    def __init__(self, store: Store, table: str) -> None:
        found = store.rows(_FILES, [table])
        self._files: list[_File] = []
        self._inlined = any(
            store.rows(f"SELECT 1 FROM {META}.{name} WHERE end_snapshot IS NULL LIMIT 1")
            for name in inlined_tables(store.connection, table)
        )
        if not found:
            return
        holes = with_holes(store, int(found[0][0]))
        folder = store.data / "main" / table
        for _, number, path, relative, least, most, first, last in found:
            tools = None if least is None or most is None else (least, most)
            times = None if first is None or last is None else (int(first), int(last))
            self._files.append(_File(str(folder / path) if relative else path, tools, times, number not in holes))

    def of(self, tool: str, ranges: Sequence[tuple[int, int]]) -> list[str] | None:
        """Return the paths that can hold rows of ``tool`` within ``ranges``; None where the files alone do not tell what is there.

        Rows that are in the catalog, or were deleted from a file there, are DuckLake's to know.
        """
        if self._inlined:
            return None
        chosen = [file for file in self._files if file.admits(tool, ranges)]
        return [file.path for file in chosen] if all(file.whole for file in chosen) else None
