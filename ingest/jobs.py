"""Several groups at once: each worker takes whole tools, on a connection of its own, and commits as any other process would.

The first works on the connection that is there; meanwhile the others open theirs.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from typing import TypeVar

from ingest import pipeline
from ingest.batch import Batch
from ingest.intake import Progress, Settings
from ingest.receipts import Summary
from ingest.segment import Arena
from ingest.sources import Delivery, Skipped
from ingest.timing import Stages
from storage.store import Store

Item = TypeVar("Item")


class _Stopped(BaseException):
    """Another worker failed, or the user broke off: what this one holds is discarded like at an interrupt."""


class _Worker(threading.Thread):
    """Ingests the deliveries of its tools, group by group, with what ``opening`` yields."""

    def __init__(self, opening: AbstractContextManager[Store], settings: Settings, stop: threading.Event) -> None:
        super().__init__(name="ingest", daemon=True)
        self._opening = opening
        self._stop_asked = stop
        self.stages = Stages(time.thread_time)
        self._settings = replace(settings, stages=self.stages, arena=Arena(), progress=self._watched(settings.progress))
        self.waiting: queue.SimpleQueue[Delivery | Skipped | None] = queue.SimpleQueue()
        self.bytes = 0
        self.summary: Summary | None = None
        self.error: BaseException | None = None
        self.ended = threading.Event()
        """Waited for in place of ``join``, which believes a thread to have ended once it was itself interrupted (CPython before 3.13)."""

    def _heed(self) -> None:
        if self._stop_asked.is_set():
            raise _Stopped

    def _watched(self, progress: Progress | None) -> Progress:
        def report(batch: Batch, position: int) -> None:
            self._heed()
            if progress:
                progress(batch, position)

        return report

    def give(self, item: Delivery | Skipped) -> None:
        """Let this worker ingest ``item``."""
        self.bytes += item.size if isinstance(item, Delivery) else 0
        self.waiting.put(item)

    def _items(self) -> Iterator[Delivery | Skipped]:
        while (item := self.waiting.get()) is not None:
            self._heed()
            yield item

    def run(self) -> None:
        """Ingest until there is no more; an error stops the other workers."""
        try:
            with self._opening as store, store.single_threaded(), store.heeding(self._heed):
                self.summary = pipeline.ingest(store, self._items(), self._settings)
        except _Stopped:
            pass
        except BaseException as error:
            self.error = error
            self._stop_asked.set()
        finally:
            self.ended.set()


def ingest(store: Store, found: Iterable[Delivery | Skipped], settings: Settings, jobs: int) -> Summary:
    """Ingest all of ``found`` with ``jobs`` workers and return one summary, its receipts in the order of ``found``.

    All deliveries of a tool go to one worker, in their order; a new tool goes to the one that has least to read. Deliveries whose tool
    shows only in their rows stay together. An error, or an interrupt, lets all workers discard what they hold, and is raised here.
    """
    if jobs <= 1:
        with store.single_threaded():
            return pipeline.ingest(store, found, settings)
    begin = time.monotonic()
    with store.held_open():
        summary = _share(store, found, settings, jobs)
    summary.seconds = round(time.monotonic() - begin, 6)
    return summary


def _share(store: Store, found: Iterable[Delivery | Skipped], settings: Settings, jobs: int) -> Summary:
    stop = threading.Event()
    workers = [_Worker(store.twin() if n else nullcontext(store), settings, stop) for n in range(jobs)]
    place: dict[str, int] = {}
    worker_of: dict[str | None, _Worker] = {}
    try:
        for worker in workers:
            worker.start()
        for item in found:
            place.setdefault(item.source, len(place))
            tool = item.tool if isinstance(item, Delivery) else None
            if tool not in worker_of:
                worker_of[tool] = min(workers, key=lambda worker: worker.bytes)
            worker_of[tool].give(item)
        _end(workers)
    except BaseException:
        while True:
            with suppress(KeyboardInterrupt):  # once more: they are letting go, and the interpreter would abort if it ended before them
                stop.set()
                _end(workers)
                break
        raise
    for worker in workers:
        for name, seconds in worker.stages.seconds.items():
            settings.stages.seconds[name] = settings.stages.seconds.get(name, 0.0) + seconds
    errors = [worker.error for worker in workers if worker.error is not None]
    if errors:
        raise errors[0]
    return merged([worker.summary for worker in workers if worker.summary is not None], lambda source: place[source])


def _end(workers: Iterable[_Worker]) -> None:
    """Let ``workers`` finish what they were given, and wait for them."""
    started = [worker for worker in workers if worker.ident is not None]
    for worker in started:
        worker.waiting.put(None)
    for worker in started:
        worker.ended.wait()
        worker.join()  # what it held is freed by it, not while the interpreter ends: that aborts


def merged(parts: Iterable[Summary], place_of: Callable[[str], int]) -> Summary:
    """Return the sum of ``parts``; ``place_of`` gives the place of a source among the receipts."""
    total = Summary()
    for part in parts:
        for ours, theirs in (
            (total.payloads, part.payloads),
            (total.bytes, part.bytes),
            (total.records, part.records),
            (total.frames, part.frames),
            (total.reasons, part.reasons),
        ):
            for name, count in theirs.items():
                ours[name] = ours.get(name, 0) + count
        for name in ("samples", "events", "windows", "features", "gaps", "owed"):
            setattr(total, name, getattr(total, name) + getattr(part, name))
        total.batches += part.batches
        total.receipts += part.receipts
        total.skipped += part.skipped
        total.busy = total.busy or part.busy
        total.named_skipped = total.named_skipped or part.named_skipped
    total.receipts.sort(key=lambda receipt: place_of(receipt.source))
    return total
