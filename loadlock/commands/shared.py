"""What commands share: the lake that the options name, and how an answer is printed."""

from __future__ import annotations

import argparse
import gc
import json
import signal
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from storage.errors import NoLake


def lake_path(options: argparse.Namespace) -> Path:
    """Return the folder of the lake that the options or ``LOADLOCK_LAKE`` name."""
    if not options.lake:
        raise NoLake("which lake? give --lake LAKE or set LOADLOCK_LAKE")
    return Path(options.lake)


def imported() -> None:
    """Let Python look for cycles again, which it does not while a command's modules are imported; they are left out from now on."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def open_lake(options: argparse.Namespace, *, read_only: bool = True) -> Any:
    """Return the open lake."""
    from loadlock.lake import Lake

    imported()
    lake = Lake(lake_path(options), read_only=read_only, wait=options.wait)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, partial(_interrupt, lake))
    return lake


def _interrupt(lake: Any, _number: int, _frame: object) -> None:
    """Answer Ctrl-C: DuckDB's own threads, too, leave their query, which they would finish otherwise."""
    import duckdb

    with suppress(duckdb.Error):
        lake.store.connection.interrupt()
    raise KeyboardInterrupt


def print_json(document: object, *, flush: bool = False) -> None:
    """Print one JSON object on one line."""
    print(json.dumps(document, ensure_ascii=False, default=str), flush=flush)


def rows(lake: Any, query: str, parameters: list[Any] | None = None) -> list[dict[str, Any]]:
    """Return the rows of ``query``, each as a dictionary."""
    relation = lake.sql(query, parameters)
    return [dict(zip(relation.columns, row, strict=True)) for row in relation.fetchall()]


def list_items(options: argparse.Namespace, title: str, items: list[dict[str, Any]]) -> int:
    """Print ``items`` as a table, or as JSON under ``title``; return exit code 0."""
    if options.json:
        print_json({"schema": 1, title: items})
    else:
        from loadlock.render import table

        table(items, f"no {title}")
    return 0
