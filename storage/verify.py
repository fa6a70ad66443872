"""The proof of a lake: the chain, every account, every file that a kept snapshot names, and the sums on both sides."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from storage.files import sha256_of
from storage.ledger import Entry, check_chain
from storage.rebuild import compare
from storage.store import Store

FILES = (
    "SELECT t.table_name, f.path, f.path_is_relative, f.record_count, f.file_size_bytes FROM __ducklake_metadata_lake.ducklake_data_file f "
    "JOIN (SELECT DISTINCT table_id, table_name FROM __ducklake_metadata_lake.ducklake_table) t USING (table_id)"
)


@dataclass(slots=True)
class Report:
    """What was proven, and the faults; empty ``faults`` means that everything held."""

    entries: int = 0
    payloads: int = 0
    files: int = 0
    bytes: int = 0
    faults: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """Return it as a JSON document."""
        return {
            "schema": 1,
            "ok": not self.faults,
            "entries": self.entries,
            "payloads": self.payloads,
            "files": self.files,
            "bytes": self.bytes,
            "faults": self.faults,
        }


def entries(store: Store) -> Iterator[Entry]:
    """Yield the ledger's entries in order."""
    for row in store.rows("SELECT seq, recorded_at, actor, action, batch_id, body, prev_hash, hash FROM lake.main.ledger ORDER BY seq"):
        yield Entry(*row)


def verify(store: Store, progress: Callable[[int], None] = lambda _bytes: None) -> Report:
    """Prove the lake and return the report; ``progress`` is told the bytes read."""
    report = Report()
    listed = list(entries(store))
    report.entries = len(listed)
    report.faults += check_chain(listed)
    known, removed = files_of(listed)
    _accounts(store, listed, report)
    _files(store, known, report, progress)
    current = {path for path, _ in _catalog_files(store, current=True)}
    for path in sorted(set(known) - removed - current):
        report.faults.append(f"{path}: the ledger committed this file and nothing removed it, but the catalog does not name it")
    report.faults += compare(store)
    return report


def files_of(listed: list[Entry]) -> tuple[dict[str, dict[str, Any]], set[str]]:
    """Return (path -> what the ledger keeps of the file, paths that were removed)."""
    known: dict[str, dict[str, Any]] = {}
    removed: set[str] = set()
    for entry in listed:
        try:
            body = json.loads(entry.body)
        except json.JSONDecodeError:
            continue
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
        named = [item["payload_id"] for item in json.loads(entry.body).get("payloads", ())] if entry.action == "ingest" else []
        report.faults += [f"ledger entry {entry.seq}: payload {name} has no account" for name in named if name not in stored]
    sums = (("traces", "samples"), ("events", "events"))
    for table, figure in sums:
        found, booked = store.rows(
            f"SELECT (SELECT count(*) FROM lake.main.{table}), (SELECT coalesce(sum({figure}), 0) FROM lake.main.payloads)"
        )[0]
        if found != booked:
            report.faults.append(f"{table}: {found} rows are stored, the accounts hold {booked}")


def _catalog_files(store: Store, *, current: bool = False) -> list[tuple[str, tuple[int, int]]]:
    """Return (path relative to the lake, (rows, size)) of every file that a kept snapshot names."""
    where = " WHERE f.end_snapshot IS NULL" if current else ""
    found = []
    for table, path, relative, count, size in store.rows(FILES + where):
        full = store.data / "main" / table / path if relative else Path(path)
        found.append((full.relative_to(store.path).as_posix() if full.is_relative_to(store.path) else str(full), (int(count), int(size))))
    return found


def _files(store: Store, known: dict[str, dict[str, Any]], report: Report, progress: Callable[[int], None]) -> None:
    seen: set[str] = set()
    for path, (count, size) in _catalog_files(store):
        report.files += 1
        if path in seen:
            report.faults.append(f"{path}: the catalog names this file twice")
        seen.add(path)
        fault = _file_fault(store.path / path, known.get(path), count, size)
        if fault:
            report.faults.append(f"{path}: {fault}")
        else:
            report.bytes += size
            progress(size)


def _file_fault(path: Path, entry: dict[str, Any] | None, count: int, size: int) -> str | None:
    if not path.exists():
        return "missing"
    if entry is None:
        return "no ledger entry names this file"
    if path.stat().st_size != entry["size"] or size != entry["size"]:
        return f"{path.stat().st_size} bytes on disk, {entry['size']} in the ledger, {size} in the catalog"
    if sha256_of(path) != entry["sha256"]:
        return "its SHA-256 is not the one in the ledger"
    try:
        rows = pq.ParquetFile(path).metadata.num_rows
    except Exception as error:  # any reader's complaint is a finding about the file
        return f"unreadable: {error}"
    if rows != entry["rows"] or count != entry["rows"]:
        return f"{rows} rows in the file, {entry['rows']} in the ledger, {count} in the catalog"
    return None
