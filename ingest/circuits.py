"""The policy of the circuits: what opens one, for how long, and what closes it again.

A circuit that is open and past its cool-down is half-open: one payload is tried. A sound one closes the circuit; another failure opens it
again with twice the cool-down, up to a cap. All of it is decided on the state at one ledger entry and at one moment, so that a group that
is decided anew under the writer lock comes to the same.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import duckdb

from ingest.errors import UsageError
from ingest.thresholds import CircuitSection, Thresholds
from storage.circuits import CATALOG, CLOSED, DATA_STORE, DEPENDENCY, FORCE, HALF_OPEN, HOLD, OPEN, TOOL, Circuit, log_table
from storage.errors import Busy, CatalogDown, LoadlockError, StoreDown
from storage.index import IndexDelta
from storage.ledger import Entry
from storage.store import Change, Store
from storage.trust import ApprovalMissing

if TYPE_CHECKING:
    from ingest.intake import Settings

REASON_CHARACTERS = 500
"""A reason is kept up to this length: it may quote what was sent."""


def microseconds(moment: datetime) -> int:
    """Return ``moment`` (UTC without zone) as microseconds since 1970."""
    delta = moment - datetime(1970, 1, 1)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def opened(circuit: Circuit, reason: str, now_us: int, limits: Thresholds) -> Circuit:
    """Return ``circuit`` opened at ``now_us``; one that was tried and failed stays open for twice as long as before."""
    pause_us = round(limits.cool_down * 1e6)
    if circuit.state == OPEN and circuit.opened_us is not None and circuit.retry_us is not None:
        pause_us = min(max(pause_us, 2 * (circuit.retry_us - circuit.opened_us)), round(limits.cool_down_max * 1e6))
    return circuit._replace(
        state=OPEN, reason=reason[:REASON_CHARACTERS], opened_us=now_us, retry_us=now_us + pause_us, failures=circuit.failures + 1
    )


def closed(circuit: Circuit, reason: str) -> Circuit:
    """Return ``circuit`` closed, without failures; an override stays."""
    return Circuit(circuit.kind, circuit.tool, CLOSED, reason, override=circuit.override, until_us=circuit.until_us)


class Breakers:
    """The circuits as a batch finds them, and what it changes of them."""

    def __init__(self, known: Iterable[Circuit], section: CircuitSection, now_us: int) -> None:
        self._known = {(circuit.kind, circuit.tool): circuit for circuit in known}
        self._section = section
        self.now_us = now_us
        self._now = dict(self._known)

    def circuit(self, kind: str, tool: str) -> Circuit:
        """Return a circuit as it stands now."""
        return self._now.get((kind, tool)) or Circuit(kind, tool)

    def state(self, tool: str, kind: str = TOOL) -> str:
        """Return closed, open or half-open."""
        return self.circuit(kind, tool).at(self.now_us)

    def tools(self, state: str) -> frozenset[str]:
        """Return the tools whose circuit is in ``state``."""
        return frozenset(tool for kind, tool in self._now if kind == TOOL and self.state(tool) == state)

    def waiting(self, tool: str) -> str:
        """Say why a payload of ``tool`` has to wait, and until when."""
        circuit = self.circuit(TOOL, tool)
        if circuit.overridden(self.now_us) == HOLD:
            return f"circuit_open: the circuit of {tool} is {circuit.reason}. 'loadlock plan override {tool} --end --reason TEXT' ends that"
        again = datetime.fromtimestamp((circuit.retry_us or 0) / 1e6, UTC)
        return (
            f"circuit_open: the circuit of {tool} is open ({circuit.reason}); one payload is tried after {again:%Y-%m-%d %H:%M:%S} UTC. "
            f"'loadlock circuits reset {tool} --reason TEXT' closes it by hand"
        )

    def forces(self, tool: str, sha256: str) -> bool:
        """Tell whether an override lets the delivery of ``sha256`` in as it is."""
        return self.circuit(TOOL, tool).overridden(self.now_us) in (FORCE, f"{FORCE} {sha256}")

    def shut_out(self, sha256: str) -> frozenset[str]:
        """Return the tools whose circuit is open for the delivery of ``sha256``."""
        return frozenset(tool for tool in self.tools(OPEN) if not self.forces(tool, sha256))

    def names_delivery(self, tool: str) -> bool:
        """Tell whether an override of ``tool`` is for one delivery."""
        return self.circuit(TOOL, tool).overridden(self.now_us).startswith(f"{FORCE} ")

    def trip(self, tool: str, reason: str, kind: str = TOOL) -> None:
        """Open a circuit, or open it again; one that is open and not due stays as it is."""
        if self.state(tool, kind) != OPEN:
            self._now[kind, tool] = opened(self.circuit(kind, tool), reason, self.now_us, self._section.of(tool))

    def fail(self, tool: str, reason: str) -> None:
        """Count a failing payload; enough of them in a row open the circuit, in a half-open one the first does."""
        circuit = self.circuit(TOOL, tool)
        limits = self._section.of(tool)
        if self.state(tool) == HALF_OPEN:
            self.trip(tool, reason)
        elif circuit.failures + 1 >= limits.failures:
            self.trip(tool, f"{circuit.failures + 1} failing payloads in a row, the last: {reason}")
        else:
            self._now[TOOL, tool] = circuit._replace(failures=circuit.failures + 1)

    def succeed(self, tool: str, kind: str = TOOL) -> None:
        """Take note of a sound payload: it closes the circuit and ends a row of failures."""
        circuit = self.circuit(kind, tool)
        if circuit.state == OPEN:
            self._now[kind, tool] = closed(circuit, "a payload was sound again" if kind == TOOL else "it works again")
        elif circuit.failures:
            self._now[kind, tool] = circuit._replace(failures=0)

    def recover(self, troubles: Iterable[tuple[str, str, int, int]]) -> None:
        """Close the circuits of the catalog and the data store: what is committed now proves that they work again.

        ``troubles``: (dependency, reason, since, failures) of what failed so that the lake could not even write it down.
        """
        for dependency, reason, since_us, failures in troubles:
            if self.circuit(DEPENDENCY, dependency).state != OPEN:
                down = Circuit(DEPENDENCY, dependency, OPEN, reason, since_us, since_us, failures)
                self._known[DEPENDENCY, dependency] = self._now[DEPENDENCY, dependency] = down
        for dependency in (CATALOG, DATA_STORE):
            circuit = self.circuit(DEPENDENCY, dependency)
            if circuit.state == OPEN:
                self._now[DEPENDENCY, dependency] = closed(circuit, f"it works again; before, {circuit.failures} times: {circuit.reason}")

    def limits(self, tool: str) -> Thresholds:
        """Return the thresholds of a tool."""
        return self._section.of(tool)

    def changes(self) -> list[Circuit]:
        """Return the circuits that differ from what was found."""
        return [circuit for key, circuit in self._now.items() if circuit != self._known.get(key)]

    def story(self) -> list[dict[str, Any]]:
        """Return the changes as the ledger keeps them: from which state to which, and why."""
        return [
            {
                "circuit": circuit.tool,
                "kind": circuit.kind,
                "from": (self._known.get((circuit.kind, circuit.tool)) or Circuit(circuit.kind, circuit.tool)).at(self.now_us),
                "to": circuit.state,
                "reason": circuit.reason,
                "failures": circuit.failures,
            }
            for circuit in self.changes()
        ]


def index_rows(circuits: Iterable[Circuit], seq: int) -> list[tuple[Any, ...]]:
    """Return what the working index takes of ``circuits`` that entry ``seq`` changed."""
    return [(*circuit, seq) for circuit in circuits]


def record(store: Store, circuits: list[Circuit], body: dict[str, Any], actor: str, action: str = "circuit") -> Entry:
    """Commit changed circuits as a ledger entry of their own; the caller holds the writer lock."""
    return store.commit(
        lambda seq: Change(
            action,
            actor,
            "",
            body,
            IndexDelta(0, "", circuits=index_rows(circuits, seq)),
            rows={"circuits_log": log_table(circuits, seq)},
        )
    )


def note_down(store: Store, error: Busy, settings: Settings) -> None:
    """Open the circuit of the dependency that failed, as far as the lake can take it; else the working index remembers it."""
    down = DATA_STORE if isinstance(error, StoreDown) else CATALOG if isinstance(error, CatalogDown) else None
    if down is None or settings.dry_run:
        return
    now_us = microseconds(store.clock())
    with suppress(sqlite3.Error, OSError):
        store.index.note_trouble(down, str(error)[:REASON_CHARACTERS], now_us)
    if down == DATA_STORE:
        with suppress(LoadlockError, duckdb.Error, OSError), store.locked(1.0):
            breakers = Breakers(store.index.circuits(), settings.config.circuit, now_us)
            breakers.trip(DATA_STORE, str(error), DEPENDENCY)
            if breakers.changes():
                record(store, breakers.changes(), {"software": settings.software, "circuits": breakers.story()}, settings.actor)


def reset(store: Store, tool: str, *, reason: str, actor: str, software: str, wait_s: float) -> list[Circuit]:
    """Close every circuit of the name ``tool`` by hand, as a ledger entry with actor and reason; return them as they were."""
    if not reason.strip():
        raise UsageError("a circuit is closed by hand for a reason; give --reason TEXT")
    with store.locked(wait_s):
        found = [circuit for circuit in store.index.circuits() if circuit.tool == tool]
        known = [name for (name,) in store.rows("SELECT DISTINCT tool FROM circuits ORDER BY tool")]  # the index leaves out those at rest
        if tool not in known:
            raise UsageError(f"there is no circuit '{tool}'; there are: {', '.join(known) or 'none'}")
        now_us = microseconds(store.clock())
        held = next((circuit for circuit in found if circuit.overridden(now_us)), None)
        if held is not None:
            raise ApprovalMissing(f"the circuit of {tool} is {held.reason}; 'loadlock plan override {tool} --end --reason TEXT' ends that")
        worn = [circuit for circuit in found if circuit.state != CLOSED or circuit.failures]
        if worn:
            story = [{"circuit": c.tool, "kind": c.kind, "from": c.at(now_us), "to": CLOSED, "failures": c.failures} for c in worn]
            body = {"software": software, "reason": reason, "circuits": story}
            record(store, [closed(circuit, f"reset by {actor}: {reason}") for circuit in worn], body, actor, "circuit_reset")
    return worn
