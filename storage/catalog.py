"""The DuckDB connection: extensions from the pinned wheels, loaded by path, nothing fetched; the DuckLake catalog attached."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

import duckdb

from storage.errors import LoadlockError
from storage.points import reached

EXTENSIONS = ("sqlite_scanner", "ducklake")
OFFLINE: dict[str, str | bool | int | float | list[str]] = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
ONE_THREAD = {"threads": "1"}
"""While a lake is opened: statements over the catalog alone cost twice the CPU on two threads."""

UNCHECKED = {"allow_unsigned_extensions": "true"}
"""Proving the signatures of both extensions costs more CPU than the rest of a small ingest. DuckDB's own library, installed beside them, is
proven by nobody either. The permission ends once the two are loaded, and can't be had again on that connection."""

INLINE_ROWS = 1_000_000
"""DuckLake keeps what is INSERTed in the catalog; data files are only ever written by us, with checksums."""


class ExtensionMissing(LoadlockError):
    """A DuckDB extension wheel is not installed."""

    exit_code = 2


def extension_path(name: str) -> Path:
    """Return the file of the DuckDB extension ``name`` inside its installed wheel."""
    spec = importlib.util.find_spec(f"duckdb_extension_{name}")
    folder = Path(spec.origin).parent if spec and spec.origin else None
    found = sorted(folder.glob(f"extensions/v{duckdb.__version__}/{name}.duckdb_extension")) if folder else []
    if not found:
        package = f"duckdb-extension-{name.replace('_', '-')}=={duckdb.__version__}"
        raise ExtensionMissing(f"the DuckDB extension '{name}' is not installed; install the wheel {package}")
    return found[0]


def connect(*, prove: bool = False) -> duckdb.DuckDBPyConnection:
    """Return an in-memory connection with the extensions loaded and every way to load others closed; ``prove`` checks their signatures."""
    connection = duckdb.connect(config=OFFLINE | ONE_THREAD | ({} if prove else UNCHECKED))
    for name in EXTENSIONS:
        connection.execute(f"LOAD {_literal(str(extension_path(name)))}")
    connection.execute("SET allow_unsigned_extensions = false")
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def attach_statement(catalog: Path, data: Path, *, read_only: bool, snapshot: int | None = None) -> str:
    """Return the ATTACH that names the lake's catalog ``lake`` (rules R3, R8)."""
    options = [
        f"DATA_PATH {_literal(str(data) + '/')}",
        "OVERRIDE_DATA_PATH true",
        "META_JOURNAL_MODE 'WAL'",
        "META_BUSY_TIMEOUT 5000",
    ]
    options.append("READ_ONLY" if read_only else f"DATA_INLINING_ROW_LIMIT {INLINE_ROWS}")
    if snapshot is not None:
        options.append(f"SNAPSHOT_VERSION {snapshot}")
    return f"ATTACH {_literal('ducklake:sqlite:' + str(catalog))} AS lake ({', '.join(options)})"


ADDED = {"q.sha256": ("quarantine_log", "sha256", "VARCHAR"), "c.override": ("circuits_log", "override", "VARCHAR")} | {
    "c.override_until": ("circuits_log", "override_until", "TIMESTAMP")
}
"""Columns that tables got since format 1, as the views spell them: snapshots from before an upgrade lack them."""


def views_sql(lacking: Iterable[str] = ()) -> str:
    """Return the statements that create the analysts' views and macros; NULL stands for what a snapshot is ``lacking`` of ``ADDED``."""
    text = "".join(files("storage").joinpath(name).read_text(encoding="utf-8") for name in ("views.sql", "macros.sql"))
    for name in sorted(lacking, reverse=True):  # the longer of two that begin alike first
        text = text.replace(name, f"NULL::{ADDED[name][2]}")
    return text


def show_views(connection: duckdb.DuckDBPyConnection, lacking: Iterable[str] = ()) -> None:
    """Create the analysts' views, with one look at the catalog for all; queries use all threads from here on."""
    connection.execute(f"BEGIN;\n{views_sql(lacking)}\nCOMMIT;\nRESET threads")


def lacking(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Return what the attached snapshot's tables lack of ``ADDED``."""
    known = {table: {row[0] for row in rows(connection, f"DESCRIBE lake.main.{table}")} for table, _, _ in ADDED.values()}
    return [name for name, (table, column, _) in ADDED.items() if column not in known[table]]


def open_catalog(catalog: Path, data: Path, *, read_only: bool, snapshot: int | None = None) -> duckdb.DuckDBPyConnection:
    """Return a connection with the lake attached as ``lake``, as it is or as it was at ``snapshot``; without views, and on one thread."""
    connection = connect()
    connection.execute(attach_statement(catalog, data, read_only=read_only, snapshot=snapshot))
    reached("catalog_attached")
    return connection


def attach_sql(catalog: Path, data: Path) -> str:
    """Return a script for plain DuckDB: ``duckdb -init attach.sql``."""
    loads = "\n".join(f"LOAD {_literal(str(extension_path(name)))};" for name in EXTENSIONS)
    return (
        "-- Written by loadlock. Attaches this lake read-only in plain DuckDB of the version below, without loadlock:\n"
        f"--   duckdb -init attach.sql        (duckdb {duckdb.__version__})\n"
        "-- After moving the lake or the installation, 'loadlock doctor' writes it anew.\n"
        "SET autoinstall_known_extensions = false;\nSET autoload_known_extensions = false;\n"
        f"{loads}\nSET TimeZone = 'UTC';\n{attach_statement(catalog, data, read_only=True)};\n{views_sql()}"
    )


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def rows(connection: duckdb.DuckDBPyConnection, query: str, parameters: list[Any] | None = None) -> list[tuple[Any, ...]]:
    """Run ``query`` and return all rows."""
    return connection.execute(query, parameters or []).fetchall()
