"""Commands that plan, approve and carry out what destroys."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from loadlock.commands.shared import open_lake, print_json

SHOWN = 20
"""Things of one kind that a summary names."""


def _wish(options: argparse.Namespace) -> dict[str, Any]:
    """Return what the options of ``plan ACTION`` wish for."""
    kind = options.action
    if kind == "policy":
        from ingest import approved
        from ingest.config import load

        return approved.policy_wish(load(Path(options.config)).approval)
    if kind == "trust":
        from storage.signing import read_public

        return {"name": options.name, "public": read_public(options.public)}
    if kind == "override":
        return _override(options)
    if kind == "purge" and options.older_than is not None:
        from datetime import timedelta

        from storage.store import utc_now

        return {"tool": options.tool, "before": utc_now() - timedelta(days=options.older_than)}
    return {name: getattr(options, name) for name in FIELDS[kind]}


FIELDS = {"discard": ("ids",), "revoke": ("name",), "purge": ("tool", "before")}
"""Kind of plan -> the options that are its wish, beside the reason."""


def _override(options: argparse.Namespace) -> dict[str, Any]:
    """Return the wish for an override: one for a delivery names its bytes, and forcing ends by itself after a day if nothing is said."""
    from datetime import timedelta

    from ingest.errors import UsageError
    from storage.files import sha256_of
    from storage.store import utc_now

    if options.delivery and options.override != "force":
        raise UsageError("--delivery FILE goes with --force: that delivery is taken as it is")
    wanted, hours = options.override, options.hours_in_force
    if options.delivery:
        if not Path(options.delivery).is_file():
            raise UsageError(f"{options.delivery}: no such file; --delivery names the delivered file, as it lies there")
        wanted += f" {sha256_of(Path(options.delivery))}"
    if hours is None and options.override == "force":
        hours = FORCED_HOURS
    until = None if hours is None or wanted == "end" else utc_now() + timedelta(hours=hours)
    return {"tool": options.tool, "override": wanted, "until": until}


FORCED_HOURS = 24.0


def plan(options: argparse.Namespace) -> int:
    """Write down exactly what would be done."""
    from storage.signing import write_json

    with open_lake(options) as lake:
        document = lake.plan(options.action, {**_wish(options), "reason": options.reason}, hours=options.hours)
    if options.output:
        write_json(Path(options.output), document)
    if options.json or not options.output:
        print_json(document)
    _tell(document, sys.stderr if options.json or not options.output else sys.stdout)
    return 0


def approve(options: argparse.Namespace) -> int:
    """Sign a plan; with a lake at hand, only one that it would take."""
    from storage import plans, signing
    from storage.store import utc_now

    document = plans.read_plan(Path(options.plan))
    approval = plans.approve(document, Path(options.key), utc_now())
    if options.lake:
        with open_lake(options) as lake:
            lake.check_approval(document, approval)
    path = Path(options.output or f"{options.plan}.{Path(options.key).stem}.approval")
    signing.write_json(path, approval)
    if options.json:
        print_json({**approval, "file": str(path)})
    else:
        _tell(document, sys.stdout)
        print(f"{path}: approved with {approval['key']}")
    return 0


def apply(options: argparse.Namespace) -> int:
    """Carry a plan out."""
    from storage import plans

    document = plans.read_plan(Path(options.plan))
    approvals = [plans.read_approval(Path(name)) for name in options.approvals]
    return _apply(options, document, approvals)


def discard(options: argparse.Namespace) -> int:
    """Let the bytes of quarantined spans go: planned and applied at once, where a confirmation serves."""
    with open_lake(options) as lake:
        document = lake.plan("discard", {"ids": options.ids, "reason": options.reason})
    return _apply(options, document, [])


def _apply(options: argparse.Namespace, document: dict[str, Any], approvals: list[dict[str, Any]]) -> int:
    with open_lake(options, read_only=False) as lake:
        confirmed = options.yes or (not approvals and not lake.needs_approval() and _asked(document))
        done = lake.apply(document, approvals, confirmed=confirmed)
    if options.json:
        print_json(done)
        return 0
    approval = done["approval"]
    by = (
        "confirmed, no keys are trusted"
        if isinstance(approval, str)
        else f"approved by {', '.join(one['name'] for one in approval['signers'])}"
    )
    print(f"{done['kind']}: done, ledger entry {done['ledger_seq']} ({by})")
    if "older_snapshots" in done:
        print(
            f"{done['older_snapshots']} older snapshots still show what went; for the bytes to be gone from the disk, too: "
            f"loadlock expire --keep-days 0 --lake {options.lake}, then loadlock sweep --older-than 0 --lake {options.lake}"
        )
    return 0


def _asked(document: dict[str, Any]) -> bool:
    """Ask on a terminal whether ``document`` is to be carried out."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    _tell(document, sys.stderr)
    print("Carry it out? It can't be undone. Type yes: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() == "yes"


def _tell(document: dict[str, Any], file: Any) -> None:
    """Say in a few lines what a plan does."""
    print(f"{document['kind']}, planned by {document['by']} at ledger entry {document['seq']}: {document['wish']['reason']}", file=file)
    for name, value in document["effect"].items():
        if isinstance(value, list):
            print(f"  {name}: {len(value)}", file=file)
            for one in value[:SHOWN]:
                print(f"    {', '.join(f'{key} {part}' for key, part in one.items()) if isinstance(one, dict) else one}", file=file)
            if len(value) > SHOWN:
                print(f"    and {len(value) - SHOWN} more, see the plan", file=file)
        elif isinstance(value, dict):
            print(f"  {name}: {', '.join(f'{key} {part}' for key, part in value.items())}", file=file)
        elif value is not None:
            print(f"  {name}: {value}", file=file)
    print(f"  digest {document['digest']}, holds until {document['expires_at']}", file=file)
