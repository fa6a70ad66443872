"""Commands that look at what could not be understood."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from loadlock.commands.shared import list_items, open_lake, print_json, rows

QUARANTINE = "quarantine_id, payload_id, tool, start, stop, reason, detail, state"
DIGEST = "sha256, bytes"


def listing(options: argparse.Namespace) -> int:
    """List quarantined spans."""
    where = "" if options.all else " WHERE state = 'open'"
    with open_lake(options) as lake:
        return list_items(options, "quarantine", rows(lake, f"SELECT {QUARANTINE} FROM quarantine{where} ORDER BY payload_id, start"))


def _span(options: argparse.Namespace) -> dict[str, Any]:
    from ingest.errors import UsageError

    with open_lake(options) as lake:
        found = rows(lake, f"SELECT {QUARANTINE}, {DIGEST} FROM quarantine WHERE quarantine_id = ?", [options.id])
    if not found:
        raise UsageError(f"no quarantine entry '{options.id}'; 'loadlock quarantine list' names them")
    return found[0]


def show(options: argparse.Namespace) -> int:
    """Print one span: reason and bytes."""
    from ingest.sml import hex_dump

    span = _span(options)
    data = bytes(span.pop("bytes") or b"")
    if options.json:
        print_json({"schema": 1, **span, "bytes": data.hex()})
        return 0
    for name, value in span.items():
        print(f"{name:14} {value}")
    print("\n".join(hex_dump(data[:4096], span["start"])))
    if len(data) > 4096:
        print(f"... {len(data) - 4096} more bytes; 'loadlock quarantine export' writes all of them")
    return 0


def export(options: argparse.Namespace) -> int:
    """Write a span's bytes to a file."""
    from ingest.errors import UsageError

    span = _span(options)
    if span["bytes"] is None:
        raise UsageError(f"'{options.id}' was discarded: its bytes are gone, their SHA-256 was {span['sha256']}")
    Path(options.output).write_bytes(bytes(span["bytes"]))
    if options.json:
        print_json({"schema": 1, "quarantine_id": options.id, "output": options.output, "bytes": len(span["bytes"])})
    else:
        print(f"{options.output}: {len(span['bytes'])} bytes of {options.id}")
    return 0
