"""Commands of maintenance: compact, expire, sweep."""

from __future__ import annotations

import argparse
from typing import Any

from loadlock.commands.shared import open_lake, print_json


def compact(options: argparse.Namespace) -> int:
    """Merge small files, and move rows out of the catalog."""
    from loadlock.progress import working

    with open_lake(options, read_only=False) as lake, working(options) as tell:
        items = lake.compact(everything=options.all, dry_run=options.dry_run, tell=tell)
    return _answer(options, items, "nothing to merge", ("table", "tool", "day", "files", "rows", "kept", "bytes", "bytes_after"))


def expire(options: argparse.Namespace) -> int:
    """Let old snapshots go."""
    with open_lake(options, read_only=False) as lake:
        items = lake.expire(keep_days=options.keep_days, dry_run=options.dry_run)
    return _answer(options, items, "no snapshot is old enough", ("snapshot", "time", "action"))


def sweep(options: argparse.Namespace) -> int:
    """Remove data files that no snapshot names."""
    with open_lake(options, read_only=False) as lake:
        items = lake.sweep(guard_hours=options.older_than, dry_run=options.dry_run)
    return _answer(options, items, "no file is loose and old enough", ("path", "why", "bytes"))


def _answer(options: argparse.Namespace, items: list[dict[str, Any]], nothing: str, columns: tuple[str, ...]) -> int:
    if options.json:
        print_json({"schema": 1, "dry_run": options.dry_run, "items": items})
        return 0
    from loadlock.render import table

    shown = [{name: item.get(name) for name in columns if any(name in one for one in items)} for item in items]
    table(shown, nothing)
    if items and options.dry_run:
        print("dry run: nothing was changed")
    return 0
