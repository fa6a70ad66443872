"""The account of a payload, like double-entry bookkeeping: every byte and every record is in exactly one column."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field, fields
from typing import Any

from ingest.keys import ACCEPTED, CONFLICT, DUPLICATE
from ingest.records import WALLED, Rejected
from storage.errors import IntegrityError
from storage.schema import ACCOUNT

_NAME = {ACCEPTED: "accepted", CONFLICT: "conflict", DUPLICATE: "duplicate"}


@dataclass(slots=True)
class Account:
    """What came in and what became of it, in bytes of the decompressed payload, records and frames."""

    bytes_in: int = 0
    bytes_accepted: int = 0
    bytes_duplicate: int = 0
    bytes_conflict: int = 0
    bytes_quarantined: int = 0
    bytes_other: int = 0
    records_decoded: int = 0
    records_accepted: int = 0
    records_duplicate: int = 0
    records_conflict: int = 0
    frames_quarantined: int = 0
    frames_other: int = 0
    samples: int = 0
    events: int = 0
    ambiguous_time: int = 0

    def frame(self, outcome: int, size: int) -> None:
        """Count a frame's bytes under its outcome."""
        name = f"bytes_{_NAME[outcome]}"
        setattr(self, name, getattr(self, name) + size)

    def record(self, outcome: int, count: int = 1) -> None:
        """Count decoded records under their outcome."""
        name = f"records_{_NAME[outcome]}"
        setattr(self, name, getattr(self, name) + count)
        self.records_decoded += count

    def check(self, source: str) -> None:
        """Raise :class:`IntegrityError` when the account does not balance: a fault of ours, never of the data."""
        out = self.bytes_accepted + self.bytes_duplicate + self.bytes_conflict + self.bytes_quarantined + self.bytes_other
        records = self.records_accepted + self.records_duplicate + self.records_conflict
        if out != self.bytes_in or records != self.records_decoded:
            raise IntegrityError(
                f"{source}: the account does not balance (bytes {self.bytes_in} in, {out} out; records {self.records_decoded} decoded, "
                f"{records} booked); nothing was committed. This is a fault of loadlock: please report it with the file"
            )

    def add(self, other: Account) -> None:
        """Add another payload's figures."""
        for item in fields(self):
            setattr(self, item.name, getattr(self, item.name) + getattr(other, item.name))

    def figures(self) -> dict[str, int]:
        """Return the figures in the order of the table's columns."""
        return {name: getattr(self, name) for name in ACCOUNT}


@dataclass(slots=True)
class Tally:
    """What one tool sent in a payload that holds several: records, contradicting ones among them, and rows that were rejected."""

    records: int = 0
    conflicts: int = 0
    bad: int = 0


@dataclass(slots=True)
class Payload:
    """One delivery in a batch: who it is, and its account."""

    number: int
    payload_id: str
    key: str
    sha256: str
    size: int
    source: str
    format: str
    mapping: str | None
    tool: str | None
    captured: dict[str, str]
    account: Account = field(default_factory=Account)
    tools: set[str] = field(default_factory=set)
    unit: tuple[int, int] | None = None
    """(outcome, bytes) of the single frame of a payload that is one frame (Parquet, Arrow)."""
    kept: dict[str, Any] | None = None
    """The file in which the lake keeps the delivered bytes, as the ledger names it."""
    dialect: str | None = None
    """What the decoder settled about the file, as JSON: a rejected row can't be decoded again without."""

    sole: str | None = None
    """The tool that all of it comes from; None where each row names its own."""
    kept_out: Set[str] = frozenset()
    """Tools whose rows are rejected, because their circuit is open."""
    tallies: dict[str | None, Tally] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    """Quarantined pieces by reason."""
    frames: int = 0
    """Frames that were understood."""
    bad_rows: int = 0
    """Rejected rows of a payload that is one frame."""
    walled: dict[str, int] = field(default_factory=dict)
    """Sound rows that were rejected, because the circuit of their tool is open."""

    def tally(self, tool: str | None) -> Tally:
        """Return what ``tool`` sent in a payload of several tools."""
        return self.tallies.setdefault(tool, Tally())

    def note(self, rejected: Rejected) -> None:
        """Take note of a rejected span, to judge the payload by."""
        if rejected.reason == WALLED:
            tool = rejected.tool or ""
            self.walled[tool] = self.walled.get(tool, 0) + 1
            return
        self.bad_rows += rejected.rows
        if self.sole is None:
            self.tally(rejected.tool).bad += 1

    def row(self) -> dict[str, Any]:
        """Return its columns of the payloads table, but for what the commit adds."""
        tool = self.tool if not self.tools else next(iter(self.tools)) if len(self.tools) == 1 else None
        return {
            "payload_id": self.payload_id,
            "key": self.key,
            "sha256": self.sha256,
            "tool": tool,
            "format": self.format,
            "source": self.source,
            "state": "committed",
            **self.account.figures(),
            "size": self.size,
        }
