"""Commands over the breakers of tools."""

from __future__ import annotations

import argparse

from loadlock.commands.shared import list_items, open_lake, rows


def listing(options: argparse.Namespace) -> int:
    """List circuits."""
    with open_lake(options) as lake:
        return list_items(options, "circuits", rows(lake, "SELECT * FROM circuits ORDER BY tool"))
