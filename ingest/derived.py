"""Derived work: features. It may fail without holding up the core; what it could not do is owed, and made up later."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ingest.circuits import Breakers, index_rows, microseconds, record
from storage.circuits import DEPENDENCY, DERIVED, OPEN, log_table
from storage.errors import Busy, is_interrupt
from storage.index import IndexDelta, Window
from storage.schema import rows_table
from storage.store import Change, Store

if TYPE_CHECKING:
    from ingest.intake import Settings

WINDOWS_AT_ONCE = 2048
"""Owed windows that are made up in one commit."""


class Derived:
    """Whether a batch still does derived work. ``off``: its circuit is open; ``fault``: what went wrong in this batch."""

    def __init__(self) -> None:
        self.off = False
        self.fault: str | None = None

    @property
    def works(self) -> bool:
        """Tell whether results are to be had."""
        return not self.off and self.fault is None

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Keep a failure of the ``with`` block from the core, and remember it."""
        try:
            yield
        except Busy:  # a dependency of the core, too
            raise
        except Exception as error:  # whatever it is: traces, events and ledger go on without
            if is_interrupt(error):
                raise
            self.fault = f"{type(error).__name__}: {error}"

    def settle(self, breakers: Breakers, *, tried: bool) -> None:
        """Tell the circuit what became of the work."""
        if self.fault is not None:
            breakers.trip(DERIVED, f"features: {self.fault}", DEPENDENCY)
        elif tried and not self.off:
            breakers.succeed(DERIVED, DEPENDENCY)


def make_up(store: Store, settings: Settings, *, force: bool = False) -> int:
    """Compute the features that are owed and commit them; return for how many windows. ``force``: even while the circuit is open."""
    done = 0
    while owed := store.index.owed(1):
        breakers = Breakers(store.index.circuits(), settings.config.circuit, microseconds(store.clock()))
        if breakers.state(DERIVED, DEPENDENCY) == OPEN and not force:
            break
        with store.locked(settings.wait_s):
            owed = store.index.owed(WINDOWS_AT_ONCE)  # another process may have been here
            breakers = Breakers(store.index.circuits(), settings.config.circuit, microseconds(store.clock()))
            if not owed or not _make_up(store, settings, breakers, owed):
                break
        done += len(owed)
    return done


def _make_up(store: Store, settings: Settings, breakers: Breakers, owed: Sequence[tuple[int, str]]) -> bool:
    """Commit the features of ``owed`` windows, or the failure; the caller holds the lock."""
    from ingest import features
    from ingest.batch import Batch
    from ingest.recent import Recent

    batch = Batch(store, settings.config, settings.new_id(), settings.new_id, settings.stages, Recent(), settings.arena)
    windows = [window for window in (store.index.window(window_id) for window_id, _ in owed) if window is not None]
    found = []
    try:
        with batch.derived.guard():
            with store.reading():
                found = features.collect(batch, windows, set(), ())
            if any(piece.positions for piece in found):
                features.encode(batch, found, revised=True)(None)
        batch.derived.settle(breakers, tried=True)
        if batch.derived.fault is not None:
            batch.stager.discard()
            record(store, breakers.changes(), {"software": settings.software, "circuits": breakers.story()}, settings.actor)
            return False
    except BaseException:
        batch.stager.discard()
        raise
    rows = [(window_id, tool, False) for window_id, tool in owed]
    body = {
        "software": settings.software,
        "circuits": breakers.story(),
        "counts": {"windows": len(windows), "features": sum(len(piece.positions) for piece in found)},
        "files": [staged.entry(store.path) for staged in batch.stager.files],
    }
    try:
        store.commit(
            lambda seq: Change(
                "features",
                settings.actor,
                batch.batch_id,
                body,
                IndexDelta(0, "", owed=rows, circuits=index_rows(breakers.changes(), seq)),
                list(batch.stager.files),
                rows={
                    "features_owed_log": rows_table("features_owed_log", [(*row, seq) for row in rows]),
                    "circuits_log": log_table(breakers.changes(), seq),
                },
            )
        )
    finally:
        batch.stager.release()
    return True


def owed_rows(store: Store, derived: Derived, revised: Sequence[Window], withdrawn: Sequence[Window]) -> list[tuple[int, str, bool]]:
    """Return (window_id, tool, owed) of the windows of a batch whose features are owed from now on, or no longer."""
    rows = [(window.window_id, window.tool, True) for window in revised] if not derived.works else []
    paid = [*withdrawn, *(revised if derived.works else ())]
    owing = store.index.owing([window.window_id for window in paid])
    return rows + [(window.window_id, window.tool, False) for window in paid if window.window_id in owing]
