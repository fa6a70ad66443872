"""Commands that bring data in: ingest, quarantine replay."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loadlock.commands.shared import lake_path, open_lake, print_json
from loadlock.say import say
from storage.errors import Busy

COMPILING = "compiling the kernels for this machine, once per version; this takes some seconds, from source up to a minute"


def ingest(options: argparse.Namespace) -> int:
    """Ingest files, folders or standard input."""
    from ingest.errors import UsageError
    from ingest.receipts import Summary
    from kernels.jit import is_cold
    from loadlock.progress import progress

    stdin = "-" in options.sources
    if stdin and len(options.sources) > 1:
        raise UsageError("standard input ('-') can't be mixed with other sources")
    if options.key and (len(options.sources) > 1 or (not stdin and Path(options.sources[0]).is_dir())):
        raise UsageError("--key names one payload; give one file")
    if not stdin:
        for source in options.sources:
            if not Path(source).exists():
                raise UsageError(f"{source}: no such file or folder")
    if is_cold():
        say(COMPILING, "compiling")
    data = sys.stdin.buffer.read() if stdin else None
    try:
        with _target(options) as lake, progress(options) as report:
            summary = lake.ingest_all(
                "stdin" if stdin else options.sources,
                data=data,
                key=options.key,
                tool=options.tool,
                format=options.format,
                config=options.config,
                dry_run=options.dry_run,
                jobs=options.jobs,
                progress=report,
            )
            if lake.last_upkeep:
                say(lake.last_upkeep, "maintenance", level="warning")
            write_metrics(options, lake)
    except Busy as error:
        summary = Summary()
        summary.busy = str(error)
    for line in summary.skipped:
        say(f"skipped {line}", "skipped", level="warning")
    if summary.busy:
        say(summary.busy, "busy", level="warning")
    return answer(options, summary)


def write_metrics(options: argparse.Namespace, lake: Any) -> None:
    """Write the metrics where ``--metrics`` asks for them; where that fails it is said, and no more: the data are committed."""
    if options.metrics:
        from loadlock.metrics import write

        try:
            write(lake, Path(options.metrics))
        except Busy as error:
            say(str(error), "metrics", level="warning")


@contextmanager
def _target(options: argparse.Namespace) -> Iterator[Any]:
    """Yield the lake to ingest into; a dry run where there is none yet gets one that vanishes."""
    if options.dry_run and not (lake_path(options) / "lake.json").exists():
        with tempfile.TemporaryDirectory(prefix="loadlock-") as folder:
            options = argparse.Namespace(**vars(options) | {"lake": str(Path(folder) / "dry.lake")})
            with open_lake(options, read_only=False) as lake:
                yield lake
        return
    with open_lake(options, read_only=False) as lake:
        yield lake


def answer(options: argparse.Namespace, summary: Any) -> int:
    """Print the receipts; return the exit code that they come to."""
    if options.json:
        print_json(summary.document())
    else:
        from loadlock.render import receipt

        receipt(summary, options)
    code: int = summary.exit_code
    return code


def replay(options: argparse.Namespace) -> int:
    """Decode quarantined spans again."""
    with open_lake(options, read_only=False) as lake:
        summary = lake.replay(options.ids, config=options.config)
    return answer(options, summary)
