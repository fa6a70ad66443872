"""Bounded retries with backoff and jitter, for what is shared with others and comes back: the catalog, and the data store."""

from __future__ import annotations

import logging
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import duckdb

from storage.errors import CatalogDown, StoreDown

Result = TypeVar("Result")

TRIES = 5
"""Further tries after the first: one at once, then others after some 0.1, 0.2, 0.4 and 0.8 s, with up to 0.1 s of jitter each."""

logging.getLogger("stamina").addHandler(logging.NullHandler())  # whoever wants to hear of retries listens; standard error stays ours


def patiently(action: Callable[[], Result], *on: type[Exception]) -> Result:
    """Return what ``action`` returns; try again, a bounded number of times, where it raises one of ``on``. The last error is raised."""
    try:
        return action()
    except on:
        chosen = "stamina" in sys.modules  # by somebody else: what it tells them is theirs
        import stamina  # only now: it costs more to import than a commit takes
        from stamina.instrumentation import LoggingOnRetryHook, set_on_retry_hooks

        if not chosen:
            set_on_retry_hooks([LoggingOnRetryHook])  # by itself it would print to standard output, where structlog is installed
    for attempt in stamina.retry_context(on=on, attempts=TRIES, timeout=None, wait_initial=0.1, wait_max=1.0, wait_jitter=0.1):
        with attempt:
            return action()
    raise AssertionError("the last error is raised by the attempt")


NOTHING = "nothing was changed. Run the same command again"


@contextmanager
def answered(doing: str) -> Iterator[None]:
    """Turn a failure of disk or catalog in the ``with`` block into :class:`StoreDown` or :class:`CatalogDown`."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        raise StoreDown(f"the data store failed while {doing} ({error}); {NOTHING}") from error
    except duckdb.Error as error:
        if not out_of_order(error):
            raise
        raise CatalogDown(f"the catalog failed while {doing} ({error}); {NOTHING}") from error


def out_of_order(error: duckdb.Error) -> bool:
    """Tell whether an error is the environment's: DuckLake gives those of its catalog's database no class of their own."""
    return isinstance(error, duckdb.OperationalError) or type(error) is duckdb.Error
