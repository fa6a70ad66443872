"""What a damaged file touches, told without reading it: from the catalog's statistics, the ledger and the other tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import duckdb

from storage.filecheck import Recorded
from storage.ledger import Entry
from storage.store import Store

WAFERS = (
    "SELECT DISTINCT wafer FROM windows WHERE wafer IS NOT NULL AND list_contains(?, tool) "
    "AND started_at <= ?::TIMESTAMP AND coalesce(ended_at, TIMESTAMP 'infinity') >= ?::TIMESTAMP ORDER BY 1"
)


@dataclass(slots=True, frozen=True)
class Damage:
    """A damaged file and what it may hold: at least all that it does hold, as far as the records about it tell.

    ``entry`` is the ledger entry that committed it (None: none did).
    """

    path: str
    table: str
    fault: str
    rows: int
    entry: int | None
    tools: list[str]
    wafers: list[str]
    payloads: list[str]

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


class Lineage:
    """Which ledger entry committed a file, and whose rows it can hold: the entry's payloads, and those of the files it replaced."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entry: dict[str, int] = {}
        self._files: dict[int, dict[str, dict[str, Any]]] = {}
        self._bodies: dict[int, dict[str, Any]] = {}
        self._withdrawn: dict[str, int] = {}
        for entry in entries:
            try:
                body = json.loads(entry.body)
            except json.JSONDecodeError:
                continue
            self._bodies[entry.seq] = body
            self._withdrawn |= dict.fromkeys(body.get("withdrawn", ()), entry.seq)
            self._files[entry.seq] = {item["path"]: item for item in body.get("files", ())}
            self._entry |= dict.fromkeys(self._files[entry.seq], entry.seq)

    def entry(self, path: str) -> int | None:
        """Return the ledger entry that committed ``path``."""
        return self._entry.get(path)

    def payloads(self, path: str) -> list[str]:
        """Return the ids of the payloads whose rows ``path`` can hold."""
        own = self._entry.get(path, 0)
        named = {name for seq in self._sources(path) for name in self._named(seq)}
        return sorted(name for name in named if self._withdrawn.get(name, own + 1) > own)

    def tools(self, path: str) -> list[str]:
        """Return the tools whose rows ``path`` can hold."""
        own = self._entry.get(path, 0)
        found = {tool for seq in self._sources(path) for tool in self._bodies[seq].get("tools", ())}
        return sorted(found or {tool for seq, body in self._bodies.items() if seq <= own for tool in body.get("tools", ())})

    def _named(self, seq: int) -> list[str]:
        body = self._bodies[seq]
        return [item["payload_id"] for item in body.get("payloads", ())] + [*body.get("promoted", ()), *body.get("restored", ())]

    def _sources(self, path: str) -> set[int]:
        """Return the entries from which rows of ``path`` can stem."""
        found: set[int] = set()
        waiting = [path]
        while waiting:
            name = waiting.pop()
            seq = self._entry.get(name)
            if seq is None or seq in found:
                continue
            found.add(seq)
            table = self._files[seq][name]["table"]
            waiting += [old for old in self._bodies[seq].get("removed", ()) if f"/{table}/" in f"/{old}"]
            if table in self._bodies[seq].get("tables", ()):  # rows that the catalog held, of whatever entry before
                found |= {earlier for earlier in self._bodies if earlier < seq}
        return found


def damage_of(store: Store, lineage: Lineage, recorded: Recorded, fault: str) -> Damage:
    """Return what the file of ``recorded`` touches."""
    path, ranges = recorded.path, recorded.ranges
    tools, payloads = lineage.tools(path), lineage.payloads(path)
    tools = [tool for tool in tools if _within(tool, ranges.get("tool"))]
    payloads = [name for name in payloads if _within(name, ranges.get("payload_id"))]
    wafers: list[str] = []
    lo, hi = ranges.get("ts") or ranges.get("started_at") or (None, None)
    if lo is not None and hi is not None and tools:
        try:
            wafers = [row[0] for row in store.rows(WAFERS, [tools, hi, lo])]
        except duckdb.Error:
            wafers = []  # the windows themselves are damaged: their file is named on its own
    if ranges.get("wafer") and not wafers:
        wafers = sorted({wafer for wafer in ranges["wafer"] if wafer is not None})
    return Damage(path, recorded.table, fault, recorded.rows, lineage.entry(path), tools, wafers, payloads)


def _within(value: str, span: tuple[str | None, str | None] | None) -> bool:
    return span is None or None in span or str(span[0]) <= value <= str(span[1])
