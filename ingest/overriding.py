"""A circuit overridden under approval: held open whatever comes, or forced closed, for all deliveries or for one."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ingest.circuits import microseconds, record
from ingest.errors import UsageError
from ingest.intake import Settings
from storage.circuits import CLOSED, HOLD, TOOL, Circuit
from storage.ledger import Entry
from storage.store import Store

END = "end"


def effect(store: Store, tool: str, override: str, until: datetime | None) -> dict[str, Any]:
    """Return what the circuit of ``tool`` would become; raise :class:`UsageError` where there is none, or nothing to end."""
    found = store.rows("SELECT override, override_until FROM circuits WHERE tool = ? AND kind = 'tool'", [tool])
    if not found:
        known = [row[0] for row in store.rows("SELECT tool FROM circuits WHERE kind = 'tool' ORDER BY tool")]
        raise UsageError(f"there is no circuit of a tool '{tool}'; there are: {', '.join(known) or 'none'}")
    if override == END and found[0][0] is None:
        raise UsageError(f"{tool}: nothing is in force that could be ended; 'loadlock circuits list' shows overrides")
    becomes = {"override": override, "until": None if until is None else until.isoformat()}
    return {"tool": tool, "becomes": becomes, "in_force": {"override": found[0][0], "until": found[0][1] and found[0][1].isoformat()}}


def override(store: Store, tool: str, wanted: str, until: datetime | None, reason: str, settings: Settings, note: dict[str, Any]) -> Entry:
    """Put ``wanted`` in force, or end what is; the caller holds the writer lock."""
    old = next((found for found in store.index.circuits() if (found.kind, found.tool) == (TOOL, tool)), Circuit(TOOL, tool))
    if wanted == END:
        new = Circuit(TOOL, tool, CLOSED, f"{old.override} ended by {settings.actor}: {reason}")
    else:
        verb = "held open" if wanted == HOLD else "forced closed"
        new = old._replace(
            override=wanted, until_us=None if until is None else microseconds(until), reason=f"{verb} by {settings.actor}: {reason}"
        )
    now_us = microseconds(store.clock())
    story = [{"circuit": tool, "kind": TOOL, "from": old.at(now_us), "to": new.at(now_us), "override": new.override or None}]
    return record(store, [new], {"software": settings.software, "circuits": story, **note}, settings.actor, "override")
