"""The command that watches a folder."""

from __future__ import annotations

import argparse
import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loadlock.commands.feed import COMPILING, write_metrics
from loadlock.commands.shared import open_lake, print_json
from loadlock.say import say


def watch(options: argparse.Namespace) -> int:
    """Ingest what lands in a folder until SIGTERM (what is under way is finished, exit 0) or Ctrl-C (it is discarded, exit 130)."""
    from ingest.errors import UsageError
    from kernels.jit import is_cold
    from loadlock.render import batch_line
    from loadlock.watcher import Watch, Wishes

    folder = Path(options.folder)
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    for name in ("settle", "retry"):
        if not 0 < getattr(options, name) < math.inf:
            raise UsageError(f"--{name} {getattr(options, name)}: give seconds, more than 0")
    if is_cold():
        say(COMPILING, "compiling")

    def emit(summary: Any, waiting: int) -> None:
        if options.json:
            print_json(summary.document() | {"waiting": waiting}, flush=True)
        else:
            print(batch_line(summary, waiting, lake.store.clock()), flush=True)
        write_metrics(options, lake)

    with _stoppable() as stop, open_lake(options, read_only=False) as lake:
        lake.configuration(options.config)
        wishes = Wishes(options.tool, options.format, options.jobs, options.settle, options.retry)
        watching = Watch(lake, folder, wishes, emit, say)
        write_metrics(options, lake)
        say(f"watching {folder}", "watching")
        watching.run(stop)
        say(f"stopped after {watching.batches} batches; nothing is under way", "stopped")
    return 0


@contextmanager
def _stoppable() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM sets; a second one breaks off as Ctrl-C does."""
    stop = threading.Event()

    def ask(_number: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = signal.signal(signal.SIGTERM, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)
