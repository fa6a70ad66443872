"""SQL of people who look: one SELECT, on a connection of its own that holds the lake alone and can reach nothing else."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import duckdb

from ingest.errors import UsageError
from storage.catalog import open_catalog, show_views, views_sql
from storage.store import Store

ROWS, SECONDS, MEMORY = 1000, 20.0, "1GB"
MACROS = frozenset(re.findall(r"CREATE OR REPLACE MACRO (\w+)", views_sql()))
FUNCTIONS = MACROS | {"range", "generate_series", "unnest", "json_each", "json_tree", "duckdb_columns", "duckdb_tables", "duckdb_views"}
"""Table functions that may stand in a query. The others read files, run what a text says, or act on the lake's files."""


class Result(NamedTuple):
    """Columns and rows, and whether there were more."""

    columns: list[str]
    rows: list[tuple[Any, ...]]
    more: bool


def run(store: Store, query: str, *, seconds: float = SECONDS) -> Result:
    """Run one SELECT. Raises :class:`UsageError` for anything else, what DuckDB refuses, and what takes longer than ``seconds``."""
    connection = open_catalog(store.path / "catalog.sqlite", store.data, read_only=True)
    timer = threading.Timer(seconds, connection.interrupt)
    try:
        show_views(connection)
        _check(connection, query)
        folder = f"{store.data}/".replace("'", "''")
        connection.execute(f"SET memory_limit = '{MEMORY}'; SET temp_directory = ''; SET allowed_directories = ['{folder}']")
        connection.execute("SET python_enable_replacements = false; SET enable_external_access = false; SET lock_configuration = true")
        timer.start()
        done = connection.execute(query)
        rows = done.fetchmany(ROWS + 1)
        return Result([column[0] for column in done.description or ()], rows[:ROWS], len(rows) > ROWS)
    except duckdb.InterruptException:
        raise UsageError(f"the query took longer than {seconds:g} s and was stopped; ask for less, or use 'loadlock sql'") from None
    except duckdb.Error as error:
        raise UsageError(str(error)) from error
    finally:
        timer.cancel()
        connection.close()


def _check(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    statements = connection.extract_statements(query)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise UsageError("the box takes one SELECT (or FROM, WITH, DESCRIBE, SHOW); for all else there is 'loadlock sql'")
    (text,) = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [query]).fetchall()[0]
    try:
        tree = json.loads(text)
        names = set(_table_functions(tree))
    except RecursionError:
        raise UsageError("the statement is nested too deeply for this box") from None
    if tree["error"]:
        raise UsageError(f"the box can't judge this statement ({tree.get('error_message')}); write it as a plain SELECT")
    for name in sorted(names - FUNCTIONS):
        raise UsageError(f"the table function {name}() is not for this box; it knows {', '.join(sorted(FUNCTIONS))}")


def _table_functions(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if node.get("type") == "TABLE_FUNCTION":
            yield str(node["function"].get("function_name")).lower()
        for child in node.values():
            yield from _table_functions(child)
    elif isinstance(node, list):
        for child in node:
            yield from _table_functions(child)
