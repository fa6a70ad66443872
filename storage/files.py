"""Parquet files that last: encodings by column, page checksums, SHA-256, fsync of file and folder."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from storage import featurerows
from storage.errors import StoreDown
from storage.featurepages import FeaturePages
from storage.featurerows import REALS, FeatureRows
from storage.locks import Mark
from storage.pages import ParquetFile
from storage.patience import patiently
from storage.pieces import Piece, tables, traces_schema
from storage.points import reached
from storage.schema import arrow_schema
from storage.tracepages import encode_traces

DELTA = "DELTA_BINARY_PACKED"
SPLIT = "BYTE_STREAM_SPLIT"
DICTIONARY = "dictionary"

ENCODINGS: dict[str, dict[str, str]] = {
    table: {"seq": DELTA, "ts": DELTA, "window_id": DELTA, "byte_start": DELTA, "value": SPLIT}
    for table in ("traces", "conflicts", "texts")
} | {"features_log": dict.fromkeys(REALS, SPLIT)}
"""table -> column -> encoding; other columns are dictionary encoded. Statistics seldom repeat: split they take a third of the time."""

UNPRUNED = frozenset({"value", "bytes", "body", "vars", "detail", "text", *REALS})
"""Columns without statistics: doubles must not promise pruning (NaN), and long values would swell the footer."""

THOROUGH_ROWS = 1 << 18
"""Traces of so many rows or fewer are compressed thoroughly: that costs less than a tenth of a second where a batch costs more anyway."""


@dataclass(slots=True, frozen=True)
class StagedFile:
    """A data file that is whole and durable on disk, and in no snapshot yet."""

    table: str
    path: Path
    rows: int
    size: int
    sha256: str

    def entry(self, root: Path) -> dict[str, object]:
        """Return what the ledger keeps of it; the path is relative to the lake."""
        return {
            "table": self.table,
            "path": self.path.relative_to(root).as_posix(),
            "rows": self.rows,
            "size": self.size,
            "sha256": self.sha256,
        }


def fsync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def temporary_of(path: Path) -> Path:
    """Return the name under which ``path`` is written."""
    return path.with_name(f".{path.name}.tmp")


def write_durably(path: Path, *parts: bytes | pa.Buffer) -> None:
    """Write ``parts``, one after the other, under a temporary name in the same folder, fsync, rename to ``path``, fsync the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_of(path)
    with open(temporary, "wb") as file:
        reached("file_opened")
        file.writelines(parts)
        file.flush()
        reached("file_written", temporary)
        os.fsync(file.fileno())
    reached("file_synced")
    os.rename(temporary, path)
    reached("file_renamed")
    fsync_folder(path.parent)
    reached("file_durable")


def value_encoding(values: npt.NDArray[np.float64] | npt.NDArray[np.float32]) -> str:
    """Return the encoding for a value column: quantised data repeat and take a dictionary, continuous data are byte-split."""
    sample = values[:: max(1, len(values) // 65536)]
    distinct = len(np.unique(sample.view(f"i{sample.itemsize}")))
    return DICTIONARY if distinct * 8 <= len(sample) else SPLIT


def encode(
    pieces: Iterable[pa.Table], schema: pa.Schema, name: str, *, value: str, level: int, row_group_rows: int
) -> tuple[pa.Buffer, int]:
    """Return the bytes of a Parquet file of ``pieces``, and its number of rows.

    Encodings are those of the lake's table ``name``; a row group holds whole pieces up to ``row_group_rows`` rows.
    """
    encodings = {column: kind for column, kind in ENCODINGS.get(name, {}).items() if column in schema.names}
    if "value" in encodings:
        encodings["value"] = value
    plain = {column: kind for column, kind in encodings.items() if kind != DICTIONARY}
    sink = pa.BufferOutputStream()
    writer = pq.ParquetWriter(
        sink,
        schema,
        version="2.6",
        compression="zstd",
        compression_level=level,
        use_dictionary=[column for column in schema.names if column not in plain],
        column_encoding=plain,
        write_statistics=[column for column in schema.names if column not in UNPRUNED],
        write_page_checksum=True,
        store_schema=False,
    )
    total = 0
    with writer:
        for group in _groups(pieces, row_group_rows):
            table = group[0] if len(group) == 1 else pa.concat_tables(group).unify_dictionaries().combine_chunks()
            writer.write_table(table.cast(schema) if table.schema != schema else table, row_group_size=max(1, table.num_rows))
            total += table.num_rows
    return sink.getvalue(), total


def _groups(pieces: Iterable[pa.Table], row_group_rows: int) -> Iterator[list[pa.Table]]:
    group: list[pa.Table] = []
    rows = 0
    for piece in pieces:
        if group and rows + piece.num_rows > row_group_rows:
            yield group
            group, rows = [], 0
        group.append(piece)
        rows += piece.num_rows
    if group:
        yield group


class Stager:
    """Writes the data files of one batch; ``name`` gives every file a name of its own.

    ``writer`` tells what writes pieces of traces and feature rows: ``pages``, our own, or ``pyarrow``, which writes all other tables.
    """

    def __init__(self, data: Path, name: Callable[[], str], *, level: int, row_group_rows: int, writer: str = "pages") -> None:
        self._data = data
        self._name = name
        self._level = level
        self._row_group_rows = row_group_rows
        self._writer = writer
        self.files: list[StagedFile] = []
        self._mark: Mark | None = None

    def write(self, name: str, table: pa.Table) -> StagedFile:
        """Make ``table`` durable as a file of the lake's table ``name``."""
        table = _conform(table, name)
        step = self._row_group_rows
        pieces = [table.slice(offset, step) for offset in range(0, table.num_rows, step)]
        value = value_encoding(np.asarray(table.column("value"))) if "value" in table.column_names else SPLIT
        return self.write_pieces(name, pieces, table.schema, value)

    def write_pieces(
        self, name: str, pieces: Iterable[pa.Table], schema: pa.Schema, value: str, *, row_group_rows: int | None = None
    ) -> StagedFile:
        """Make ``pieces`` durable as one file; ``value`` is the encoding of the value column, ``row_group_rows`` if not the lake's."""
        buffer, rows = encode(pieces, schema, name, value=value, level=self._level, row_group_rows=row_group_rows or self._row_group_rows)
        return self._stage(name, [buffer], rows)

    def write_traces(
        self, pieces: Iterable[Piece], optional: Set[str], values: npt.NDArray[np.float64] | npt.NDArray[np.float32]
    ) -> StagedFile:
        """Make ``pieces`` durable as one file of traces; ``optional`` names the columns with nulls, ``values`` are all of the pieces'."""
        if self._writer == "pages":
            thorough = values.size <= THOROUGH_ROWS
            file = encode_traces(pieces, level=self._level, row_group_rows=self._row_group_rows, optional=optional, thorough=thorough)
            return self._stage_file("traces", file)
        schema = traces_schema(optional)
        return self.write_pieces("traces", tables(pieces, schema), schema, value_encoding(values))

    def features(self, rows: Callable[[], Iterable[FeatureRows]]) -> Callable[[int | None], StagedFile]:
        """Encode what ``rows`` yields, a row group each, and return what makes it durable as one file, once its revision is known.

        It is called with the revision of all rows, or None where they have their own.
        """
        if self._writer == "pages":
            pages = FeaturePages(level=self._level)
            for some in rows():
                pages.add(some)
            return lambda revision: self._stage_file("features_log", pages.finish(revision))
        schema = arrow_schema("features_log")

        def write(revision: int | None) -> StagedFile:
            return self.write_pieces(
                "features_log", (featurerows.table(some, revision) for some in rows()), schema, SPLIT, row_group_rows=1
            )

        return write

    def _stage_file(self, name: str, file: ParquetFile) -> StagedFile:
        return self._stage(name, file.parts, file.rows)

    def _stage(self, name: str, parts: Sequence[bytes | pa.Buffer], rows: int) -> StagedFile:
        path = self._data / "main" / name / f"{self._name()}.parquet"
        if self._mark is None:
            self._mark = Mark(self._data.parent, path.stem)
            reached("mark_made")
        try:
            patiently(lambda: write_durably(path, *parts), OSError)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary_of(path).unlink(missing_ok=True)
            raise StoreDown(
                f"{path}: the data store does not take it ({error.strerror or error}); nothing of the batch was committed. "
                "Make room or bring the store back, and run the same command again"
            ) from error
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part)
        staged = StagedFile(name, path, rows, sum(len(part) for part in parts), digest.hexdigest())
        self.files.append(staged)
        return staged

    def replace(self, old: StagedFile, table: pa.Table) -> StagedFile:
        """Write ``table`` in place of a staged file that no snapshot names, and remove the old one."""
        staged = self.write(old.table, table)
        self.forget(old)
        return staged

    def forget(self, staged: StagedFile) -> None:
        """Remove a staged file that no snapshot names."""
        self.files.remove(staged)
        staged.path.unlink(missing_ok=True)
        reached("file_forgotten")

    def discard(self) -> None:
        """Remove every staged file: the batch will not be committed. What can't be removed is left to ``sweep``."""
        try:
            for staged in list(self.files):
                self.forget(staged)
        finally:
            self.release()

    def release(self) -> None:
        """Let go of the mark that keeps the staged files from being swept: they were committed, or are no more."""
        mark, self._mark = self._mark, None
        if mark is not None:
            mark.remove()


def _conform(table: pa.Table, name: str) -> pa.Table:
    """Return ``table`` in the column order of the lake's table, dictionary columns kept, columns without NULL as required."""
    schema = arrow_schema(name)
    fields, columns = [], []
    for field in schema:
        column = table.column(field.name) if field.name in table.column_names else pa.chunked_array([pa.nulls(table.num_rows, field.type)])
        if not pa.types.is_dictionary(column.type) and column.type != field.type:
            column = column.cast(field.type)
        fields.append(pa.field(field.name, column.type, nullable=column.null_count > 0))
        columns.append(column)
    return pa.table(columns, schema=pa.schema(fields))


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
