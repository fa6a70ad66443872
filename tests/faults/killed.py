"""Ingest in processes that kill themselves (SIGKILL) at a place that the caller names.

Each line of standard input is a JSON object with lake, config, place, nth and sources; for each, a child is forked, and its exit
status is printed. ``place`` is a step of ``storage.store.STEPS``, one of those below, or ``commit+MICROSECONDS`` from the start of
COMMIT; ``nth`` says at which occurrence (from 1; the first commit of a fresh lake keeps its configuration). Modules are imported once,
before the first fork; no database is ever opened in the parent.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any


def kill() -> None:
    """End this process at once."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


class Fuse:
    """Kills at the nth call."""

    def __init__(self, nth: int) -> None:
        self.left = nth

    def burn(self) -> None:
        self.left -= 1
        if self.left == 0:
            kill()

    def before(self, module: Any, name: str) -> None:
        """Burn before each call of ``module.name``."""
        real = getattr(module, name)

        def call(*arguments: Any, **options: Any) -> Any:
            self.burn()
            return real(*arguments, **options)

        setattr(module, name, call)

    def after(self, module: Any, name: str) -> None:
        """Burn after each call of ``module.name``."""
        real = getattr(module, name)

        def call(*arguments: Any, **options: Any) -> Any:
            result = real(*arguments, **options)
            self.burn()
            return result

        setattr(module, name, call)


class _StorageOs:
    """``os`` as ``storage.files`` sees it, with a rename of our own."""

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


def _places() -> dict[str, Callable[[Fuse], None]]:
    from storage import files, store

    def half_the_tables(fuse: Fuse) -> None:
        real = store.create_statements

        def statements() -> Iterator[str]:
            for statement in real():
                fuse.burn()
                yield statement

        store.create_statements = statements

    def rename(fuse: Fuse, *, after: bool) -> None:
        files.os = _StorageOs()
        files.os.rename = os.rename
        (fuse.after if after else fuse.before)(files.os, "rename")

    return {
        "file_written": lambda fuse: rename(fuse, after=False),
        "file_renamed": lambda fuse: rename(fuse, after=True),
        "folder_made": lambda fuse: fuse.before(store, "_check_empty"),
        "catalog_opened": lambda fuse: fuse.after(store, "open_catalog"),
        "half_the_tables": half_the_tables,
        "first_entry_sealed": lambda fuse: fuse.after(store.ledger, "seal"),
        "before_attach_sql": lambda fuse: fuse.before(store, "attach_sql"),
        "before_marker": lambda fuse: fuse.before(store.json, "dumps"),
    }


def on_step(place: str, nth: int) -> Callable[[str], None]:
    """Return what to do at each step of a commit."""
    fuse = Fuse(nth)
    name, _, delay_us = place.partition("+")

    def step(reached: str) -> None:
        if delay_us:
            if reached == "files_checked":
                fuse.left -= 1
                if fuse.left == 0:
                    threading.Timer(int(delay_us) / 1e6, kill).start()
        elif reached == name:
            fuse.burn()

    return step


def ingest_and_die(lake: str, config: str, place: str, nth: int, sources: list[str]) -> None:
    """Ingest ``sources`` and be killed on the way."""
    from loadlock.lake import Lake

    places = _places()
    if place in places:
        places[place](Fuse(nth))
    with Lake(lake, on_step=on_step(place, nth)) as opened:
        opened.ingest_all(sources, config=config)


def main() -> int:
    """Serve one request after the other until standard input ends."""
    import ingest.formats.hsms
    import ingest.formats.table  # noqa: F401
    import loadlock.lake  # noqa: F401

    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                ingest_and_die(**json.loads(line))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
