"""What the mirror's records hold: the rows that are in no data file, and the list of data files, of one commit or of the whole lake."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from storage import mirror
from storage.catalog import rows
from storage.ledger import Entry, canonical
from storage.schema import COLUMNS, FORMAT_VERSION, arrow_schema, fitted
from storage.zstd import zstd

INLINED = "ducklake_inlined_data_"
"""What DuckLake gives as the file name of a row that it keeps in the catalog."""

BASE_ROWS = 100_000
LEVEL = 1
LEDGER = ("seq", "recorded_at", "actor", "action", "batch_id", "body", "prev_hash", "hash")

_META = "__ducklake_metadata_lake"
_FILES = (
    f"SELECT f.data_file_id, t.table_name, f.path, f.path_is_relative, f.record_count, f.file_size_bytes FROM {_META}.ducklake_data_file f "
    f"JOIN (SELECT DISTINCT table_id, table_name FROM {_META}.ducklake_table) t USING (table_id) WHERE f.end_snapshot IS NULL ORDER BY 2, 3"
)


def pack(head: Mapping[str, Any], tables: Mapping[str, pa.Table]) -> bytes:
    """Return a record's body: a JSON head and the tables as Arrow streams, compressed."""
    streams = []
    for name, table in tables.items():
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        streams.append((name, sink.getvalue().to_pybytes()))
    text = canonical({**head, "tables": [[name, len(data)] for name, data in streams]}).encode()
    return zstd.compress(b"".join([len(text).to_bytes(4, "little"), text, *(data for _, data in streams)]), LEVEL)


def unpack(body: bytes) -> tuple[dict[str, Any], dict[str, pa.Table]]:
    """Return the head and the tables of a record's body."""
    import json

    data = zstd.decompress(body)
    at = 4 + int.from_bytes(data[:4], "little")
    head = json.loads(data[4:at])
    tables = {}
    for name, size in head["tables"]:
        with pa.ipc.open_stream(pa.py_buffer(data[at : at + size])) as reader:
            tables[name] = reader.read_all()
        at += size
    return head, tables


def commit_body(
    entry: Entry,
    files: list[dict[str, object]],
    removed: Mapping[str, list[str]],
    deleted: Mapping[str, str],
    tables: Mapping[str, pa.Table],
    snapshot: int,
    flushed: Sequence[str] = (),
) -> bytes:
    """Return the body of a commit's record; ``snapshot`` is the catalog's before it; of ``flushed``, ``tables`` holds all that stays."""
    head = {
        "entry": {name: getattr(entry, name) for name in LEDGER} | {"recorded_at": entry.recorded_at.isoformat(timespec="microseconds")},
        "files": files,
        "removed": removed,
        "deleted": deleted,
        "snapshot": snapshot,
        "flushed": list(flushed),
    }
    return pack(head, {name: table for name, table in tables.items() if table.num_rows})


def base_bodies(connection: duckdb.DuckDBPyConnection, root: Path) -> Iterator[bytes]:
    """Yield the bodies of a base: the lake as the catalog holds it now."""
    yield pack({"format_version": FORMAT_VERSION, "files": catalog_files(connection, root)}, {})
    for table in COLUMNS:
        holes = _holes(connection, root, table)
        if holes:
            yield pack({"holes": {table: holes}}, {})
        for batch in inlined(connection, table):
            yield pack({}, {table: batch})


def catalog_files(connection: duckdb.DuckDBPyConnection, root: Path) -> list[dict[str, object]]:
    """Return (table, path relative to the lake, rows, size) of every data file that shows a row.

    DuckLake may note a deleted file's rows one by one instead of letting go of the file: such a file is none of these.
    """
    found = []
    deleted: dict[int, int] = {}
    for (number,) in rows(connection, f"SELECT DISTINCT table_id FROM {_META}.ducklake_table WHERE end_snapshot IS NULL"):
        deleted |= deleted_rows(connection, int(number))
    for number, table, path, relative, count, size in rows(connection, _FILES):
        if deleted.get(number, 0) < count:
            full = root / "data" / "main" / table / path if relative else Path(path)
            found.append({"table": table, "path": relative_path(full, root), "rows": int(count), "size": int(size)})
    return found


def deleted_rows(connection: duckdb.DuckDBPyConnection, table: int) -> dict[int, int]:
    """Return file -> rows that the catalog itself notes as deleted."""
    query = f"SELECT file_id, count(DISTINCT row_id) FROM {_META}.ducklake_inlined_delete_{table} GROUP BY 1"
    try:
        return {int(file): int(count) for file, count in rows(connection, query)}
    except duckdb.CatalogException:  # DuckLake makes this table at the first such deletion
        return {}


def relative_path(path: Path, root: Path) -> str:
    """Return ``path`` relative to the lake where it lies in it."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _table_id(connection: duckdb.DuckDBPyConnection, table: str) -> int | None:
    found = rows(connection, f"SELECT max(table_id) FROM {_META}.ducklake_table WHERE table_name = ? AND end_snapshot IS NULL", [table])
    return None if found[0][0] is None else int(found[0][0])


def inlined_tables(connection: duckdb.DuckDBPyConnection, table: str) -> list[str]:
    """Return the catalog's own tables that hold rows of ``table``."""
    query = f"SELECT table_name FROM {_META}.ducklake_inlined_data_tables WHERE table_id = ?"
    return [name for (name,) in rows(connection, query, [_table_id(connection, table)])]


def inlined(connection: duckdb.DuckDBPyConnection, table: str) -> Iterator[pa.Table]:
    """Yield the rows of ``table`` that are in the catalog itself, in pieces."""
    names = ", ".join(f'"{name}"' for name in COLUMNS[table])
    kept = inlined_tables(connection, table)
    if not any(rows(connection, f"SELECT 1 FROM {_META}.{name} WHERE end_snapshot IS NULL LIMIT 1") for name in kept):
        return
    reader = connection.execute(f"SELECT {names} FROM lake.main.{table} WHERE starts_with(filename, '{INLINED}')").to_arrow_reader(
        BASE_ROWS
    )
    for batch in reader:
        if batch.num_rows:
            yield pa.Table.from_batches([batch]).cast(arrow_schema(table))


def _holes(connection: duckdb.DuckDBPyConnection, root: Path, table: str) -> dict[str, list[int]]:
    """Return the rows of data files that are deleted though their file stays: path -> positions."""
    number = _table_id(connection, table)
    marks = rows(connection, f"SELECT count(*) FROM {_META}.ducklake_delete_file WHERE table_id = ? AND end_snapshot IS NULL", [number])[0][
        0
    ]
    if not marks and (number is None or not deleted_rows(connection, number)):
        return {}
    found = {}
    visible = f"SELECT filename, list(file_row_number) FROM lake.main.{table} WHERE NOT starts_with(filename, '{INLINED}') GROUP BY ALL"
    left = {relative_path(Path(path), root): set(positions) for path, positions in rows(connection, visible)}
    for file in catalog_files(connection, root):
        path, count = str(file["path"]), file["rows"]
        assert isinstance(count, int)
        if file["table"] == table and len(left.get(path, ())) != count:
            found[path] = sorted(set(range(count)) - left.get(path, set()))
    return found


@dataclass(slots=True)
class State:
    """A lake as its mirror tells it. ``files``: path -> what is known of it; ``holes``: path -> deleted positions."""

    seq: int
    hash: str
    format_version: int
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    holes: dict[str, list[int]] = field(default_factory=dict)
    tables: dict[str, list[pa.Table]] = field(default_factory=dict)


def state_of(records: list[mirror.Record]) -> State:
    """Return what the records come to; they begin with a base."""
    state = State(0, "", FORMAT_VERSION)
    for record in records:
        state.seq, state.hash = record.seq, record.hash
        head, tables = unpack(record.body)
        state.format_version = head.get("format_version", state.format_version)
        for paths in head.get("removed", {}).values():
            for path in paths:
                state.files.pop(path, None)
                state.holes.pop(path, None)
        for table, predicate in head.get("deleted", {}).items():
            state.tables[table] = _without(table, state.tables.get(table, []), predicate)
        for table in head.get("flushed", ()):
            state.tables[table] = []
        state.files |= {file["path"]: file for file in head.get("files", ())}
        for holes in head.get("holes", {}).values():
            state.holes |= holes
        for table, piece in tables.items():
            state.tables.setdefault(table, []).append(piece)
        if "entry" in head:
            state.tables.setdefault("ledger", []).append(_ledger_row(head["entry"]))
    return state


def _ledger_row(entry: dict[str, Any]) -> pa.Table:
    row = {name: entry[name] for name in LEDGER} | {"recorded_at": datetime.fromisoformat(entry["recorded_at"])}
    return pa.Table.from_pylist([row], schema=arrow_schema("ledger"))


def _without(table: str, pieces: list[pa.Table], predicate: str) -> list[pa.Table]:
    if not pieces:
        return []
    with duckdb.connect() as connection:
        connection.register(table, joined(table, pieces))
        kept = connection.execute(f"FROM {table} WHERE ({predicate}) IS NOT TRUE").to_arrow_table()
    return [kept.cast(arrow_schema(table))]


def joined(table: str, pieces: list[pa.Table]) -> pa.Table:
    """Return the pieces as one table of the lake's types."""
    return pa.concat_tables([fitted(piece, table) for piece in pieces]) if pieces else arrow_schema(table).empty_table()
