"""Commands over the ledger and its proof."""

from __future__ import annotations

import argparse
import json

from loadlock.commands.shared import list_items, open_lake, print_json, rows


def log(options: argparse.Namespace) -> int:
    """List ledger entries."""
    limit = f" ORDER BY seq DESC LIMIT {options.last}" if options.last else ""
    with open_lake(options) as lake:
        columns = "seq, recorded_at, actor, action, batch_id" + (", body, prev_hash" if options.json else "") + ", hash"
        items = rows(lake, f"SELECT * FROM (SELECT {columns} FROM ledger{limit}) ORDER BY seq")
    for item in items:
        if "body" in item:
            item["body"] = json.loads(item["body"])
        else:
            item["hash"] = item["hash"][:16]
    return list_items(options, "ledger", items)


def verify(options: argparse.Namespace) -> int:
    """Prove the chain, the accounts and every file."""
    with open_lake(options) as lake:
        report = lake.verify()
    if options.json:
        print_json(report.document())
    else:
        for fault in report.faults:
            print(f"FAULT {fault}")
        verdict = f"{len(report.faults)} faults" if report.faults else "everything holds"
        print(f"{report.entries} ledger entries, {report.payloads} accounts, {report.files} files, {report.bytes:,} bytes: {verdict}")
    return 6 if report.faults else 0


def digest(options: argparse.Namespace) -> int:
    """Print the order-independent digest of the content."""
    with open_lake(options) as lake:
        parts = lake.digest()
    if options.json:
        print_json({"schema": 1, **parts})
    else:
        for name, value in parts.items():
            print(f"{name:9} {value}")
    return 0
