"""Commands that take deliveries back, decode them anew, or make up what was lost of them."""

from __future__ import annotations

import argparse
from typing import Any

from loadlock.commands.shared import open_lake, print_json


def retract(options: argparse.Namespace) -> int:
    """Undo deliveries in one commit."""
    with open_lake(options, read_only=False) as lake:
        done = lake.retract(options.payloads, options.reason)
    if options.json:
        print_json(done)
        return 0
    for payload in done["retracted"]:
        print(f"retracted {payload['payload_id']}, {payload['source']}: its key is free")
    for name in done["reopened"]:
        print(f"quarantine entry {name} is open again")
    _print_consequences(done)
    return 0


def reprocess(options: argparse.Namespace) -> int:
    """Decode payloads anew in one commit."""
    from loadlock.progress import working

    with open_lake(options, read_only=False) as lake, working(options) as tell:
        done = lake.reprocess(options.payloads, files=options.files, tool=options.tool, config=options.config, tell=tell)
    walled = any(payload["account"]["frames_quarantined"] or payload["account"]["records_conflict"] for payload in done["payloads"])
    if options.json:
        print_json(done)
        return 3 if walled else 0
    for payload in done["payloads"]:
        account = payload["account"]
        counts = ", ".join(f"{account[f'records_{name}']:,} {name}" for name in ("accepted", "duplicate", "conflict"))
        print(f"{payload['payload_id']} supersedes {payload['supersedes']}, {payload['source']}: records {counts}")
    _print_consequences(done)
    return 3 if walled else 0


def repair(options: argparse.Namespace) -> int:
    """Wall off damage, and make up what was lost."""
    from loadlock.progress import working

    with open_lake(options, read_only=False) as lake, working(options) as tell:
        done = lake.repair(files=options.files, dry_run=options.dry_run, tell=tell)
    damaged = bool(done["walled"]) and options.dry_run
    code = 0 if done["whole"] and not damaged else 3
    if options.json:
        print_json(done)
        return code
    for file in done["walled"]:
        print(f"walled off {file['path']}: {file['fault']}; {file['rows']:,} rows of {file['table']}")
    for payload in done["restored"]:
        counts = f": {payload['samples']:,} samples, {payload['events']:,} events" if "samples" in payload else ""
        print(f"decoded again {payload['payload_id']}, {payload['source']}{counts}")
    for path in done["kept"]:
        print(f"kept again {path}")
    if done["features"]:
        print(f"features of {done['features']:,} windows computed")
    for file in done["missing"]:
        print(f"MISSING {file['rows']:,} rows of {file['table']} at the most, of {file['path']}")
        for name, key in (("tools", "tools"), ("wafers", "wafers"), ("payloads", "missing_payloads")):
            print(f"    {name}: {', '.join(file[key]) or 'none known'}")
    for one in done["left"]:
        print(f"LEFT {one['what']}: {one['why']}")
    entries = ", ".join(map(str, done["entries"]))
    print("dry run: nothing was changed" if options.dry_run else f"ledger entries {entries}" if entries else "nothing to do")
    return code


def _print_consequences(done: dict[str, Any]) -> None:
    for payload_id, samples in done["promoted"].items():
        print(f"{samples:,} samples of payload {payload_id} that were conflicts took the place of others that went")
    for payload in done["repeated_by"]:
        print(f"payload {payload['payload_id']}, {payload['source']}, was a duplicate in part: what it repeated of these may be gone")
    print(f"ledger entry {done['ledger_seq']}: {done['windows']} windows and {done['features']} feature rows derived anew")
