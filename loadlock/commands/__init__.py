"""Does what a command asks: calls the lake, prints the answer, returns the exit code."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from importlib import import_module

from loadlock.say import say
from storage.errors import LoadlockError, is_interrupt

Command = Callable[[argparse.Namespace], int]

COMMANDS = {
    "init": "starting:init",
    "ingest": "feed:ingest",
    "watch": "watching:watch",
    "sql": "query:sql",
    "shell": "query:shell",
    "status": "query:status",
    "report": "report:report",
    "serve": "serve:serve",
    "quarantine list": "quarantine:listing",
    "quarantine show": "quarantine:show",
    "quarantine export": "quarantine:export",
    "quarantine replay": "feed:replay",
    "quarantine discard": "approvals:discard",
    "audit log": "audit:log",
    "audit verify": "audit:verify",
    "audit trace": "audit:trace",
    "audit digest": "audit:digest",
    "audit checkpoint": "audit:checkpoint",
    "circuits list": "circuits:listing",
    "circuits reset": "circuits:reset",
    "retract": "redo:retract",
    "reprocess": "redo:reprocess",
    "repair": "redo:repair",
    "backup": "safekeeping:backup",
    "restore": "safekeeping:restore",
    "upgrade": "safekeeping:upgrade",
    "compact": "upkeep:compact",
    "expire": "upkeep:expire",
    "sweep": "upkeep:sweep",
    **dict.fromkeys(("plan purge", "plan override", "plan discard", "plan trust", "plan revoke", "plan policy"), "approvals:plan"),
    "approve": "approvals:approve",
    "apply": "approvals:apply",
    "keys new": "keys:new",
    "keys list": "keys:listing",
    "keys trust": "keys:trust",
    "keys revoke": "keys:revoke",
    "config check": "settings:check",
    "config schema": "settings:schema",
    "config show": "settings:show",
    "completion": "completing:completion",
    "doctor": "health:doctor",
}
"""Command -> module of this package and function in it, which is imported when the command runs."""

ENDS: dict[int, tuple[str, ...]] = {
    3: ("ingest", "quarantine replay", "reprocess", "repair"),
    4: ("ingest",),
    7: ("keys trust", "keys revoke"),
}
"""Exit code -> the commands that it is an answer of. The other codes hold for all, 5 and 6 for all that open a lake."""


def run(options: argparse.Namespace) -> int:
    """Run the command that ``options`` name; errors go to stderr, their exit code to the caller."""
    name = options.command if not hasattr(options, "action") else f"{options.command} {options.action}"
    before = signal.getsignal(signal.SIGINT)
    try:
        module, function = COMMANDS[name].split(":")
        command: Command = getattr(import_module(f"loadlock.commands.{module}"), function)
        return command(options)
    except LoadlockError as error:
        say(str(error), "error", level="error", kind=type(error).__name__, exit_code=error.exit_code)
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except (KeyboardInterrupt, Exception) as error:
        if not is_interrupt(error):
            raise
        say("interrupted; nothing half done was kept, the next run goes on", "interrupted", level="warning")
        return 130
    finally:
        if signal.getsignal(signal.SIGINT) is not before:
            signal.signal(signal.SIGINT, before)
