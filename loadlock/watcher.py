"""Watching a folder: what lands is ingested batch by batch until the caller asks to stop.

The folder itself is the queue: every look at it finds all that is not taken yet, so that nothing is lost while nobody watches, and the
lake's keys see to it that nothing is taken twice. The system's notices of changes only say when to look.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ingest import sources
from ingest.config import Config
from ingest.errors import UsageError
from ingest.judgement import sole_tool
from ingest.landing import Landing
from ingest.receipts import Summary
from loadlock.lake import Lake
from storage.errors import Busy

TICK_S = 1.0
"""The longest that a request to stop, or a file that became whole, waits for attention."""

LOOK_S = 60.0
"""The folder is looked at so often even where the system tells of no change (network folders never do)."""

BLIND_LOOK_S = 5.0
"""The same where the system can't tell at all."""

SCAN_SHARE = 10.0
"""After a look at the folder there is none for so many times as long as it took."""

HELD_S = 10.0
"""Files that a circuit holds are not read; so often it is asked whether the circuit still does."""

KEEP_S = 300.0
"""So often an idle watch asks whether maintenance is due."""

Say = Callable[[str, str], None]


@dataclass(slots=True, frozen=True)
class Wishes:
    """How to watch. ``settle_s``: a file unchanged for so long is whole; ``retry_s``: when what was put off is tried again."""

    tool: str | None = None
    format: str | None = None
    jobs: int = 1
    settle_s: float = 2.0
    retry_s: float = 60.0


class Watch:
    """Ingests what lands in ``folder``. ``emit`` gets the summary of each batch and the number of files that wait; ``say`` the news."""

    def __init__(self, lake: Lake, folder: Path, wishes: Wishes, emit: Callable[[Summary, int], None], say: Say) -> None:
        if lake.store.path.is_relative_to(folder.resolve()):
            raise UsageError(f"{folder}: holds the lake {lake.store.path}; watch a folder beside it")
        self._lake = lake
        self._folder = folder
        self._wishes = wishes
        self._emit = emit
        self._say = say
        self._landing = Landing(folder, wishes.settle_s)
        self._look_at_s = 0.0
        self._rest_until_s = 0.0
        self._look_every_s = LOOK_S
        self._keep_at_s = time.monotonic() + KEEP_S
        self._pause_s = 0.0
        self._not_before_s = 0.0
        self._held: frozenset[str] = frozenset()
        self.batches = 0

    def run(self, stop: threading.Event) -> None:
        """Watch until ``stop`` is set; the batch that is under way then is finished."""
        for changed in self._ticks(stop):
            now = time.monotonic()
            if changed:
                self._look_at_s = now
            self._turn(now, stop)
            if stop.is_set():
                return

    def _ticks(self, stop: threading.Event) -> Iterator[bool]:
        """Yield about once a second, True where the system told of a change, until ``stop`` is set."""
        import watchfiles

        tick_ms = round(1000 * TICK_S)
        yield True
        try:
            for changes in watchfiles.watch(
                *(self._folder,),
                watch_filter=None,
                debounce=tick_ms,
                stop_event=stop,
                rust_timeout=tick_ms,
                yield_on_timeout=True,
                ignore_permission_denied=True,
            ):
                yield bool(changes)
        except (OSError, RuntimeError) as error:  # no more watches to be had, or the folder went away
            self._look_every_s = BLIND_LOOK_S
            self._say(f"the system does not tell of changes ({error}); looking every {BLIND_LOOK_S:.0f} s", "blind")
        while not stop.wait(TICK_S):
            yield False

    def _turn(self, now: float, stop: threading.Event) -> None:
        if now >= max(self._look_at_s, self._rest_until_s):
            self._landing.scan(now)
            self._look_at_s = now + self._look_every_s
            self._rest_until_s = now + SCAN_SHARE * (time.monotonic() - now)
            for news in self._landing.news():
                self._say(news, "refused")
        if now >= self._not_before_s:
            for batch in self._batches(self._landing.ready(now), now):
                self._ingest(batch)
                if stop.is_set() or time.monotonic() < self._not_before_s:
                    return
        if now >= self._keep_at_s:
            self._keep_at_s = now + KEEP_S
            self._maintain()

    def _maintain(self) -> None:
        try:
            self._lake.maintain()
        except Busy as error:
            self._say(str(error), "busy")
            return
        if self._lake.last_upkeep:
            self._say(self._lake.last_upkeep, "maintenance")

    # --- what is offered

    def _batches(self, ready: list[str], now: float) -> Iterator[list[str]]:
        """Yield the files to be taken now in lots of about a batch a job; those of tools whose circuit is open stay where they are."""
        if not ready:
            return
        try:
            config, held = self._lake.configuration(), self._lake.open_circuits()
        except Busy as error:
            self._wait(str(error))
            return
        for tool in sorted(held - self._held):
            self._say(f"the circuit of {tool} is open: its files stay where they are until it closes or tries one", "held")
        self._held = held
        lot: list[str] = []
        size, limit = 0, config.lake.batch_bytes * self._wishes.jobs
        for path in ready:
            if not self._landing.unchanged(path):
                self._look_at_s = now
                continue
            if not self._fits(path, config, held):
                continue
            lot.append(path)
            size += self._landing.size(path)
            if size >= limit:
                yield lot
                lot, size = [], 0
        if lot:
            yield lot

    def _fits(self, path: str, config: Config, held: frozenset[str]) -> bool:
        """Tell whether a file is to be offered: it is something to ingest, can be opened, and its tool's circuit is not open."""
        wishes = self._wishes
        try:
            found = next(sources.deliveries([Path(path)], config, tool=wishes.tool, format=wishes.format))
            if isinstance(found, sources.Skipped):
                self._say(f"skipped {path}: {found.reason}", "skipped")
                self._landing.take(path)
                return False
            if sole_tool(found, config) in held:
                self._landing.put_off(path, time.monotonic() + min(HELD_S, wishes.retry_s))
                return False
            found.open().close()
        except OSError as error:
            self._put_off(path, error)
            return False
        return True

    # --- what becomes of it

    def _ingest(self, paths: list[str]) -> None:
        wishes = self._wishes
        try:
            summary = self._lake.ingest_all([Path(path) for path in paths], tool=wishes.tool, format=wishes.format, jobs=wishes.jobs)
        except Busy as error:
            self._wait(str(error))
            return
        except OSError as error:  # a file went away, or its disk fails: the others must not suffer
            if len(paths) == 1:
                self._put_off(paths[0], error)
                return
            for path in paths:
                self._ingest([path])
            return
        until_s = time.monotonic() + wishes.retry_s
        deferred = {receipt.source for receipt in summary.receipts if receipt.state == "deferred"}
        for path in paths:
            if path in deferred:
                self._landing.put_off(path, until_s)
            else:
                self._landing.take(path)
        self.batches += 1
        self._emit(summary, self._landing.waiting)
        if summary.busy:
            self._wait(summary.busy)
            for path in deferred:
                self._landing.put_off(path, self._not_before_s)
        else:
            self._pause_s = 0.0
        if self._lake.last_upkeep:
            self._say(self._lake.last_upkeep, "maintenance")

    def _put_off(self, path: str, error: OSError) -> None:
        self._landing.put_off(path, time.monotonic() + self._wishes.retry_s)
        self._say(f"{path}: can't be read ({error.strerror}); tried again in {self._wishes.retry_s:.0f} s", "unreadable")

    def _wait(self, why: str) -> None:
        """Let the lake rest for a while that doubles as long as it is busy, up to the time after which anything is tried again."""
        self._pause_s = min(self._wishes.retry_s, max(1.0, 2 * self._pause_s))
        self._not_before_s = time.monotonic() + self._pause_s
        self._say(f"{why} Trying again in {self._pause_s:.0f} s", "busy")
