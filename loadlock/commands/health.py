"""The command that examines environment and lake."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from loadlock.commands.shared import imported, print_json


def doctor(options: argparse.Namespace) -> int:
    """Print environment, extensions, health of the lake and what to do next."""
    from loadlock.doctor import examine

    if options.warm:
        print("loadlock: compiling the kernels that this machine has not compiled yet", file=sys.stderr)
        imported()
    document = examine(Path(options.lake) if options.lake else None, options.wait, warm=options.warm)
    if options.json:
        print_json(document)
    else:
        for check in document["checks"]:
            print(f"{check['state']:5} {check['name']}: {check['found']}")
        print(f"next: {document['next']}")
    return int(document["exit_code"])
