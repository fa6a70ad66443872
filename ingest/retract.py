"""A delivery taken back, or decoded anew: one commit, one ledger entry, and the lake is as if it had come otherwise or never."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb

from ingest.batch import Batch
from ingest.circuits import Breakers, microseconds
from ingest.closing import Closing
from ingest.errors import UsageError
from ingest.intake import Settings
from ingest.recent import Recent
from ingest.withdrawal import Withdrawal, withdraw
from storage.circuits import DEPENDENCY, DERIVED, OPEN
from storage.errors import IntegrityError, StoreDown
from storage.ledger import Entry
from storage.store import Store

REPLAY = "quarantine replay"
HASHED = 64


@dataclass(slots=True, frozen=True)
class Found:
    """A committed payload, as its account tells it."""

    payload_id: str
    key: str
    sha256: str
    tool: str | None
    format: str
    source: str
    size: int
    ledger_seq: int


def find(store: Store, names: Sequence[str]) -> list[Found]:
    """Return the committed payloads that ``names`` (ids or idempotency keys) name; raise :class:`UsageError` where one names none."""
    found: list[Found] = []
    for name in dict.fromkeys(names):
        rows = store.rows(
            "SELECT payload_id, key, sha256, tool, format, source, size, ledger_seq, state FROM lake.main.payloads "
            "WHERE payload_id = ? OR key = ? ORDER BY state, ledger_seq DESC",
            [name, name],
        )
        live = [Found(*row[:8]) for row in rows if row[8] == "committed"]
        if not live:
            gone = (
                f"{name}: it was {'purged' if rows[0][8] == 'purged' else 'retracted'} before"
                if rows
                else f"{name}: no payload of this lake has this id or key"
            )
            raise UsageError(f"{gone}; \"loadlock sql 'select payload_id, source, state from payloads'\" lists them")
        found += [payload for payload in live if payload not in found]
    return found


def ordered(store: Store, payloads: Iterable[Found]) -> list[Found]:
    """Return the payloads in the order in which they were decoded: by ledger entry, and as the entry lists them."""
    payloads = list(payloads)
    query = "SELECT body FROM lake.main.ledger WHERE list_contains(?, seq)"
    bodies = store.rows(query, [[payload.ledger_seq for payload in payloads]])
    place = {item["payload_id"]: i for (body,) in bodies for i, item in enumerate(json.loads(body).get("payloads", ()))}
    return sorted(payloads, key=lambda payload: (payload.ledger_seq, place.get(payload.payload_id, 0)))


def repeats(store: Store, payloads: Sequence[Found]) -> list[tuple[str, str]]:
    """Return (payload id, source) of later deliveries of the same tools with duplicates: what they repeated may be gone with the first."""
    rows = store.rows(
        "SELECT payload_id, source FROM lake.main.payloads WHERE state = 'committed' AND records_duplicate > 0 AND ledger_seq >= ? "
        "AND (tool IS NULL OR list_contains(?, tool) OR ?) AND NOT list_contains(?, payload_id) ORDER BY ledger_seq, payload_id",
        [
            min(payload.ledger_seq for payload in payloads),
            [payload.tool for payload in payloads if payload.tool],
            any(payload.tool is None for payload in payloads),
            [payload.payload_id for payload in payloads],
        ],
    )
    return [(str(row[0]), str(row[1])) for row in rows]


def retract(store: Store, names: Sequence[str], reason: str, settings: Settings) -> dict[str, Any]:
    """Undo the deliveries ``names`` in one commit and return what was done, as the command prints it."""
    if not reason.strip():
        raise UsageError("why is it retracted? give --reason; the ledger keeps it")
    with store.locked(settings.wait_s):
        payloads = find(store, names)
        note = {
            "reason": reason,
            "retracted": [{"payload_id": p.payload_id, "key": p.key, "sha256": p.sha256, "source": p.source} for p in payloads],
        }
        batch, breakers = begin(store, settings)
        with building(batch):
            withdrawal = withdrawn(batch, payloads, "retracted")
            closing = close(batch, breakers, settings, "retract", note)
            may_miss = repeats(store, payloads)
        entry = commit(batch, closing)
    return {
        "schema": 1,
        "ledger_seq": entry.seq,
        **note,
        "tools": closing.tools(),
        "promoted": withdrawal.promoted,
        "reopened": withdrawal.reopened,
        "windows": closing.windows,
        "features": closing.features,
        "repeated_by": [{"payload_id": payload, "source": source} for payload, source in may_miss],
    }


def begin(store: Store, settings: Settings) -> tuple[Batch, Breakers]:
    """Return an empty batch and the circuits as it finds them; only that of derived work concerns it, a person asked for the rest."""
    batch = Batch(store, settings.config, settings.new_id(), settings.new_id, settings.stages, Recent(), settings.arena)
    breakers = Breakers(store.index.circuits(), settings.config.circuit, microseconds(store.clock()))
    breakers.recover(store.index.troubles())
    batch.derived.off = breakers.state(DERIVED, DEPENDENCY) == OPEN
    return batch, breakers


def close(batch: Batch, breakers: Breakers, settings: Settings, action: str, note: dict[str, Any]) -> Closing:
    """Finish ``batch``; its ledger entry says ``action`` and ``note``."""
    config_digest = settings.config.digest()
    return Closing(
        batch, actor=settings.actor, software=settings.software, config_digest=config_digest, breakers=breakers, action=action, note=note
    )


def commit(batch: Batch, closing: Closing) -> Entry:
    """Commit a finished batch; the caller holds the writer lock."""
    try:
        return batch.store.commit(lambda seq: closing.change(seq, batch.store.clock()))
    except StoreDown:  # before COMMIT: no snapshot names these files
        batch.stager.discard()
        raise
    finally:
        batch.stager.release()


@contextmanager
def building(batch: Batch) -> Iterator[None]:
    """Read the lake at one snapshot while ``batch`` is made; nothing that it staged is left behind on an error."""
    try:
        with batch.store.reading():
            yield
    except duckdb.Error as error:
        batch.stager.discard()
        raise IntegrityError(
            f"the lake can't be read ({str(error).splitlines()[0]}); nothing was changed. 'loadlock audit verify' says what is damaged"
        ) from error
    except BaseException:
        batch.stager.discard()
        raise


def withdrawn(batch: Batch, payloads: Sequence[Found], state: str) -> Withdrawal:
    """Take the payloads out of the lake as ``batch`` sees it; ``state`` is what their accounts say from now on."""
    withdrawal = Withdrawal([payload.payload_id for payload in payloads], state, {payload.tool for payload in payloads if payload.tool})
    withdrawal.reopened = _reopened(batch.store, payloads)
    withdraw(batch, withdrawal)
    return withdrawal


def _reopened(store: Store, payloads: Sequence[Found]) -> list[str]:
    """Return the quarantine entries that the payloads were replays of; raise where one of theirs was replayed by another payload."""
    ids = [payload.payload_id for payload in payloads]
    replayed = store.rows(
        "SELECT s.quarantine_id, s.revision, q.payload_id FROM quarantine q JOIN lake.main.quarantine_states s USING (quarantine_id) "
        "WHERE q.state = 'replayed' AND s.state = 'replayed' "
        "QUALIFY s.revision = max(s.revision) OVER (PARTITION BY s.quarantine_id)"
    )
    reopened: list[str] = []
    for name, revision, owner in replayed:
        replays = store.rows(
            "SELECT payload_id, key FROM lake.main.payloads WHERE ledger_seq = ? AND state = 'committed' AND starts_with(source, ?)",
            [revision, REPLAY],
        )
        exact = [payload for payload, key in replays if name in key.removeprefix("quarantine:").split("+")]
        holders = exact or [payload for payload, key in replays if len(key.removeprefix("quarantine:")) == HASHED]
        if owner in ids and set(holders) - set(ids):
            raise UsageError(f"payload {owner}: spans of its quarantine were replayed as {', '.join(holders)}; retract these too")
        if owner not in ids and set(holders) & set(ids):
            if set(holders) - set(ids):
                raise UsageError(f"these replays were committed together: retract all of {', '.join(holders)}")
            reopened.append(str(name))
    return sorted(reopened)
