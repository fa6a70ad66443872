"""Commands over the ledger and its proof."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

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
    """Prove the chain, the accounts, every file and features."""
    with open_lake(options) as lake:
        report = lake.verify(quick=options.quick, every_feature=options.all)
        if options.checkpoint:
            report.faults += _departures(lake, options)
    if options.json:
        print_json(report.document())
        return 6 if report.faults else 0
    for fault in report.faults:
        print(f"FAULT {fault}")
    for damage in report.damaged:
        print(f"DAMAGED {damage.path}: {damage.rows:,} rows of {damage.table}, committed by ledger entry {damage.entry}")
        for name, values in (("tools", damage.tools), ("wafers", damage.wafers), ("payloads", damage.payloads)):
            print(f"    {name}: {', '.join(values) or 'none known'}")
    for path in report.orphans:
        print(f"orphan {path}: left by an interrupted run, in no snapshot; it harms nothing")
    verdict = f"{len(report.faults)} faults" if report.faults else "everything holds"
    proven = f"{report.entries} ledger entries, {report.files} files, {report.bytes:,} bytes"
    proven += " (sizes only)" if report.quick else f", {report.payloads} accounts, features of {report.windows} windows"
    print(f"{proven}: {verdict}")
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


def _departures(lake: Any, options: argparse.Namespace) -> list[str]:
    from storage import checkpoint
    from storage.signing import read_public
    from storage.trust import read_trust
    from storage.verify import entries

    document = checkpoint.read(Path(options.checkpoint))
    faults = checkpoint.check(document, list(entries(lake.store)), read_public(options.signer) if options.signer else None)
    known = read_trust(lake.store).find(document["key"])
    standing = "not a key of this lake" if known is None else f"'{known.name}', {'trusted' if known.revoked is None else 'since revoked'}"
    print(f"checkpoint of entry {document['seq']}, {document['time']}, signed by {document['key']} ({standing})", file=sys.stderr)
    return faults


def checkpoint(options: argparse.Namespace) -> int:
    """Sign the ledger's head."""
    from storage import checkpoint
    from storage.signing import write_json
    from storage.verify import entries

    with open_lake(options) as lake:
        document = checkpoint.make(list(entries(lake.store)), Path(options.key), lake.store.clock())
    if options.output:
        write_json(Path(options.output), document)
        print(f"{options.output}: ledger entry {document['seq']} signed by {document['key']}", file=sys.stderr)
    if options.json or not options.output:
        print_json(document)
    return 0
