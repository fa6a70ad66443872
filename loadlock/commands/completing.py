"""The command that prints a script for the shell, which then completes commands, options and files."""

from __future__ import annotations

import argparse

from loadlock.commands.shared import print_json

FILES = ("FILE", "SOURCE", "KEY")
FOLDERS = ("DIR", "LAKE")


def completion(options: argparse.Namespace) -> int:
    """Print the completion script of a shell."""
    import shtab

    from loadlock.cli import _parser

    parser = _parser()
    _name_files(parser, shtab.FILE, shtab.DIRECTORY)
    script = shtab.complete(parser, shell=options.shell)
    if options.json:
        print_json({"schema": 1, "shell": options.shell, "script": script})
    else:
        print(script)
    return 0


def _name_files(parser: argparse.ArgumentParser, files: object, folders: object) -> None:
    """Say of every argument that is a file or a folder that it is one; shtab looks for the attribute ``complete``."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                _name_files(sub, files, folders)
        elif action.metavar in FILES:
            action.complete = files  # type: ignore[attr-defined]
        elif action.metavar in FOLDERS:
            action.complete = folders  # type: ignore[attr-defined]
