"""The proof of a lake: the chain, every account, every file that a kept snapshot names, features, and the sums on both sides."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from storage.damage import Damage, Lineage, damage_of
from storage.errors import IntegrityError, LoadlockError, is_interrupt
from storage.featurecheck import feature_faults
from storage.filecheck import FileCheck, Recorded
from storage.kept import FOLDER, kept_fault
from storage.ledger import Entry, bodies, check_chain
from storage.plans import proof_faults
from storage.rebuild import compare
from storage.store import Store
from storage.telling import Tell, nobody
from storage.walled import Walled, missing_files, shortfalls, walled_files

_META = "__ducklake_metadata_lake"
_TABLES = f"(SELECT DISTINCT table_id, table_name FROM {_META}.ducklake_table)"
FILES = (
    f"SELECT f.data_file_id, t.table_name, f.path, f.path_is_relative, f.record_count, f.file_size_bytes, f.end_snapshot IS NULL "
    f"FROM {_META}.ducklake_data_file f JOIN {_TABLES} t USING (table_id) ORDER BY f.data_file_id"
)
RANGES = (
    f"SELECT s.data_file_id, c.column_name, s.min_value, s.max_value FROM {_META}.ducklake_file_column_stats s "
    f"JOIN (SELECT DISTINCT table_id, column_id, column_name FROM {_META}.ducklake_column) c USING (table_id, column_id) "
    "WHERE c.column_name IN ('tool', 'ts', 'seq', 'window_id', 'payload_id', 'started_at', 'wafer')"
)


NAMED = 20
"""Payloads that a fault names at the most."""

INGESTS = ("ingest", "reprocess")
"""Actions whose entries name payloads that they committed."""


@dataclass(slots=True)
class Report:
    """What was proven, and the faults; empty ``faults`` means that everything held. ``orphans`` are no fault."""

    quick: bool = False
    entries: int = 0
    payloads: int = 0
    files: int = 0
    bytes: int = 0
    windows: int = 0
    faults: list[str] = field(default_factory=list)
    damaged: list[Damage] = field(default_factory=list)
    missing: list[Walled] = field(default_factory=list)
    """Files that were walled off, and of which rows are missing still."""
    owed: int = 0
    """Windows whose features are owed."""
    orphans: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """Return it as a JSON document."""
        return {
            "schema": 1,
            "ok": not self.faults,
            "quick": self.quick,
            "entries": self.entries,
            "payloads": self.payloads,
            "files": self.files,
            "bytes": self.bytes,
            "windows": self.windows,
            "faults": self.faults,
            "damaged": [damage.document() for damage in self.damaged],
            "missing": [walled.document() for walled in self.missing],
            "owed": self.owed,
            "orphans": self.orphans,
        }


_RESCUE = "take a backup, or 'loadlock restore --from-mirror'"


def entries(store: Store) -> Iterator[Entry]:
    """Yield the ledger's entries in order; :class:`IntegrityError` for one of which a part is gone."""
    for row in store.rows("SELECT seq, recorded_at, actor, action, batch_id, body, prev_hash, hash FROM lake.main.ledger ORDER BY seq"):
        if None in row:
            raise IntegrityError(f"ledger entry {row[0] or '?'} has lost a part of itself; {_RESCUE}")
        yield Entry(*row)


def verify(store: Store, tell: Tell = nobody, *, quick: bool = False, every_feature: bool = False) -> Report:
    """Prove the lake and return the report.

    ``quick``: the chain, and that every file is there with its size. ``every_feature``: all features and not a sample of them.
    """
    report = Report(quick)
    with _uncached(store):
        _prove(store, report, tell, every_feature)
    return report


def _prove(store: Store, report: Report, tell: Tell, every_feature: bool) -> None:
    try:
        listed = list(entries(store))
    except duckdb.Error as error:
        raise IntegrityError(f"the ledger can't be read ({_short_of(error)}); {_RESCUE}") from error
    report.entries = len(listed)
    report.faults += check_chain(listed)
    with _reporting(report, "the rest can't be proven"):
        _prove_files(store, report, tell, listed, every_feature)


def _prove_files(store: Store, report: Report, tell: Tell, listed: list[Entry], every_feature: bool) -> None:
    listed = [entry for entry in listed if _legible(entry)]  # the chain names the others
    known, removed = files_of(listed)
    files = catalog_files(store, known)
    lineage = Lineage(listed)
    walled = {one.damage.path for one in walled_files(listed)}
    files = [(recorded, in_use) for recorded, in_use in files if in_use or recorded.path not in walled]  # for old snapshots they are gone
    _check_files(store, files, lineage, report, tell)
    current = {recorded.path for recorded, in_use in files if in_use}
    for path in sorted(set(known) - removed - current):
        report.faults.append(f"{path}: the ledger committed this file and nothing removed it, but the catalog does not name it")
    kept = kept_files(listed)
    _check_kept(store, kept, report)
    report.orphans = orphans(store, {recorded.path for recorded, _ in files} | set(kept))
    with _reporting(report, "what is missing can't be told"):
        report.missing = missing_files(store, listed)
        report.owed = int(store.rows("SELECT count(*) FROM features_owed")[0][0])
    report.faults += [f"missing: {one.text()}" for one in report.missing]
    with _reporting(report, "approvals: they can't be proven"):
        report.faults += proof_faults(listed, store.rows("SELECT revision, body FROM lake.main.configs"))
    if report.quick:
        return
    tell("accounts", 0, 0)
    with _reporting(report, "accounts: they can't be read"):
        _accounts(store, listed, report)
    tell("catalog against mirror", 0, 0)
    with _reporting(report, "mirror: the catalog can't be held against it"):
        report.faults += compare(store)
    tell("features computed anew", 0, 0)
    with _reporting(report, "features: they can't be computed anew"):
        report.windows, faults = feature_faults(store, every=every_feature)
        report.faults += faults


def _legible(entry: Entry) -> bool:
    try:
        json.loads(entry.body)
    except ValueError:
        return False
    return True


@contextmanager
def _reporting(report: Report, what: str) -> Iterator[None]:
    """Turn a failure in the ``with`` block into a fault: a damaged file, which is named on its own, stops no other proof.

    DuckDB's errors are failures to read. What is read from damage can be anything, so once a fault is found, any exception may
    be its consequence; without one it is ours, and passes.
    """
    try:
        yield
    except Exception as error:
        if is_interrupt(error) or isinstance(error, LoadlockError) or not (report.faults or isinstance(error, duckdb.Error)):
            raise
        report.faults.append(f"{what} ({_short_of(error)})")


def _short_of(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


@contextmanager
def _uncached(store: Store) -> Iterator[None]:
    """Read files as they are on disk now, not as an earlier query found them (a writer keeps no cache)."""
    store.connection.execute("SET enable_external_file_cache = false")
    try:
        yield
    finally:
        if store.read_only:
            store.connection.execute("RESET enable_external_file_cache")


def files_of(listed: list[Entry]) -> tuple[dict[str, dict[str, Any]], set[str]]:
    """Return (path -> what the ledger keeps of the file, paths that were removed)."""
    known: dict[str, dict[str, Any]] = {}
    removed: set[str] = set()
    for entry in filter(_legible, listed):
        body = json.loads(entry.body)
        known |= {item["path"]: item for item in body.get("files", ())}
        removed |= set(body.get("removed", ()))
    return known, removed


def _accounts(store: Store, listed: list[Entry], report: Report) -> None:
    rows = store.rows(
        "SELECT payload_id, bytes_in, bytes_accepted + bytes_duplicate + bytes_conflict + bytes_quarantined + bytes_other, "
        "records_decoded, "
        "records_accepted + records_duplicate + records_conflict FROM lake.main.payloads"
    )
    report.payloads = len(rows)
    for payload, bytes_in, bytes_out, decoded, booked in rows:
        if bytes_in != bytes_out or decoded != booked:
            report.faults.append(
                f"payload {payload}: its account does not balance ({bytes_in} bytes in, {bytes_out} out; {decoded} records, {booked})"
            )
    stored = {row[0] for row in rows}
    for entry in listed:
        named = [item["payload_id"] for item in json.loads(entry.body).get("payloads", ())] if entry.action in INGESTS else []
        report.faults += [f"ledger entry {entry.seq}: payload {name} has no account" for name in named if name not in stored]
    sums = (("traces", "samples"), ("events", "events"))
    for table, figure in sums:
        found, booked = store.rows(
            f"SELECT (SELECT count(*) FROM lake.main.{table}), "
            f"(SELECT coalesce(sum({figure}), 0) FROM lake.main.payloads WHERE state = 'committed')"
        )[0]
        if found != booked:
            report.faults.append(f"{table}: {found} rows are stored, the accounts hold {booked}{_short(store, table)}")


def _short(store: Store, table: str) -> str:
    """Say which payloads it is."""
    try:
        short = shortfalls(store, table).items()
    except duckdb.Error:  # a damaged file, which is named on its own
        return ""
    return ": " + "; ".join([f"{stored} of {booked} of payload {name}" for name, (stored, booked) in short][:NAMED])


def catalog_files(store: Store, known: dict[str, dict[str, Any]]) -> list[tuple[Recorded, bool]]:
    """Return every file that a kept snapshot names, and whether the newest does; ``known``: the ledger's records of files."""
    ranges: dict[int, dict[str, tuple[str | None, str | None]]] = {}
    for number, column, least, greatest in store.rows(RANGES):
        ranges.setdefault(number, {})[column] = (least, greatest)
    found = []
    for number, table, path, relative, count, size, in_use in store.rows(FILES):
        full = store.data / "main" / table / path if relative else Path(path)
        name = full.relative_to(store.path).as_posix() if full.is_relative_to(store.path) else str(full)
        found.append((Recorded(name, table, known.get(name), int(count), int(size), ranges.get(number, {})), bool(in_use)))
    return found


def orphans(store: Store, named: set[str]) -> list[str]:
    """Return the data files and kept payloads that nothing names, relative to the lake: what interrupted runs left."""
    files = [path for folder in (store.data / "main", store.path / FOLDER) for path in folder.rglob("*") if path.is_file()]
    return sorted({path.relative_to(store.path).as_posix() for path in files} - named)


def kept_files(listed: list[Entry]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return path -> (payload id, what the ledger keeps of the file) of the payloads that the lake keeps, and that no purge removed."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for _, body in bodies(listed):
        named = [*body.get("payloads", ()), *body.get("kept_again", ())]
        found |= {item["kept"]["path"]: (item["payload_id"], item["kept"]) for item in named if "kept" in item}
        for path in body.get("erased", ()):
            found.pop(path, None)
    return found


def _check_kept(store: Store, kept: dict[str, tuple[str, dict[str, Any]]], report: Report) -> None:
    for path, (payload_id, entry) in kept.items():
        report.files += 1
        fault = kept_fault(store.path, entry, quick=report.quick)
        if fault:
            report.faults.append(f"{path}: {fault}")
            report.damaged.append(Damage(path, FOLDER, fault, 0, None, [], [], [payload_id]))
        else:
            report.bytes += entry["size"]


def _check_files(store: Store, files: list[tuple[Recorded, bool]], lineage: Lineage, report: Report, tell: Tell) -> None:
    seen: set[str] = set()
    check = FileCheck()
    for number, (recorded, _) in enumerate(files):
        tell("files proven", number, len(files))
        report.files += 1
        if recorded.path in seen:
            report.faults.append(f"{recorded.path}: the catalog names this file twice")
            continue
        seen.add(recorded.path)
        fault = check.fault(store.path / recorded.path, recorded, quick=report.quick)
        if fault:
            report.faults.append(f"{recorded.path}: {fault}")
            report.damaged.append(damage_of(store, lineage, recorded, fault))
        else:
            report.bytes += recorded.size
