"""The story of a batch, top-down.

1. Deliveries are gathered into a group (:mod:`ingest.group`): up to 64 MiB or two seconds, one commit.
2. Each is read, unpacked, hashed and decoded in chunks (:mod:`ingest.intake`, :mod:`ingest.formats`); a known key is replayed or refused,
   and what comes from a tool whose circuit is open is deferred (:mod:`ingest.circuits`).
3. What was decoded waits in a segment (:mod:`ingest.segment`); when it is full it is decided over (:mod:`ingest.keys`,
   :mod:`ingest.eventbook`, :mod:`ingest.windowbook`) and written as sorted rows (:mod:`ingest.batch`, :mod:`ingest.tracefile`).
4. What is mostly rubbish is left out (:mod:`ingest.judgement`), and the others are decoded anew. Then the batch is closed
   (:mod:`ingest.closing`): final windows, rows that moved (:mod:`ingest.reassign`), features (:mod:`ingest.derived`), gaps, accounts.
5. Under the writer lock it is committed once (:class:`storage.store.Store`); if another commit touched the same tools meanwhile, it is
   decided anew first.
6. The receipts go out.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from ingest import derived
from ingest.circuits import note_down
from ingest.config import Config
from ingest.group import Group, deferred
from ingest.intake import Settings
from ingest.receipts import Summary
from ingest.recent import Recent
from ingest.sources import Delivery, Skipped
from storage.errors import Busy
from storage.index import IndexDelta
from storage.schema import rows_table
from storage.store import Change, Store


def ingest(store: Store, found: Iterable[Delivery | Skipped], settings: Settings) -> Summary:
    """Ingest all of ``found`` into ``store``, group by group, and return the summary."""
    with store.held_open():
        return _ingest(store, found, settings)


def _ingest(store: Store, found: Iterable[Delivery | Skipped], settings: Settings) -> Summary:
    begin = time.monotonic()
    summary = Summary()
    pushed: list[Delivery] = []
    items = _skip(iter(found), pushed, summary)
    try:
        store.ensure_index(settings.wait_s)
        if not settings.dry_run:
            derived.make_up(store, settings)
        more, recent = True, Recent()
        while more:
            group = Group(store, settings, recent)
            try:
                more = group.fill(items, pushed)
                group.settle()
            except Busy as error:
                group.defer(f"busy: {error}")
                group.report(summary)
                raise
            group.report(summary)
            recent = group.recent
    except Busy as error:
        summary.busy = str(error)
        note_down(store, error, settings)
        for delivery in items:
            summary.book(deferred(delivery, f"busy: {error}"))
    summary.seconds = round(time.monotonic() - begin, 6)
    return summary


def _skip(waiting: Iterator[Delivery | Skipped], pushed: list[Delivery], summary: Summary) -> Iterator[Delivery]:
    while True:
        if pushed:
            yield pushed.pop()
            continue
        item = next(waiting, None)
        if item is None:
            return
        if isinstance(item, Skipped):
            summary.payloads["skipped"] += 1
            summary.skipped.append(f"{item.source}: {item.reason}")
            if item.named:
                summary.named_skipped = True
            continue
        yield item


def settle_config(store: Store, given: Config | None, actor: str, software: str, wait_s: float, *, dry_run: bool = False) -> Config:
    """Return the configuration to use: ``given``, which the lake then keeps by digest, else the last one that it keeps."""
    newest = "SELECT digest, body FROM lake.main.configs ORDER BY revision DESC LIMIT 1"
    rows = store.rows(newest)
    if given is None:
        return Config.model_validate_json(rows[0][1]) if rows else Config()
    digest = given.digest()
    if dry_run or (rows and rows[0][0] == digest):
        return given
    with store.locked(wait_s):
        rows = store.rows(newest)
        if rows and rows[0][0] == digest:  # another process gave the same one while this one waited
            return given
        store.commit(
            lambda seq: Change(
                "configure",
                actor,
                "",
                {"software": software, "config_digest": digest},
                IndexDelta(0, ""),
                rows={"configs": rows_table("configs", [(digest, given.canonical(), seq)])},
            )
        )
    return given
