"""What a call to ingest answers: one receipt a payload, and the account of all that it committed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field

from ingest.account import Account
from ingest.markup import facts, rows
from storage.schema import ACCOUNT
from storage.store import Store

PURGED = "its data were purged since, and nothing was taken again; to take them on purpose, deliver them under a --key of their own"
"""The reason of a receipt for a delivery that comes again after a purge."""

State = Literal["committed", "replayed", "refused", "deferred"]


class Receipt(BaseModel):
    """One payload's receipt. ``ledger_seq`` is the entry that made it visible, None where nothing was."""

    payload_id: str | None
    key: str
    sha256: str
    source: str
    state: State
    ledger_seq: int | None
    reason: str | None = None
    account: dict[str, int] | None = None

    def _repr_html_(self) -> str:
        """Return the receipt as a table, for notebooks."""
        pairs = [(name, value) for name, value in self.model_dump().items() if name != "account" and value is not None]
        return facts("receipt", [*pairs, *((name, value) for name, value in (self.account or {}).items() if value)])


def first_account(store: Store, payload_id: str | None) -> tuple[dict[str, int] | None, bool]:
    """Return the figures with which a payload was committed, and whether it was purged since."""
    rows = store.rows(f"SELECT {', '.join(ACCOUNT)}, state FROM lake.main.payloads WHERE payload_id = ?", [payload_id])
    return (dict(zip(ACCOUNT, rows[0][:-1], strict=True)), rows[0][-1] == "purged") if rows else (None, False)


class Summary(BaseModel):
    """The answer of one call, as ``ingest --json`` prints it."""

    schema_: int = 1
    batches: list[str] = []
    payloads: dict[str, int] = dict.fromkeys(("seen", "committed", "replayed", "refused", "deferred", "skipped"), 0)
    bytes: dict[str, int] = dict.fromkeys(("in", "accepted", "duplicate", "conflict", "quarantined", "other"), 0)
    records: dict[str, int] = dict.fromkeys(("decoded", "accepted", "duplicate", "conflict"), 0)
    frames: dict[str, int] = dict.fromkeys(("quarantined", "other"), 0)
    samples: int = 0
    events: int = 0
    windows: int = 0
    features: int = 0
    gaps: int = 0
    seconds: float = 0.0
    receipts: list[Receipt] = []
    skipped: list[str] = []
    reasons: dict[str, int] = Field(default={}, exclude=True)
    """Quarantined pieces by reason, as the quarantine names it."""
    owed: int = Field(default=0, exclude=True)
    """Windows whose features could not be computed: they are made up later."""
    busy: str | None = Field(default=None, exclude=True)
    """Why the call has to be made again (the lock or the catalog was not to be had, bytes have no place to wait in)."""
    named_skipped: bool = Field(default=False, exclude=True)
    """A file that the caller named itself was skipped: a usage error."""

    def add(self, account: Account, reasons: Mapping[str, int]) -> None:
        """Add a committed payload's figures, and why pieces of it are in quarantine."""
        for reason, count in reasons.items():
            self.reasons[reason] = self.reasons.get(reason, 0) + count
        for group, names in (("bytes", self.bytes), ("records", self.records), ("frames", self.frames)):
            for name in names:
                names[name] += getattr(account, f"{group}_{name}")
        self.samples += account.samples
        self.events += account.events

    def book(self, receipt: Receipt) -> None:
        """Add a receipt and count its state."""
        self.receipts.append(receipt)
        self.payloads["seen"] += 1
        self.payloads[receipt.state] += 1

    @property
    def exit_code(self) -> int:
        """The gravest of what happened: 5 busy, 4 refused, 2 a named file is nothing to ingest, 3 walled off or deferred, 0."""
        if self.busy:
            return 5
        if self.payloads["refused"]:
            return 4
        if self.named_skipped:
            return 2
        walled = self.frames["quarantined"] or self.records["conflict"] or self.payloads["deferred"] or self.owed
        return 3 if walled else 0

    def document(self) -> dict[str, Any]:
        """Return the JSON document."""
        content = self.model_dump(mode="json")
        return {"schema": content.pop("schema_"), **content}

    def _repr_html_(self) -> str:
        """Return what came in, what was kept, what was not and why, and the receipts, as tables for notebooks."""
        states = ", ".join(f"{number:,} {state}" for state, number in self.payloads.items() if number and state != "seen")
        pairs: list[tuple[str, Any]] = [
            ("payloads", states or "none"),
            *((f"bytes {name}", count) for name, count in self.bytes.items() if count),
            *((f"records {name}", count) for name, count in self.records.items() if count),
            *((f"quarantined: {reason}", count) for reason, count in self.reasons.items()),
            *((name, count) for name in ("samples", "events", "windows", "features", "gaps") if (count := getattr(self, name))),
            ("seconds", self.seconds),
        ]
        listed = [{"state": item.state, "source": item.source, "payload": item.payload_id, "reason": item.reason} for item in self.receipts]
        return facts("ingest", pairs) + rows("receipts", listed)
