"""While a writer holds the catalog open, nobody who opens it meets a lock; the log stays short."""

import subprocess
import sys

import pytest

import loadlock
from storage import hold
from storage.catalog import attach_statement, connect
from storage.index import IndexDelta
from storage.store import Change

WRITER = """
import sys
from pathlib import Path
from storage.store import Change, Store
from storage.index import IndexDelta
store = Store(Path(sys.argv[1]))
with store.held_open():
    print("begun", flush=True)
    number = 0
    while not Path(sys.argv[2]).exists():
        number += 1
        with store.locked(60):
            store.commit(lambda seq: Change("note", "t", "", {"number": number}, IndexDelta(0, "")))
store.close()
"""


def note(store, number):
    with store.locked(60):
        store.commit(lambda _seq: Change("note", "t", "", {"number": number}, IndexDelta(0, "")))


@pytest.mark.parametrize("read_only", [False, True])
def test_who_opens_the_catalog_meanwhile_meets_no_lock(read_only, tmp_path):
    path = tmp_path / "x.lake"
    loadlock.open(path).close()
    impatient = attach_statement(path / "catalog.sqlite", path / "data", read_only=read_only).replace(
        "META_BUSY_TIMEOUT 5000", "META_BUSY_TIMEOUT 0"
    )
    assert "TIMEOUT 0" in impatient
    stop = tmp_path / "stop"  # while it still holds the catalog: as it lets go, it may be the last to close it
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(stop)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "begun\n"
        try:
            for _ in range(15):
                connection = connect()
                connection.execute(impatient)
                connection.execute("SELECT count(*) FROM lake.main.ledger").fetchall()
                connection.close()
        finally:
            stop.touch()
    assert writer.returncode == 0
    with loadlock.open(path) as lake:
        assert lake.sql("SELECT count(*) > 3 FROM ledger WHERE action = 'note'").fetchall() == [(True,)]


def test_the_log_stays_short(tmp_path, monkeypatch):
    with loadlock.open(tmp_path / "x.lake") as lake:
        log = tmp_path / "x.lake" / "catalog.sqlite-wal"
        with lake.store.held_open():
            note(lake.store, 0)
            one = log.stat().st_size
            sizes = []
            monkeypatch.setattr(hold, "LOG_BYTES_MOST", 4 * one)
            for number in range(30):
                note(lake.store, number)
                sizes.append(log.stat().st_size if log.exists() else 0)
        assert max(sizes) > 2 * one
        assert max(sizes) < 10 * one


def test_a_lost_connection_takes_the_hold_along(tmp_path):
    with loadlock.open(tmp_path / "x.lake") as lake:
        with lake.store.held_open():
            lake.store.reconnect()
            note(lake.store, 1)
        assert lake.sql("SELECT count(*) FROM ledger WHERE action = 'note'").fetchall() == [(1,)]
        assert not lake.verify().faults
