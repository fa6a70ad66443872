"""A purge: whole payloads, by tool and age, leave the lake for good; what stays of them is the ledger, their account and their key.

- A payload goes when its last row is older than the date (one without any timed row: when it was committed before it). One that
  straddles the date stays whole. Of a payload of several tools only the rows of the tool asked for go.
- What stays keeps its windows: payloads whose events set a context that is in force at the date are kept back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ingest.circuits import microseconds
from ingest.closing import Closing
from ingest.errors import UsageError
from ingest.intake import Settings
from ingest.retract import begin, building, close, commit
from ingest.withdrawal import TABLES, Withdrawal, withdraw
from storage.erasing import erase
from storage.kept import kept_path
from storage.ledger import Entry
from storage.store import Store
from storage.verify import entries
from storage.walled import FOLDER, walled_files

_HELD = " UNION ALL ".join(
    f"SELECT payload_id, '{table}' AS name, count(*) AS n, max({'NULL::TIMESTAMP' if table == 'quarantine_log' else 'ts'}) AS last "
    f"FROM lake.main.{table}{{where}} GROUP BY 1"
    for table in TABLES
)
_IN_FORCE = "SELECT {columns} FROM lake.main.events WHERE ts < $1 AND ($2 IS NULL OR tool = $2) GROUP BY tool, chamber"
_BEARING = ("lot IS NOT NULL", "wafer IS NOT NULL", "recipe IS NOT NULL", "step IS NOT NULL", "role = 'start'", "role = 'end'")


@dataclass(slots=True)
class Chosen:
    """The payloads that go: ``whole`` ones, and ``parts``, of which the tool's rows go; the rows of each; and why others are kept back."""

    whole: list[str]
    parts: list[str]
    rows: dict[str, dict[str, int]]
    sources: dict[str, str]
    shas: dict[str, str]
    kept_back: list[str]


def choose(store: Store, tool: str | None, before: datetime | None) -> Chosen:
    """Return what a purge of ``tool`` (None: all), ``before`` a time (None: all times), takes."""
    payloads = store.rows(
        "SELECT payload_id, tool, source, sha256, committed_at FROM lake.main.payloads WHERE state = 'committed' "
        "AND (?1 IS NULL OR tool IS NULL OR tool = ?1) ORDER BY ledger_seq, payload_id",
        [tool],
    )
    held: dict[str, dict[str, int]] = {}
    last: dict[str, datetime] = {}
    for name, table, count, time in store.rows(
        _HELD.format(where="" if tool is None else " WHERE tool = $1"), None if tool is None else [tool]
    ):
        held.setdefault(name, {})[table] = int(count)
        if time is not None:
            last[name] = max(time, last.get(name, time))
    kept_back: set[str] = set()
    if before is not None:
        columns = ", ".join(f"arg_max(payload_id, ts) FILTER ({bears})" for bears in _BEARING)
        kept_back = {name for row in store.rows(_IN_FORCE.format(columns=columns), [before, tool]) for name in row if name is not None}
    chosen = Chosen([], [], {}, {}, {}, [])
    for name, own, source, sha256, committed_at in payloads:
        part = tool is not None and own is None
        if (part and name not in held) or (before is not None and last.get(name, committed_at) >= before):
            continue
        if name in kept_back:
            chosen.kept_back.append(name)
            continue
        (chosen.parts if part else chosen.whole).append(name)
        chosen.rows[name] = held.get(name, {})
        chosen.sources[name], chosen.shas[name] = source, sha256
    return chosen


def effect(store: Store, tool: str | None, before: datetime | None) -> dict[str, Any]:
    """Return what a purge would take: payloads with their rows, and files; raise :class:`UsageError` where there is nothing."""
    chosen = choose(store, tool, before)
    if not (chosen.whole or chosen.parts):
        raise UsageError("nothing to purge: no payload of this lake is of this tool and as old as that")
    listed = [
        {"payload_id": name, "source": chosen.sources[name], "whole": name in chosen.whole, **chosen.rows[name]}
        for name in sorted(chosen.rows)
    ]
    totals = {table: sum(rows.get(table, 0) for rows in chosen.rows.values()) for table in TABLES}
    return {
        "payloads": listed,
        "rows": totals,
        "files": [*_kept(store, chosen, tool, before), *_walled(store, chosen)],
        "kept_back": sorted(chosen.kept_back),
    }


def _kept(store: Store, chosen: Chosen, tool: str | None, before: datetime | None) -> list[str]:
    """Return the kept bytes that go: of the payloads, and of those that were retracted or superseded, if no other needs them."""
    gone = set(chosen.shas.values())
    rows = store.rows(
        "SELECT sha256 FROM lake.main.payloads WHERE state <> 'committed' AND (?1 IS NULL OR tool = ?1) "
        "AND (?2 IS NULL OR committed_at < ?2)",
        [tool, before],
    )
    gone |= {row[0] for row in rows}
    staying = store.rows("SELECT DISTINCT sha256, payload_id FROM lake.main.payloads WHERE state = 'committed'")
    gone -= {sha256 for sha256, name in staying if name not in chosen.rows}
    paths = [kept_path(store.path, sha256) for sha256 in sorted(gone)]
    return [path.relative_to(store.path).as_posix() for path in paths if path.exists()]


def _walled(store: Store, chosen: Chosen) -> list[str]:
    """Return the files that a repair put aside and that may hold rows of the payloads."""
    found = [one.damage for one in walled_files(list(entries(store))) if set(one.damage.payloads) & chosen.rows.keys()]
    paths = {store.path / FOLDER / damage.table / damage.path.rpartition("/")[2] for damage in found}
    return sorted(path.relative_to(store.path).as_posix() for path in paths if path.exists())


def purge(store: Store, tool: str | None, before: datetime | None, files: Sequence[str], settings: Settings, note: dict[str, Any]) -> Entry:
    """Take the payloads out of the lake, in one commit, then remove ``files``; the caller holds the writer lock."""
    batch, breakers = begin(store, settings)
    with building(batch):
        chosen = choose(store, tool, before)
        withdrawal = Withdrawal(chosen.whole, "purged", {tool} if tool else set(), parts=chosen.parts, part_tool=tool or "")
        withdrawal.rebooked = list(chosen.parts)
        withdraw(batch, withdrawal)
        closing = close(batch, breakers, settings, "purge", {"erased": list(files), **note})
        if before is not None:
            _check_windows(closing, microseconds(before))
    entry = commit(batch, closing)
    erase(store.path, files)
    return entry


def _check_windows(closing: Closing, before_us: int) -> None:
    """Raise :class:`UsageError` if a window that begins at or after the date would be another one."""
    for window in closing.changed_windows():
        if window.started_us >= before_us:
            raise UsageError(
                f"window {window.window_id} of {window.tool} begins after the date and would change, because events before the date set "
                "its context; choose another date"
            )
