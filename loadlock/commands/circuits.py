"""Commands over the breakers of tools."""

from __future__ import annotations

import argparse

from loadlock.commands.shared import list_items, open_lake, print_json, rows


def listing(options: argparse.Namespace) -> int:
    """List circuits."""
    with open_lake(options) as lake:
        return list_items(options, "circuits", rows(lake, "SELECT * FROM circuits ORDER BY tool"))


def reset(options: argparse.Namespace) -> int:
    """Close a circuit by hand."""
    with open_lake(options, read_only=False) as lake:
        worn = lake.reset_circuit(options.tool, reason=options.reason)
    if options.json:
        print_json({"schema": 1, "reset": [{"tool": c.tool, "kind": c.kind, "was": c.state, "because": c.reason} for c in worn]})
    else:
        for circuit in worn:
            print(f"{circuit.tool}: closed (it was {circuit.state}: {circuit.reason or 'some payloads failed'})")
        if not worn:
            print(f"{options.tool}: closed already")
    return 0
