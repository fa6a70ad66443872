"""The ledger: every action on the lake, hash-chained (SHA-256 over canonical JSON of the entry and the previous hash)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

GENESIS = "0" * 64
"""The previous hash of the first entry."""


def canonical(value: Any) -> str:
    """Return ``value`` as JSON with sorted keys and no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


@dataclass(slots=True, frozen=True)
class Entry:
    """One ledger entry. ``body`` is canonical JSON; times are UTC without zone."""

    seq: int
    recorded_at: datetime
    actor: str
    action: str
    batch_id: str
    body: str
    prev_hash: str
    hash: str


def entry_hash(seq: int, recorded_at: datetime, actor: str, action: str, batch_id: str, body: str, prev_hash: str) -> str:
    """Return the SHA-256 that seals an entry and all before it."""
    text = canonical(
        {
            "seq": seq,
            "recorded_at": recorded_at.isoformat(timespec="microseconds"),
            "actor": actor,
            "action": action,
            "batch_id": batch_id,
            "body": body,
            "prev_hash": prev_hash,
        }
    )
    return hashlib.sha256(text.encode()).hexdigest()


def seal(seq: int, recorded_at: datetime, actor: str, action: str, batch_id: str, body: dict[str, Any], prev_hash: str) -> Entry:
    """Return the next entry after the one whose hash is ``prev_hash``."""
    text = canonical(body)
    return Entry(
        seq, recorded_at, actor, action, batch_id, text, prev_hash, entry_hash(seq, recorded_at, actor, action, batch_id, text, prev_hash)
    )


def bodies(entries: Iterable[Entry]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (seq, body) of the entries whose body can be read; the chain's proof names the others."""
    for entry in entries:
        with suppress(json.JSONDecodeError):
            yield entry.seq, json.loads(entry.body)


def check_chain(entries: Iterable[Entry]) -> list[str]:
    """Return what is wrong with the chain of ``entries`` (in order of seq), entry by entry; empty when it holds."""
    faults, previous, expected = [], GENESIS, 1
    for entry in entries:
        if entry.seq != expected:
            faults.append(f"ledger entry {expected} is missing or out of order: found {entry.seq}")
        if entry.prev_hash != previous:
            faults.append(f"ledger entry {entry.seq}: prev_hash is not the hash of the entry before it")
        actual = entry_hash(entry.seq, entry.recorded_at, entry.actor, entry.action, entry.batch_id, entry.body, entry.prev_hash)
        if actual != entry.hash:
            faults.append(f"ledger entry {entry.seq}: its content does not match its hash")
        previous, expected = entry.hash, entry.seq + 1
    return faults
