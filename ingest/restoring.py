"""Rows that were lost with a damaged file are decoded again from their payloads and stored as they were: same payload, span and window.

Nothing else of the payloads changes: what is stored already is met as a duplicate, and what stood as a conflict stays one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from ingest import intake
from ingest.account import Payload
from ingest.batch import Batch
from ingest.config import Config
from ingest.errors import MappingMissing, UsageError
from ingest.group import stored_dictionary
from ingest.intake import Settings
from ingest.records import WALLED
from ingest.reprocess import delivery_of
from ingest.retract import REPLAY, Found, begin, building, close, commit, find, ordered
from ingest.sources import Delivery
from ingest.withdrawal import Withdrawal
from storage.kept import sound_kept
from storage.schema import COLUMNS, arrow_schema
from storage.store import Store

SAME = ("bytes_in", "records_decoded", "frames_quarantined")
"""Figures of an account that come out again when a payload is decoded as it was."""


@dataclass(slots=True, frozen=True)
class Wanted:
    """A payload that is to be decoded again: as it was delivered, and by the configuration of then."""

    found: Found
    delivery: Delivery
    config: Config


@dataclass(slots=True)
class Restored:
    """What came back. ``payloads``: what was stored of each; ``left``: payload -> why it can't be decoded again."""

    payloads: list[dict[str, Any]] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)


def wanted(store: Store, names: Sequence[str], files: Sequence[Path], settings: Settings) -> tuple[list[Wanted], dict[str, str]]:
    """Return the payloads ``names`` whose bytes are at hand, in order of their commit, and why others' are not."""
    some: list[Wanted] = []
    left: dict[str, str] = {}
    digests = dict(store.rows("SELECT payload_id, config_digest FROM lake.main.payloads WHERE list_contains(?, payload_id)", [list(names)]))
    for found in ordered(store, find(store, names)) if names else ():
        config = _config(store, digests[found.payload_id], settings)
        fitting = [path for path in files if path.stat().st_size == found.size]
        try:
            if found.source.startswith(REPLAY):
                raise UsageError("it is a replay of quarantined spans: retract it, then replay them anew")
            kept = sound_kept(store.path, found.sha256)
            delivery = delivery_of(store, found, fitting, None, replace(settings, config=config), kept=kept)
            some.append(Wanted(found, delivery, config))
        except UsageError as error:
            left[found.payload_id] = str(error)
    return some, left


def _config(store: Store, digest: str | None, settings: Settings) -> Config:
    """Return the configuration that the payload was decoded by, as the lake keeps it; else the one of today."""
    rows = store.rows("SELECT body FROM lake.main.configs WHERE digest = ? LIMIT 1", [digest])
    if rows:
        return Config.model_validate_json(rows[0][0])
    return Config() if digest == Config().digest() else settings.config


def restore(store: Store, some: Sequence[Wanted], settings: Settings) -> Restored:
    """Decode the payloads again and commit what was lost of them; those of one commit share a configuration."""
    done = Restored()
    group: list[Wanted] = []
    for one in [*some, None]:
        full = sum(member.found.size for member in group) >= settings.config.lake.batch_bytes
        if group and (one is None or full or one.config != group[0].config):
            _commit(store, group, settings, done)
            group = []
        if one is not None:
            group.append(one)
    return done


def _commit(store: Store, group: Sequence[Wanted], settings: Settings, done: Restored) -> None:
    """Restore one group; a payload that decodes otherwise than it did is left out, and the others are decoded once more."""
    settings = replace(settings, config=group[0].config)
    with store.locked(settings.wait_s):
        while group:
            batch, breakers = begin(store, settings)
            with building(batch):
                decoded, odd = _decode(batch, group, settings)
                odd |= _odd(store, decoded)
                if not odd:
                    figures = _settle(batch, decoded)
                    note = {"restored": [payload.payload_id for payload in decoded], "rows": figures}
                    closing = close(batch, breakers, settings, "repair", note)
            if not odd:
                commit(batch, closing)
                done.payloads += figures
                return
            batch.stager.discard()
            done.left |= odd
            group = [one for one in group if one.found.payload_id not in odd]


def _decode(batch: Batch, group: Sequence[Wanted], settings: Settings) -> tuple[list[Payload], dict[str, str]]:
    """Decode a group; return the payloads, and why some can't be (the batch is not to be committed then)."""
    store, odd = batch.store, dict[str, str]()
    names = [one.found.payload_id for one in group]
    batch.keys.restoring = names
    batch.windows.frozen = True
    walled: dict[str, set[str]] = {}
    query = "SELECT quarantine_id, payload_id, reason, tool FROM lake.main.quarantine_log WHERE list_contains(?, payload_id)"
    spans = store.rows(query, [names])
    for _, payload_id, reason, tool in spans:
        if reason == WALLED and tool:
            walled.setdefault(payload_id, set()).add(tool)
    batch.stored_spans = frozenset(str(row[0]) for row in spans)
    given_up = "SELECT DISTINCT quarantine_id FROM lake.main.quarantine_states WHERE state = 'discarded'"
    batch.discarded = frozenset(row[0] for row in store.rows(given_up))
    for one in group:
        found, delivery = one.found, one.delivery
        payload = Payload(
            len(batch.payloads),
            *(found.payload_id, found.key, found.sha256, found.size, found.source),
            *(delivery.format, delivery.mapping, delivery.tool, delivery.captured),
            kept_out=walled.get(found.payload_id, set()),
        )
        batch.open_payload(payload)
        try:
            intake.read(delivery, payload, batch, settings, lambda tool: stored_dictionary(store, tool))
        except MappingMissing as error:
            batch.drop_payload(payload)
            odd[found.payload_id] = f"mapping: {error}"
    batch.flush()
    # What the payloads taught was learned when they came; they are no payloads of this commit.
    batch.dictionaries.clear()
    batch.layouts.clear()
    decoded, batch.payloads = batch.payloads, []
    return decoded, odd


def _odd(store: Store, decoded: Sequence[Payload]) -> dict[str, str]:
    """Return the payloads that are decoded otherwise today, and how."""
    names = [payload.payload_id for payload in decoded]
    rows = store.rows(f"SELECT payload_id, {', '.join(SAME)} FROM lake.main.payloads WHERE list_contains(?, payload_id)", [names])
    booked = {row[0]: dict(zip(SAME, row[1:], strict=True)) for row in rows}
    odd = {}
    for payload in decoded:
        now, then = payload.account.figures(), booked[payload.payload_id]
        differs = ", ".join(f"{name} {now[name]}, {then[name]} then" for name in SAME if now[name] != then[name])
        if differs:
            odd[payload.payload_id] = f"this software decodes it otherwise ({differs}): 'loadlock reprocess' takes it as it is today"
    return odd


def _settle(batch: Batch, decoded: Sequence[Payload]) -> list[dict[str, Any]]:
    """Let the accounts hold what is stored now: a record that two payloads brought may have been stored for the other one."""
    store = batch.store
    names = [payload.payload_id for payload in decoded]
    counts = "SELECT payload_id, count(*) FROM lake.main.{} WHERE list_contains(?, payload_id) GROUP BY 1"
    stored = {table: dict(store.rows(counts.format(table), [names])) for table in ("traces", "events")}
    accounts = store.arrow("SELECT * FROM lake.main.payloads WHERE list_contains(?, payload_id)", [names]).select(COLUMNS["payloads"])
    rows = accounts.to_pylist()
    changed = []
    account = {payload.payload_id: payload.account for payload in decoded}
    for row in rows:
        name = row["payload_id"]
        now = {
            "samples": stored["traces"].get(name, 0) + account[name].samples,
            "events": stored["events"].get(name, 0) + account[name].events,
        }
        if any(row[figure] != value for figure, value in now.items()):
            changed.append(row | now)
    withdrawal = Withdrawal([], "committed", {tool for payload in decoded for tool in payload.tools})
    if changed:
        withdrawal.accounts = pa.Table.from_pylist(changed, schema=arrow_schema("payloads"))
        withdrawal.rebooked = [row["payload_id"] for row in changed]
    batch.withdrawal = withdrawal
    return [{"payload_id": p.payload_id, "source": p.source, "samples": p.account.samples, "events": p.account.events} for p in decoded]
