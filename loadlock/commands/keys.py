"""Commands over the keys that sign checkpoints and approvals."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from loadlock.commands.shared import list_items, open_lake, print_json


def new(options: argparse.Namespace) -> int:
    """Make a key: the private half goes to a file, the public one is printed."""
    from ingest.errors import UsageError
    from storage import signing

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", options.name):
        raise UsageError(f"'{options.name}' is no name of a key: letters, digits, '.', '_' and '-', at most 64")
    path = Path(options.output or f"{options.name}.pem")
    public = signing.write_private(path)
    if options.json:
        print_json({"schema": 1, "name": options.name, "id": signing.key_id(public), "public": public, "private_file": str(path)})
    else:
        print(public)
    return 0


def listing(options: argparse.Namespace) -> int:
    """List the keys that the lake trusts or has trusted."""
    from storage.trust import read_trust

    with open_lake(options) as lake:
        trust = read_trust(lake.store)
    items = [
        {
            "name": key.name,
            "id": key.id,
            "public": key.public,
            "trusted": key.trusted,
            "revoked": key.revoked,
            "signs": key in trust.signers,
        }
        for key in trust.keys
    ]
    if options.json:
        rule = {
            "threshold": trust.threshold,
            "actions": dict(trust.rule.actions),
            "expiry": trust.expiry_s,
            "in_force": trust.in_force,
            "bootstrap": not trust.settled,
        }
        print_json({"schema": 1, "keys": items, **rule})
        return 0
    return list_items(options, "keys", items)


def _change(options: argparse.Namespace, action: str, **wanted: Any) -> int:
    from loadlock.lake import actor
    from storage import keyring

    with open_lake(options, read_only=False) as lake:
        entry, body = keyring.change(lake.store, action, actor(), options.wait, **wanted)
    if options.json:
        print_json({"schema": 1, "action": action, "ledger_seq": entry.seq, **body})
    else:
        print(f"{action}: {body['name']} ({body['id']}), ledger entry {entry.seq}")
    return 0


def trust(options: argparse.Namespace) -> int:
    """Trust a public key (by hand until the threshold is reached, afterwards by plan)."""
    from storage.signing import read_public

    return _change(options, "trust", name=options.name, public=read_public(options.public))


def revoke(options: argparse.Namespace) -> int:
    """Trust a key no longer (by hand until the threshold was reached, afterwards by plan)."""
    return _change(options, "revoke", name=options.name)
