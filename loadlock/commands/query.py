"""Commands that ask: sql, shell, status."""

from __future__ import annotations

import argparse
import sys

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
    """Print tools, rows, gaps, quarantine and sizes."""
    with open_lake(options) as lake:
        document = lake.status()
    if options.json:
        print_json(document)
    else:
        from loadlock.render import overview

        overview(document)
    return 0
