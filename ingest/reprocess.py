"""Payloads are decoded anew, with today's code and configuration: a new generation takes the place of the old one in one commit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ingest import intake
from ingest.account import Payload
from ingest.batch import Batch
from ingest.errors import UsageError
from ingest.group import stored_dictionary
from ingest.intake import Settings
from ingest.provenance import Located, locate
from ingest.retract import REPLAY, Found, begin, building, close, commit, find, ordered, repeats, withdrawn
from ingest.sources import Delivery, identify
from storage.kept import keep, kept_path
from storage.store import Store


def reprocess(store: Store, names: Sequence[str], files: Iterable[Path], tool: str | None, settings: Settings) -> dict[str, Any]:
    """Decode the payloads ``names`` anew in one commit and return what was done, as the command prints it.

    Their bytes are looked for in ``files``, at the sources' own paths, and among what the lake keeps. ``tool`` stands for the one that
    they were delivered with. Raises :class:`UsageError` when the bytes of one are not at hand: nothing is changed then.
    """
    files = list(files)
    deliveries = {p.payload_id: delivery_of(store, p, files, tool, settings) for p in find(store, names)}
    with store.locked(settings.wait_s):
        payloads = ordered(store, find(store, names))
        batch, breakers = begin(store, settings)
        with building(batch):
            withdrawal = withdrawn(batch, payloads, "superseded")
            decoded = [_decode(batch, old, deliveries[old.payload_id], settings) for old in payloads]
            pairs = [{"payload_id": new.payload_id, "supersedes": old.payload_id} for new, old in zip(decoded, payloads, strict=True)]
            closing = close(batch, breakers, settings, "reprocess", {"reprocessed": pairs})
            may_miss = repeats(store, payloads)
        entry = commit(batch, closing)
    accounts = [payload.account.figures() for payload in decoded]
    return {
        "schema": 1,
        "ledger_seq": entry.seq,
        "payloads": [pair | {"source": p.source, "account": account} for pair, p, account in zip(pairs, payloads, accounts, strict=True)],
        "promoted": withdrawal.promoted,
        "windows": closing.windows,
        "features": closing.features,
        "repeated_by": [{"payload_id": payload, "source": source} for payload, source in may_miss],
    }


def delivery_of(
    store: Store, payload: Found, files: Sequence[Path], tool: str | None, settings: Settings, *, kept: bool = True
) -> Delivery:
    """Return the payload as it would be delivered today; ``kept``: what the lake keeps of it may serve.

    Raises :class:`UsageError` when its bytes are not at hand, or when it can't be told what they are.
    """
    if payload.source.startswith(REPLAY):
        raise UsageError(f"{payload.payload_id}: a replay of quarantined spans; retract it, then replay them anew")
    located = _located(store, payload, files, kept)
    found = identify(Path(payload.source).absolute(), settings.config, tool=tool or payload.tool, format=payload.format)
    if isinstance(found, str):
        raise UsageError(f"{payload.source}: {found}")
    _, mapping, captured = found
    mapped = mapping is not None and settings.config.tables[mapping].tool is not None
    named = tool or captured.get("tool") or (None if mapped else payload.tool)
    return Delivery(payload.source, None, None, payload.size, payload.format, mapping, named, captured, payload.key, opened=located.open)


def _located(store: Store, payload: Found, files: Sequence[Path], kept: bool) -> Located:
    for given in [*files, None]:
        located = locate(store, payload.sha256, payload.source, given, kept=kept)
        if located is not None:
            return located
    raise UsageError(
        f"payload {payload.payload_id}: its bytes are not at hand: {payload.source} is gone or changed, and the lake keeps no sound copy; "
        f"name the file with --from (SHA-256 {payload.sha256})"
    )


def _decode(batch: Batch, old: Found, delivery: Delivery, settings: Settings) -> Payload:
    new = Payload(
        len(batch.payloads),
        settings.new_id(),
        old.key,
        old.sha256,
        old.size,
        old.source,
        delivery.format,
        delivery.mapping,
        delivery.tool,
        delivery.captured,
    )
    batch.open_payload(new)
    intake.read(delivery, new, batch, settings, lambda tool: batch.dictionaries.get(tool) or stored_dictionary(batch.store, tool))
    if settings.config.lake.keep_payloads or kept_path(batch.store.path, old.sha256).exists():
        with delivery.open() as file:
            new.kept = keep(batch.store.path, old.sha256, file)
    return new
