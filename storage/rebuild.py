"""Rebuilds a catalog that was lost, from the data files and the mirror, and compares a catalog with its mirror."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from storage import mirror
from storage.catalog import attach_sql, open_catalog, rows
from storage.creation import OPTIONS
from storage.errors import IntegrityError, LoadlockError
from storage.files import fsync_folder, write_durably
from storage.locks import writer_lock
from storage.marker import read_marker
from storage.mirrorbase import State, catalog_files, inlined, joined, state_of, unpack
from storage.points import reached
from storage.schema import COLUMNS, FORMAT_VERSION, arrow_schema, create_statements
from storage.store import Store

CHUNK_ROWS = 500_000
"""Fewer rows than DuckLake keeps in the catalog at a time: it must never write a data file itself."""

DATABASES = ("catalog.sqlite", "index.sqlite")


class CatalogThere(LoadlockError):
    """There is a catalog already."""

    exit_code = 2


def rebuild(path: Path, wait_s: float) -> tuple[State, list[str]]:
    """Make the catalog of the lake at ``path`` anew; return what it holds, and what is wrong with mirror or data files."""
    path = path.resolve()
    if not (path / "mirror").is_dir():
        raise IntegrityError(f"{path / 'mirror'}: there is no mirror here; name the lake's folder with --lake, or restore a backup")
    with writer_lock(path / "lock", wait_s):
        if (path / "catalog.sqlite").exists():
            raise CatalogThere(f"{path / 'catalog.sqlite'}: the catalog is there; to rebuild it move it away, with its -wal and -shm files")
        records, faults = mirror.read(path / "mirror")
        if not records:
            raise IntegrityError(f"{path / 'mirror'}: can't be read ({'; '.join(faults)}); restore a backup")
        if _never_committed(path, records[-1]):
            faults.append(f"ledger entry {records.pop().seq}: left out, none of its data files is there; deliver its payloads again")
        state = state_of(records)
        faults += _lost(path, state)
        for name in DATABASES:
            for suffix in ("", "-wal", "-shm"):
                (path / (name + suffix)).unlink(missing_ok=True)
        fresh = path / "catalog.sqlite.rebuilt"
        fresh.unlink(missing_ok=True)
        reached("remains_cleared")
        _build(fresh, path, state)
        reached("catalog_built")
        _front_matter(path, fresh, state)  # first: a catalog without a marker reads as a lake that was never finished
        os.rename(fresh, path / "catalog.sqlite")
        fsync_folder(path)
        reached("catalog_put_back")
    return state, faults


def _files_are_there(root: Path, files: list[dict[str, Any]]) -> bool:
    return all((root / file["path"]).exists() and (root / file["path"]).stat().st_size == file["size"] for file in files)


def _never_committed(root: Path, last: mirror.Record) -> bool:
    """Tell whether the log's last record describes a commit that was given up: its files were removed, all of them."""
    files = unpack(last.body)[0].get("files", []) if last.kind == mirror.COMMIT else []
    return bool(files) and not any((root / file["path"]).exists() for file in files)


def _lost(root: Path, state: State) -> list[str]:
    """Take files that are gone or of another size out of ``state``; return what there is to say about them."""
    faults = []
    for name, file in list(state.files.items()):
        if not _files_are_there(root, [file]):
            found = (root / name).stat().st_size if (root / name).exists() else None
            faults.append(f"{name}: {'missing' if found is None else f'{found} bytes'}, {file['size']} in the mirror; left out")
            del state.files[name]
    return faults


def _build(catalog: Path, root: Path, state: State) -> None:
    """Fill a new catalog in one transaction."""
    connection = open_catalog(catalog, root / "data", read_only=False)
    for option, value in OPTIONS.items():
        connection.execute(f"CALL lake.set_option('{option}', '{value}')")
    connection.execute("BEGIN")
    for statement in create_statements():
        connection.execute(statement)
        reached("table_made")
    for table in COLUMNS:
        paths = sorted(str(root / path) for path, file in state.files.items() if file["table"] == table)
        if paths:
            connection.execute(f"CALL ducklake_add_data_files('lake', '{table}', ?, allow_missing => true)", [paths])
        _insert(connection, table, joined(table, state.tables.get(table, [])))
    connection.execute("COMMIT")
    reached("tables_made")
    for path, positions in state.holes.items():
        if path in state.files:
            connection.execute(
                f"DELETE FROM lake.main.{state.files[path]['table']} WHERE filename = ? AND file_row_number IN (SELECT unnest(?))",
                [str(root / path), positions],
            )
    connection.close()


def _insert(connection: duckdb.DuckDBPyConnection, table: str, values: pa.Table) -> None:
    names = ", ".join(f'"{name}"' for name in COLUMNS[table])
    for start in range(0, values.num_rows, CHUNK_ROWS):
        connection.register("incoming", values.slice(start, CHUNK_ROWS))
        connection.execute(f"INSERT INTO lake.main.{table} ({names}) SELECT {names} FROM incoming")
        connection.unregister("incoming")


def _front_matter(path: Path, catalog: Path, state: State) -> None:
    """Write the marker and the script for plain DuckDB where they were lost, too."""
    if not (path / "attach.sql").exists():
        write_durably(path / "attach.sql", attach_sql(path / "catalog.sqlite", path / "data").encode())
    known = read_marker(path, older=True) if (path / "lake.json").exists() else None
    if known is None or known["format_version"] != FORMAT_VERSION:  # the catalog was built in today's format
        with open_catalog(catalog, path / "data", read_only=True) as connection:
            created_at, body = rows(connection, "SELECT recorded_at, body FROM lake.main.ledger ORDER BY seq LIMIT 1")[0]
        software = json.loads(body)["software"]
        marker = {"format_version": FORMAT_VERSION, "created_at": created_at.isoformat(), "software": software}
        write_durably(path / "lake.json", (json.dumps(marker, indent=1) + "\n").encode())


# --- comparison


def compare(store: Store) -> list[str]:
    """Return where the mirror is damaged, or holds other rows or files than the catalog."""
    for _ in range(3):
        with store.reading():
            seq, _hash = store.head()
            records, faults = mirror.read(store.path / "mirror")
            if not records or records[0].seq > seq:  # a new base was written meanwhile: look again
                continue
            state = state_of([record for record in records if record.seq <= seq])
            if state.seq < seq:
                faults.append(f"mirror: it ends with ledger entry {state.seq}, the catalog with {seq}")
            else:  # what is torn after the head was never committed; the next writer cuts it off
                last = f"mirror/{mirror.segments(store.path / 'mirror')[-1].name}: "
                faults = [fault for fault in faults if not fault.startswith(last)]
            if faults:
                return faults
            return [*_other_files(store, state), *_other_rows(store, state)]
    return faults or ["mirror: it begins after the catalog's newest entry"]


def _other_files(store: Store, state: State) -> list[str]:
    known = {str(file["path"]) for file in catalog_files(store.connection, store.path)}
    return [f"{path}: in the mirror, not in the catalog" for path in sorted(set(state.files) - known)] + [
        f"{path}: in the catalog, not in the mirror" for path in sorted(known - set(state.files))
    ]


def _other_rows(store: Store, state: State) -> list[str]:
    faults = []
    with duckdb.connect() as connection:
        for table in COLUMNS:
            batches = list(inlined(store.connection, table))
            held = pa.concat_tables(batches) if batches else arrow_schema(table).empty_table()
            noted = joined(table, state.tables.get(table, []))
            if held.equals(noted):  # mostly: both list them in order of arrival
                continue
            connection.register("catalog_rows", held)
            connection.register("mirror_rows", noted)
            for one, other in (("catalog", "mirror"), ("mirror", "catalog")):
                extra = connection.execute(
                    f"SELECT count(*), min(seq) FROM (FROM {one}_rows EXCEPT ALL FROM {other}_rows)"
                    if table == "ledger"
                    else f"SELECT count(*), NULL FROM (FROM {one}_rows EXCEPT ALL FROM {other}_rows)"
                ).fetchall()[0]
                if extra[0]:
                    first = f" (the first is entry {extra[1]})" if extra[1] is not None else ""
                    faults.append(f"{table}: {extra[0]} rows of the {one} are not in the {other}{first}")
    return faults
