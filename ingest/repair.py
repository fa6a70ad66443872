"""Damage is walled off, and what was lost is made up from the payloads: after each step the lake is whole, and says what is missing.

1. The damaged files leave the catalog in one commit; windows that lost samples or features are derived anew, their features are owed.
2. What the working index knows of the lake's own logs is written anew.
3. The payloads whose rows were lost are decoded again, as far as their bytes are at hand.
4. Owed features are computed from what is there; kept payloads are written anew.

Each step is a ledger entry, and each begins with what the ledger says is still to do: a run that was killed is finished by the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb

from ingest import derived
from ingest.circuits import microseconds
from ingest.intake import Settings
from ingest.provenance import locate
from ingest.rederive import TABLES, rederive
from ingest.restoring import restore, wanted
from ingest.retract import begin, building, close, commit
from ingest.sources import walk
from ingest.withdrawal import Withdrawal
from storage.errors import IntegrityError
from storage.index import IndexDelta
from storage.kept import keep, kept_fault
from storage.ledger import Entry, bodies
from storage.store import Change, Store
from storage.telling import Tell, nobody
from storage.upkeep import names_all
from storage.verify import catalog_files, entries, files_of, kept_files
from storage.walled import Broken, Walled, broken_files, clear, missing_files, put_aside, stood_in

WINDOWED = ("traces", "windows_log", "features_log")
"""Tables by whose rows windows and features are derived anew."""

ACTIONS = ("repair", "features")
"""Actions of the ledger entries that a repair makes."""

FAR_US = 1 << 61


@dataclass(slots=True)
class Done:
    """What a repair did, or would do."""

    dry_run: bool
    walled: list[dict[str, Any]] = field(default_factory=list)
    restored: list[dict[str, Any]] = field(default_factory=list)
    features: int = 0
    owed: int = 0
    kept: list[str] = field(default_factory=list)
    missing: list[dict[str, Any]] = field(default_factory=list)
    left: list[dict[str, str]] = field(default_factory=list)
    """What is damaged still, or not at hand, and why."""
    entries: list[int] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """Return it as the command prints it."""
        names = ("dry_run", "walled", "restored", "features", "owed", "kept", "missing", "left", "entries")
        return {"schema": 1, "whole": not (self.missing or self.left or self.owed)} | {name: getattr(self, name) for name in names}


def repair(store: Store, files: Iterable[Path], settings: Settings, tell: Tell = nobody) -> dict[str, Any]:
    """Repair the lake and return what was done; with ``settings.dry_run`` only find out what would be.

    The bytes of payloads are looked for in ``files`` (folders stand for all that they hold), at the sources' own paths, and among what
    the lake keeps.
    """
    done, given = Done(settings.dry_run), [path for path, _ in walk(files)]
    try:
        if not settings.dry_run:
            store.ensure_index(settings.wait_s)
        _repair(store, given, settings, done, tell)
    except duckdb.Error as error:
        raise unreadable(error) from error
    return done.document()


def unreadable(error: duckdb.Error) -> IntegrityError:
    """Return what to say where not even the lake's own books can be read."""
    return IntegrityError(
        f"the lake can't be read ({str(error).splitlines()[0]}); steps that are in the ledger are done, run the same command again. "
        "If that does not help, what is damaged is in no payload: restore a backup with 'loadlock restore'"
    )


def _repair(store: Store, files: Sequence[Path], settings: Settings, done: Done, tell: Tell) -> None:
    listed = list(entries(store))
    before = listed[-1].seq
    catalog = catalog_files(store, files_of(listed)[0])
    broken = broken_files(store, listed, catalog, tell)
    for one in broken:
        if one.current and not one.mendable:
            why = f"{one.damage.fault}; its rows of {one.recorded.table} are in no payload: restore a backup"
            done.left.append({"what": one.recorded.path, "why": why})
    broken = [one for one in broken if one.mendable or not one.current]
    done.walled = [one.damage.document() for one in broken]
    if not settings.dry_run:
        current = {recorded.path for recorded, used in catalog if used}
        if broken:
            _wall_off(store, broken, settings)
            listed = list(entries(store))
            current -= {one.recorded.path for one in broken}
        clear(store, listed, current)
        tables = _to_rederive(listed)
        if tables:
            rederive(store, tables, settings)
    tell("what is missing", 0, 0)
    _restore(store, files, broken, settings, done)
    if not settings.dry_run:
        done.features = derived.make_up(store, settings, force=True)
        done.owed = len(store.index.owed(derived.WINDOWS_AT_ONCE))
        done.missing = [one.document() for one in missing_files(store, list(entries(store)))]
    _keep_again(store, listed, files, settings, done)
    done.entries = [entry.seq for entry in entries(store) if entry.seq > before and entry.action in ACTIONS]


# --- step 1


def _wall_off(store: Store, broken: Sequence[Broken], settings: Settings) -> None:
    """Let the damaged files leave the catalog, in one commit."""
    with store.locked(settings.wait_s):
        history = [one.damage.document() for one in broken if not one.current]
        broken = [one for one in broken if one.current and names_all(store, one.recorded.table, [store.path / one.recorded.path])]
        if not broken and not history:  # another process was here
            return
        batch, breakers = begin(store, settings)
        batch.derived.off = True  # the features of what is left follow when it is known what comes back
        with building(batch):
            withdrawal = Withdrawal([], "committed", {tool for one in broken for tool in one.damage.tools})
            for one in broken:
                withdrawal.removed.setdefault(one.recorded.table, []).append(store.path / one.recorded.path)
                if one.recorded.table in WINDOWED:
                    batch.touched |= _windows(store, one)
            batch.withdrawal = withdrawal
            note = {"walled": [one.damage.document() for one in broken], "walled_history": history}
            closing = close(batch, breakers, settings, "repair", note)
        with stood_in(store, broken):
            commit(batch, closing)


def _windows(store: Store, one: Broken) -> dict[int, str]:
    """Return the windows that may have lost samples or features with a file: all of its tools in its time."""
    lo, hi = one.recorded.ranges.get("ts") or one.recorded.ranges.get("started_at") or (None, None)
    span = (-FAR_US if lo is None else _microseconds(lo), FAR_US if hi is None else _microseconds(hi))
    return {window.window_id: tool for tool in one.damage.tools for window in store.index.windows_between(tool, *span)}


def _microseconds(text: str) -> int:
    return microseconds(datetime.fromisoformat(text))


# --- steps 2 and 3


def _to_rederive(listed: Sequence[Entry]) -> list[str]:
    """Return the tables of which files were walled off since they were last made anew."""
    waiting: set[str] = set()
    for _, body in bodies(listed):
        waiting |= {one["table"] for one in body.get("walled", ()) if one["table"] in TABLES}
        waiting -= set(body.get("rederived", ()))
    return sorted(waiting)


def _restore(store: Store, files: Sequence[Path], broken: Sequence[Broken], settings: Settings, done: Done) -> None:
    """Decode the payloads again whose rows are missing, those of ``broken`` among them while nothing is changed."""
    missing = missing_files(store, list(entries(store))) if not (settings.dry_run and broken) else []
    if settings.dry_run:
        missing += [Walled(0, one.damage, one.damage.payloads) for one in broken if one.current and one.delivered]
    names = list(dict.fromkeys(name for one in missing for name in one.lost))
    some, left = wanted(store, names, files, settings)
    if settings.dry_run:
        done.restored = [{"payload_id": one.found.payload_id, "source": one.found.source} for one in some]
        done.missing = [one.document() for one in missing if set(one.lost) & left.keys()]
    else:
        restored = restore(store, some, settings)
        done.restored, left = restored.payloads, left | restored.left
    done.left += [{"what": f"payload {name}", "why": why} for name, why in left.items()]


# --- step 4


def _keep_again(store: Store, listed: Sequence[Entry], files: Sequence[Path], settings: Settings, done: Done) -> None:
    """Write damaged copies of delivered bytes anew, where the bytes are still to be had."""
    again: list[dict[str, Any]] = []
    for path, (payload_id, entry) in kept_files(list(listed)).items():
        fault = kept_fault(store.path, entry, quick=False)
        if fault is None:
            continue
        found = store.rows("SELECT sha256, source FROM lake.main.payloads WHERE payload_id = ?", [payload_id])
        places = [locate(store, found[0][0], found[0][1], given, kept=False) for given in (*files, None)] if found else []
        located = next((place for place in places if place is not None), None)
        if located is None:
            why = f"{fault}; the delivered bytes of payload {payload_id} are not at hand: name the file with --from"
            done.left.append({"what": path, "why": why})
            continue
        done.kept.append(path)
        if not settings.dry_run:
            put_aside(store, store.path / path)
            with located.open() as file:
                again.append({"payload_id": payload_id, "kept": keep(store.path, found[0][0], file)})
    if again:
        body = {"software": settings.software, "kept_again": again}
        with store.locked(settings.wait_s):
            store.commit(lambda _seq: Change("repair", settings.actor, "", body, IndexDelta(0, "")))
