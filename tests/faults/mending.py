"""Commands that undo, mend and settle, on small lakes in which something went wrong. Nothing here imports pytest: children run it, too."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import duckdb

import loadlock
from ingest import circuits, derived
from ingest.errors import UsageError
from storage import checkpoint, signing
from storage.circuits import OPEN, TOOL, Circuit
from storage.errors import StoreDown
from storage.verify import entries
from tests.faults.lakes import LAKE, deliveries, ingest, with_all, with_one


def _payload(lake: Any, name: str) -> str:
    return str(lake.sql("select payload_id from payloads where source like '%' || ? order by ledger_seq", [name]).fetchall()[0][0])


def _done(lake: Any, action: str) -> bool:
    return bool(lake.sql("select 1 from ledger where action = ?", [action]).fetchall())


# --- taken back, decoded anew


def retract(folder: Path) -> None:
    """Take the second delivery back."""
    with loadlock.open(folder / LAKE) as lake:
        try:
            lake.retract(_payload(lake, "2.csv"), "a trial")
        except UsageError:  # it was taken back before
            assert _done(lake, "retract")


def reprocess(folder: Path) -> None:
    """Decode the second delivery anew, unless the ledger says that it was."""
    with loadlock.open(folder / LAKE) as lake:
        if not _done(lake, "reprocess"):
            lake.reprocess(_payload(lake, "2.csv"))


# --- damage


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.unlink()  # a backup may hold the same file by link
    path.write_bytes(data)


def damaged(site: Any) -> None:
    """One file of traces and one of a log, and a kept payload, have a flipped bit each."""
    site.config.write_text(site.config.read_text(encoding="utf-8") + "keep_payloads = true\n", encoding="utf-8")
    with_all(site)
    with loadlock.open(site.folder / LAKE) as lake:
        lake.compact(everything=True)
        live = lake.sql("select path from __ducklake_metadata_lake.ducklake_data_file where end_snapshot is null").fetchall()
        first = lake.sql("select sha256 from payloads order by ledger_seq").fetchall()[0][0]
    names = {Path(path).name for (path,) in live}
    for table in ("traces", "gaps_log"):
        _flip(next(path for path in sorted((site.folder / LAKE / "data/main" / table).glob("*.parquet")) if path.name in names))
    _flip(site.folder / LAKE / "payloads" / f"{first}.zst")


def repair(folder: Path) -> None:
    """Repair the lake, as far as it can be."""
    with loadlock.open(folder / LAKE) as lake:
        lake.repair()


def repair_after_a_failure(folder: Path) -> None:
    """The commit that lets go of the damaged files fails the first time."""
    with loadlock.open(folder / LAKE) as lake:
        with mock.patch("ingest.repair.commit", side_effect=StoreDown("no room")), suppress(StoreDown):
            lake.repair()
        lake.repair()


# --- circuits, and work that is owed


def tripped(site: Any) -> None:
    """The circuit of a tool is open."""
    with_one(site)
    with loadlock.open(site.folder / LAKE) as lake, lake.store.locked(10):
        now_us = circuits.microseconds(lake.store.clock())
        circuits.record(lake.store, [Circuit(TOOL, "P1", OPEN, "a trial", now_us, now_us + 1, 3)], {}, "tests")


def reset(folder: Path) -> None:
    """Close it by hand."""
    with loadlock.open(folder / LAKE) as lake:
        lake.reset_circuit("P1", reason="a trial")


def rubbish(site: Any) -> None:
    """The next delivery is mostly rubbish."""
    with_one(site)
    text = site.config.read_text(encoding="utf-8") + "[circuit]\nminimum_bytes = 100\nminimum_frames = 10\n"
    site.config.write_text(text, encoding="utf-8")
    site.file("4.csv", [*site.rows([5]), *("P1,A,soon,W9,ramp,1,1" for _ in range(100))])


def trip(folder: Path) -> None:
    """Deliver the rubbish: it is left where it is, and the circuit opens."""
    assert ingest(folder, "4.csv").payloads["deferred"] == 1


def owed(site: Any) -> None:
    """The features of the first delivery could not be computed."""
    deliveries(site)
    with mock.patch("ingest.tracefile.reduce_windows", side_effect=ZeroDivisionError("a trial")):
        ingest(site.folder, "1.csv")


def make_up(folder: Path) -> None:
    """Compute what is owed."""
    with loadlock.open(folder / LAKE) as lake:
        derived.make_up(lake.store, lake._settings(None), force=True)


def after_a_busy_catalog(folder: Path) -> Any:
    """The catalog is locked by a stranger, past patience; later it is not."""
    locked = duckdb.IOException("IO Error: database is locked")
    with mock.patch("storage.store.Store._transact", side_effect=locked), mock.patch("storage.patience.TRIES", 1):
        ingest(folder, "2.csv", "3.csv")
    return ingest(folder, "2.csv", "3.csv")


# --- proofs


def sign(folder: Path) -> None:
    """Make a key and sign the ledger's head with it."""
    key, proof = folder / "me.pem", folder / "checkpoint.json"
    if not key.exists():
        signing.write_private(key)
    with loadlock.open(folder / LAKE, read_only=True) as lake:
        listed = list(entries(lake.store))
        signing.write_json(proof, checkpoint.make(listed, key, lake.store.clock()))
        assert checkpoint.check(json.loads(proof.read_text(encoding="utf-8")), listed) == []
