"""The command that begins: a lake, and a first configuration from what is delivered."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from loadlock.commands.shared import imported, lake_path, print_json

DEFAULT_FILE = "loadlock.toml"


def init(options: argparse.Namespace) -> int:
    """Create a lake; with ``--learn`` write a first configuration too, and create the lake only where one is named."""
    from ingest.errors import UsageError

    document: dict[str, Any] = {"schema": 1}
    if options.config and not options.learn:
        raise UsageError("--config names the file that --learn DIR writes; give both")
    if options.learn:
        document |= _learn(Path(options.learn), Path(options.config or DEFAULT_FILE))
    if options.lake or not options.learn:
        document |= _create(options)
    if options.json:
        print_json(document)
    else:
        _tell(options, document)
    return 0


def _create(options: argparse.Namespace) -> dict[str, Any]:
    from loadlock import __version__
    from loadlock.lake import actor
    from storage.creation import create

    made = create(lake_path(options), actor=actor(), software=__version__, wait_s=options.wait)
    return {"lake": str(lake_path(options)), "created": made}


def _learn(folder: Path, file: Path) -> dict[str, Any]:
    """Write the configuration that ``folder`` shows; a file that is there is never overwritten."""
    from ingest.config import Limits
    from ingest.errors import UsageError
    from ingest.first_config import first_config
    from ingest.survey import survey

    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; --learn takes a folder of deliveries")
    if file.exists():
        raise UsageError(f"{file}: is there already, and is not overwritten; name a new file with --config")
    imported()
    found = survey(folder, Limits())
    if not found.tools and not found.kinds:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in found.left[:5])
        raise UsageError(f"{folder}: nothing was recognised ({reasons or 'no files'}); write one by hand: docs/configuration.md")
    text = first_config(found)
    try:
        with open(file, "x", encoding="utf-8") as out:
            out.write(text)
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}; name a file in a folder that can be written with --config") from error
    tables = [{"table": kind.name, "files": len(kind.files), "patterns": kind.patterns} for kind in found.kinds]
    left = [{"file": name, "reason": reason} for name, reason in found.left]
    questions = sum("# ?" in line for line in text.splitlines())
    return {"config": str(file), "tools": sorted(found.tools), "tables": tables, "questions": questions, "left": left}


def _tell(options: argparse.Namespace, document: dict[str, Any]) -> None:
    if options.learn:
        found = [f"{len(document['tools'])} tools with captures"] if document["tools"] else []
        found += [f"table {table['table']} ({table['files']} files)" for table in document["tables"]]
        print(f"{document['config']}: written; {', '.join(found)}; {document['questions']} questions to you, marked '# ?'")
        for item in document["left"][:10]:
            print(f"  not covered: {item['file']}: {item['reason']}")
        if len(document["left"]) > 10:
            print(f"  not covered: {len(document['left']) - 10} more, see the end of the file")
    if "lake" in document:
        print(f"{document['lake']}: {'created' if document['created'] else 'is a lake already'}")
    if options.learn:
        rest = f"--config {document['config']} --lake {document.get('lake', 'fab.lake')} --dry-run"
        print(f"next: correct {document['config']}, then loadlock ingest {options.learn} {rest}")
