"""The command that writes a page."""

from __future__ import annotations

import argparse
from pathlib import Path

from loadlock.commands.shared import open_lake, print_json


def report(options: argparse.Namespace) -> int:
    """Write one self-contained page about the lake."""
    from loadlock.report import Wishes, write

    with open_lake(options) as lake:
        size = write(lake, Path(options.output), Wishes(options.tool, options.lot, options.golden))
    if options.json:
        print_json({"schema": 1, "output": options.output, "bytes": size})
    else:
        print(f"{options.output}: {size:,} bytes; it needs no network")
    return 0
