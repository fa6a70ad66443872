"""The catalog is busy or the data store down: some patience, then exit 5 with all in place; the same command finishes the work."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

import loadlock
import storage.files
from storage.circuits import CATALOG, CLOSED, DATA_STORE, DEPENDENCY, OPEN
from storage.errors import CatalogDown
from storage.history import History
from storage.patience import TRIES, patiently
from storage.store import Store

Run = Callable[..., Any]


class Failing:
    """Stands in for a function, and raises at the first ``times`` calls."""

    def __init__(self, real: Any, error: Exception, times: int) -> None:
        self.real, self.error, self.times, self.calls = real, error, times, 0

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error
        return self.real(*arguments, **options)

    def __get__(self, owner: Any, _kind: type) -> Any:
        return lambda *arguments, **options: self(owner, *arguments, **options)


LOCKED = duckdb.IOException("IO Error: database is locked")
FULL = OSError(errno.ENOSPC, "No space left on device")
PLACES = {
    "staging": (storage.files, "write_durably", FULL, DATA_STORE),
    "commit": (Store, "_transact", LOCKED, CATALOG),
    "mirror": (Store, "_transact", FULL, DATA_STORE),
    "reading": (History, "_query", LOCKED, CATALOG),
}


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _seconds: None)


@pytest.fixture
def site(tmp_path: Path, polisher: Any) -> Any:
    """A lake with a wafer, and three deliveries that overlap with it and among themselves."""
    made = polisher(tmp_path)
    made.lake = tmp_path / "fab.lake"
    with loadlock.open(made.lake) as lake:
        lake.ingest(made.wafers("0.csv", [0]), config=made.config)
    made.next = [made.wafers(f"{i}.csv", [i - 1, i]) for i in range(1, 4)]
    with loadlock.open(tmp_path / "sound.lake") as lake:
        lake.ingest([made.drop], config=made.config)
        made.digest = lake.digest()
    return made


def files(lake: Path) -> set[str]:
    return {path.name for path in (lake / "data").rglob("*") if path.is_file()}


@pytest.mark.parametrize("place", PLACES)
def test_a_short_failure_goes_unnoticed(place: str, site: Any, monkeypatch: pytest.MonkeyPatch, assert_conserved: Run) -> None:
    module, name, error, _ = PLACES[place]
    with loadlock.open(site.lake) as lake:
        failing = Failing(getattr(module, name), error, 2)
        monkeypatch.setattr(module, name, failing)
        summary = lake.ingest_all(site.next)
        assert failing.calls > 2
        assert assert_conserved(summary, lake)["payloads"]["committed"] == 3
        assert lake.digest() == site.digest
        assert lake.verify().faults == []
        assert lake.sql("select * from circuits where kind = 'dependency'").fetchall() == []


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("place", PLACES)
def test_a_long_one_is_answered_with_5_and_the_same_command_finishes(
    place: str, jobs: int, site: Any, monkeypatch: pytest.MonkeyPatch, assert_conserved: Run
) -> None:
    module, name, error, dependency = PLACES[place]
    with loadlock.open(site.lake) as lake:
        before = files(site.lake)
        with monkeypatch.context() as patched:
            failing = Failing(getattr(module, name), error, 1 << 30)
            patched.setattr(module, name, failing)
            summary = lake.ingest_all(site.next, jobs=jobs)
            assert failing.calls > TRIES
        document = assert_conserved(summary, lake)
        assert summary.exit_code == 5
        assert document["payloads"] == {"seen": 3, "committed": 0, "replayed": 0, "refused": 0, "deferred": 3, "skipped": 0}
        assert all("run the same command again" in receipt["reason"].lower() for receipt in document["receipts"])
        assert files(site.lake) == before or place == "commit"  # its outcome is not known: what no snapshot names is swept later
        assert lake.verify().faults == []
        again = lake.ingest_all(site.next, jobs=jobs)
        assert assert_conserved(again, lake)["payloads"]["committed"] == 3
        assert (again.exit_code, lake.digest()) == (0, site.digest)
        assert lake.verify().faults == []
        state, reason, kind = lake.sql("select state, reason, kind from circuits where tool = ?", [dependency]).fetchall()[0]
        assert (state, kind) == (CLOSED, DEPENDENCY)
        assert "it works again" in reason
        assert str(error.args[-1]) in reason
        assert lake.store.index.troubles() == []


def test_a_data_store_that_is_down_is_listed_while_the_catalog_is_up(
    site: Any, monkeypatch: pytest.MonkeyPatch, loadlock_command: Run
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(storage.files, "write_durably", Failing(None, FULL, 1 << 30))
        answer = loadlock_command("ingest", site.drop, "--lake", site.lake, "--json")
    assert answer.code == 5
    assert "No space left" in answer.err
    listed = loadlock_command("circuits", "list", "--lake", site.lake, "--json").json["circuits"]
    assert [(item["tool"], item["state"]) for item in listed if item["kind"] == DEPENDENCY] == [(DATA_STORE, OPEN)]
    assert loadlock_command("ingest", site.drop, "--lake", site.lake, "--json").code == 0
    entries = loadlock_command("audit", "log", "--lake", site.lake, "--json").json["ledger"]
    assert [entry["action"] for entry in entries].count("circuit") == 1


def test_a_folder_that_is_in_the_way(site: Any, loadlock_command: Run) -> None:
    """No stand-in: the store's folder really can't be written to."""
    folder = site.lake / "data" / "main" / "traces"
    shutil.move(folder, site.folder / "aside")
    folder.write_text("")
    answer = loadlock_command("ingest", *site.next, "--lake", site.lake, "--json")
    folder.unlink()
    shutil.move(site.folder / "aside", folder)
    assert (answer.code, answer.json["payloads"]["deferred"]) == (5, 3)
    assert loadlock_command("ingest", *site.next, "--lake", site.lake, "--json").json["payloads"]["committed"] == 3
    with loadlock.open(site.lake) as lake:
        assert lake.digest() == site.digest


def test_a_catalog_that_can_not_be_opened(site: Any, monkeypatch: pytest.MonkeyPatch, loadlock_command: Run) -> None:
    import storage.store

    with monkeypatch.context() as patched:
        patched.setattr(storage.store, "open_catalog", Failing(storage.store.open_catalog, LOCKED, 1 << 30))
        answer = loadlock_command("ingest", *site.next, "--lake", site.lake, "--json")
        assert (answer.code, answer.json["payloads"]["seen"]) == (5, 0)
        with pytest.raises(CatalogDown, match="database is locked"):
            Store(site.lake)
    monkeypatch.setattr(storage.store, "open_catalog", Failing(storage.store.open_catalog, LOCKED, 3))
    assert loadlock_command("ingest", *site.next, "--lake", site.lake, "--json").json["payloads"]["committed"] == 3


BLOCKER = """
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
"""


def test_a_stranger_holds_the_catalog(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process locks the catalog's database without asking for the writer lock; it lets go during the third try."""
    with (
        subprocess.Popen(
            [sys.executable, "-c", BLOCKER, str(site.lake / "catalog.sqlite")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as stranger,
        loadlock.open(site.lake) as lake,
    ):
        assert stranger.stdout is not None
        assert stranger.stdin is not None
        assert stranger.stdout.readline() == "held\n"
        real, tries = Store._transact, []

        def watched(store: Store, *arguments: Any) -> None:
            tries.append(1)
            if len(tries) == 3:
                stranger.stdin.close()
                stranger.wait()
            real(store, *arguments)

        monkeypatch.setattr(Store, "_transact", watched)
        assert lake.ingest_all(site.next).exit_code == 0
        assert len(tries) == 3
        assert lake.digest() == site.digest


def test_patience_is_bounded_and_other_errors_are_not_its_business() -> None:
    failing = Failing(None, FULL, 1 << 30)
    with pytest.raises(OSError, match="No space"):
        patiently(failing, OSError)
    assert failing.calls == TRIES + 1
    other = Failing(None, ValueError("x"), 1 << 30)
    with pytest.raises(ValueError, match="x"):
        patiently(other, OSError)
    assert other.calls == 1
