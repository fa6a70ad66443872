"""Commands over the configuration."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from loadlock.commands.shared import open_lake, print_json, rows


def check(options: argparse.Namespace) -> int:
    """Check a configuration file."""
    from ingest.config import load

    config = load(Path(options.file))
    if options.json:
        print_json({"schema": 1, "file": options.file, "digest": config.digest(), "ok": True})
    else:
        counts = f"{len(config.sources)} sources, {len(config.tools)} tools, {len(config.tables)} tables"
        print(f"{options.file}: good ({counts}), digest {config.digest()[:16]}")
    return 0


def schema(_options: argparse.Namespace) -> int:
    """Print the JSON Schema of a configuration."""
    from ingest.config import Config
    from ingest.meanings import described

    print_json(described(Config.model_json_schema()))
    return 0


def show(options: argparse.Namespace) -> int:
    """Print the configuration that the lake keeps."""
    with open_lake(options) as lake:
        found = rows(lake, "SELECT digest, body FROM lake.main.configs ORDER BY revision DESC LIMIT 1")
    content = {"digest": found[0]["digest"], "config": json.loads(found[0]["body"])} if found else {"digest": None, "config": None}
    if options.json:
        print_json({"schema": 1, **content})
    else:
        print(json.dumps(content, indent=2, ensure_ascii=False))
    return 0
