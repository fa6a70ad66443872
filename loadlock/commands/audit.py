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
    from loadlock.progress import working

    with open_lake(options) as lake, working(options) as tell:
        report = lake.verify(tell, quick=options.quick, every_feature=options.all)
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


def trace(options: argparse.Namespace) -> int:
    """Show where the samples under a sequence number came from."""
    from datetime import UTC, datetime

    from ingest.errors import UsageError

    at = None
    if options.at:
        try:
            at = datetime.fromisoformat(options.at)
        except ValueError as error:
            raise UsageError(f"--at {options.at}: no ISO 8601 time ({error})") from None
        at = at.astimezone(UTC).replace(tzinfo=None) if at.tzinfo else at
    with open_lake(options) as lake:
        found = lake.trace(options.tool, options.trace, options.seq, chamber=options.chamber, at=at, payload=options.payload)
    if options.json:
        print_json({"schema": 1, "records": found})
        return 0
    for record in found:
        _print_record(record)
    if not found:
        print("no such record: neither kept nor conflicting")
    return 0


def _print_record(record: dict[str, Any]) -> None:
    from ingest.sml import hex_dump

    payload, entry = record["payload"], record["ledger"]
    where = ", ".join(f"{name} {record[name]}" for name in ("tool", "chamber", "trace", "stream") if record[name])
    print(f"{record['outcome']}: {where}, seq {record['seq']}, ts {record['ts']}, window {record['window_id']}")
    for sample in record["samples"]:
        print(f"  {sample['position']:5d}  {sample['sensor']}  {sample['value']!r}")
    stop = f" to {record['byte_stop']}" if "byte_stop" in record else ""
    print(f"  payload {payload['payload_id']} from byte {record['byte_start']}{stop}, {payload.get('source')}")
    print(f"  sha256  {payload.get('sha256')}")
    print(f"  batch   {payload.get('batch_id')}, ledger entry {entry.get('seq')} {entry.get('hash')}")
    print(f"  decoded by loadlock {entry.get('software')} with configuration {entry.get('config_digest')}")
    if "bytes_from" not in record:
        print("  its bytes are not at hand: name the delivered file with --payload")
    elif record["message"] is not None:
        print(f"  message, from {record['bytes_from']}:")
        print(
            "\n".join(
                f"    {line}" for line in [*record["message"].splitlines(), *hex_dump(bytes.fromhex(record["hex"]), record["byte_start"])]
            )
        )


def digest(options: argparse.Namespace) -> int:
    """Print the order-independent digest of the content."""
    from loadlock.progress import working

    with open_lake(options) as lake, working(options) as tell:
        parts = lake.digest(tell)
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
