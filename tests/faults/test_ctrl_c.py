"""Ctrl-C while DuckDB runs a query comes as a RuntimeError: where faults are walled off it must pass, and be no fault."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

import ingest.features
import loadlock
from storage import compaction, maintenance
from storage.circuits import CLOSED
from storage.errors import is_interrupt

FOREVER = "SELECT sum(a.range * b.range) FROM range(100000000) a, range(100000000) b"


@pytest.fixture
def site(tmp_path: Path, polisher: Any) -> Any:
    site = polisher(tmp_path)
    site.path = site.wafers("1.csv", range(2))
    return site


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Any]:
    with loadlock.open(tmp_path / "fab.lake") as lake:
        yield lake


def interrupted_query(*_arguments: Any, **_options: Any) -> Any:
    """Run a query that Ctrl-C ends."""
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with duckdb.connect(config={"threads": 1}) as connection:
        return connection.execute(FOREVER).fetchall()


def interrupted(call: Any) -> None:
    with pytest.raises((KeyboardInterrupt, RuntimeError)) as raised:
        call()
    assert is_interrupt(raised.value), raised.value


def test_duckdbs_own_words_for_it() -> None:
    interrupted(interrupted_query)
    assert not is_interrupt(RuntimeError("something else"))


def test_features_that_are_interrupted_are_no_fault(lake: Any, site: Any, monkeypatch: pytest.MonkeyPatch, assert_conserved: Any) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(ingest.features, "collect", interrupted_query)
        interrupted(lambda: lake.ingest(site.path, config=site.config))
    assert lake.sql("SELECT count(*) FROM payloads").fetchall() == [(0,)], "nothing half done"
    assert {circuit.state for circuit in lake.store.index.circuits()} <= {CLOSED}
    summary = lake.ingest(site.path, config=site.config)
    assert_conserved(summary, lake)
    assert (summary.payloads["committed"], lake.status()["features_owed"]) == (1, 0)


def test_maintenance_that_is_interrupted_ends_the_command_and_is_due_again(lake: Any, site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.ingest(site.path, config=site.config)
    lake.store.index.note(**{maintenance.DUE: 0})
    with monkeypatch.context() as patched:
        patched.setattr(compaction, "units", interrupted_query)
        interrupted(lake.maintain)
    assert lake.store.index.counter(maintenance.DUE) == 0
    lake.maintain()
    assert lake.last_upkeep is None
    assert lake.store.index.counter(maintenance.DUE) > 0
    assert lake.verify().faults == []
