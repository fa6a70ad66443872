"""Commands that ask: sql, shell, status."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ingest.errors import UsageError
from loadlock.commands.shared import open_lake, print_json
from storage.errors import LoadlockError


def sql(options: argparse.Namespace) -> int:
    """Run a query."""
    from loadlock.output import write_query

    with open_lake(options) as lake:
        if options.as_of is not None:
            lake.as_of(options.as_of)
        write_query(lake, options.query, options.format or ("json" if options.json else "table"), options.output)
    return 0


def shell(options: argparse.Namespace) -> int:
    """Read queries from standard input and run each."""
    from loadlock.output import write_query

    with open_lake(options) as lake:
        while True:
            try:
                line = input("loadlock> ")
            except EOFError:
                print()
                return 0
            if line.strip() in ("exit", "quit", ".exit", ".quit"):
                return 0
            if line.strip():
                try:
                    write_query(lake, line, "table", None)
                except LoadlockError as error:
                    print(error, file=sys.stderr)


def status(options: argparse.Namespace) -> int:
    """Print tools, rows, rates, gaps, quarantine, circuits and sizes; with ``--watch`` again and again."""
    if options.watch is not None and not 0 < options.watch < math.inf:
        raise UsageError(f"--watch {options.watch}: give seconds, more than 0")
    with open_lake(options) as lake:
        if options.watch is None:
            _overview(options, lake)
            return 0
        with suppress(KeyboardInterrupt), _screen() as clear:
            while True:
                clear()
                _overview(options, lake)
                time.sleep(options.watch)
    return 130


def _overview(options: argparse.Namespace, lake: Any) -> None:
    document = lake.status()
    if options.json:
        print_json(document, flush=True)
        return
    from loadlock.render import overview

    overview(document)
    sys.stdout.flush()


@contextmanager
def _screen() -> Iterator[Callable[[], None]]:
    """Yield what clears the screen: one of its own on a terminal, which is given back at the end; elsewhere nothing is cleared."""
    if not sys.stdout.isatty():
        yield lambda: None
        return
    from rich.console import Console

    console = Console()
    with console.screen(hide_cursor=True):
        yield console.clear
