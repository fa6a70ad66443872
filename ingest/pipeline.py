"""The story of a batch: deliveries are read, decoded, decided over, written and committed once; each gets its receipt."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol, TypeVar

import numpy as np

from ingest.account import Payload
from ingest.batch import Batch
from ingest.closing import Closing
from ingest.config import Config
from ingest.errors import MappingMissing
from ingest.formats.registry import Opened, open_decoder
from ingest.receipts import Receipt, Summary
from ingest.recent import Recent
from ingest.records import Decoded, Rejected
from ingest.sources import Delivery, Skipped
from ingest.timing import Stages
from ingest.unpack import Unpacked
from storage.errors import Busy
from storage.files import sha256_of
from storage.index import IndexDelta, KnownPayload
from storage.ledger import canonical
from storage.schema import ACCOUNT, rows_table
from storage.store import Change, Store

Item = TypeVar("Item")
Progress = Callable[["Batch", int], None]
"""Called while a batch is decoded, with the compressed bytes read so far."""


@dataclass(slots=True)
class Settings:
    """Who ingests with what, and for how long it waits for the writer lock. ``new_id`` names batches, payloads and files."""

    config: Config
    actor: str
    software: str
    new_id: Callable[[], str]
    wait_s: float = 600.0
    dry_run: bool = False
    progress: Progress | None = None
    stages: Stages = field(default_factory=Stages)


@dataclass(slots=True)
class _Member:
    """A delivery of the group at hand, and what it came to."""

    delivery: Delivery
    payload: Payload | None = None
    receipt: Receipt | None = None
    replays: KnownPayload | None = None
    twin: Payload | None = None


class _ReplayFoundLate(Exception):
    """A large payload turned out, when all of it was read, to be known: what it left is discarded."""

    def __init__(self, key: str, sha256: str) -> None:
        self.key = key
        self.sha256 = sha256


def ingest(store: Store, found: Iterable[Delivery | Skipped], settings: Settings) -> Summary:
    """Ingest all of ``found`` into ``store``, group by group, and return the summary."""
    begin = time.monotonic()
    summary = Summary()
    pushed: list[Delivery] = []
    items = _skip(iter(found), pushed, summary)
    try:
        store.ensure_index(settings.wait_s)
        more, recent = True, Recent()
        while more:
            group = _Group(store, settings, recent)
            more = group.fill(items, pushed)
            if group.members:
                try:
                    group.settle()
                except Busy as error:
                    group.defer(f"busy: {error}")
                    group.report(summary)
                    raise
                group.report(summary)
            recent = group.recent
    except Busy as error:
        summary.busy = str(error)
        for delivery in items:
            summary.book(_deferred(delivery, f"busy: {error}"))
    summary.seconds = round(time.monotonic() - begin, 6)
    return summary


def _deferred(delivery: Delivery, reason: str) -> Receipt:
    return Receipt(
        payload_id=None, key=delivery.key or "", sha256="", source=delivery.source, state="deferred", ledger_seq=None, reason=reason
    )


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


class _Group:
    """Deliveries that share one commit."""

    def __init__(self, store: Store, settings: Settings, recent: Recent) -> None:
        self._store = store
        self.recent = recent
        self._settings = settings
        self.members: list[_Member] = []
        self._batch = self._new_batch()
        self._keys: dict[str, Payload] = {}
        self._closing: Closing | None = None
        self.entry_seq: int | None = None

    def _new_batch(self) -> Batch:
        settings = self._settings
        return Batch(self._store, settings.config, settings.new_id(), settings.new_id, settings.stages, self.recent)

    def fill(self, items: Iterator[Delivery], pushed: list[Delivery]) -> bool:
        """Decode deliveries until the group is full; return False when there are no more. Nothing is left behind on an error."""
        with self._swept(), self._store.reading():
            more = self._fill(items, pushed)
            self.close()
        return more

    @contextmanager
    def _swept(self) -> Iterator[None]:
        """Remove what was staged if the work is broken off, by an error or by the user."""
        try:
            yield
        except BaseException:
            self._batch.stager.discard()
            raise

    def _fill(self, items: Iterator[Delivery], pushed: list[Delivery]) -> bool:
        limits = self._settings.config.lake
        begin, size = time.monotonic(), 0
        for delivery in items:
            if self.members and size + delivery.size > limits.batch_bytes:
                pushed.append(delivery)
                return True
            member = _Member(delivery)
            self.members.append(member)
            self._admit(member)
            size += delivery.size
            if size >= limits.batch_bytes or time.monotonic() - begin >= limits.batch_seconds:
                return True
        return False

    # --- one delivery

    def _admit(self, member: _Member) -> None:
        """Decode a delivery into the batch, or settle it: replayed, refused or deferred."""
        try:
            self._decode(member)
        except MappingMissing as error:
            if member.payload is not None:
                self._batch.drop_payload(member.payload)
            member.payload = None
            member.receipt = _deferred(member.delivery, f"mapping: {error}")
        except _ReplayFoundLate as late:
            self._batch.stager.discard()
            self._batch = self._new_batch()
            member.payload = None
            self._known(member, late.key, late.sha256)

    def _decode(self, member: _Member) -> None:
        delivery, stages = member.delivery, self._settings.stages
        small = delivery.size <= self._settings.config.lake.batch_bytes
        key, sha256 = delivery.key, ""
        if small and delivery.data is None:
            with stages("read"), delivery.open() as file:
                delivery.data = file.read()
            delivery.size = len(delivery.data)
        # A large payload is read once, and hashed meanwhile, unless its key or its size says that it may be a replay.
        if small or (key and self._store.index.payload(key)) or self._store.index.size_known(delivery.size):
            with stages("hash"):
                sha256 = _sha256(delivery)
            key = key or default_key(delivery, sha256)
            if self._known(member, key, sha256):
                return
        payload = Payload(
            len(self._batch.payloads),
            self._settings.new_id(),
            key or "",
            sha256,
            delivery.size,
            delivery.source,
            delivery.format,
            delivery.mapping,
            delivery.tool,
            delivery.captured,
        )
        self._batch.open_payload(payload)
        member.payload = payload
        self._feed(delivery, payload)
        self._keys[payload.key] = payload
        self._batch.replays += delivery.replays

    def _known(self, member: _Member, key: str, sha256: str) -> bool:
        """Settle a delivery whose key was used before: the same bytes are replayed, others refused."""
        known, twin = self._store.index.payload(key), self._keys.get(key)
        if known is None and twin is None:
            return False
        same = sha256 == (known.sha256 if known else twin.sha256 if twin else "")
        member.replays, member.twin = known, twin
        member.receipt = Receipt(
            payload_id=known.payload_id if known else twin.payload_id if twin else None,
            key=key,
            sha256=sha256,
            source=member.delivery.source,
            state="replayed" if same else "refused",
            ledger_seq=known.ledger_seq if known else None,
            reason=None if same else "this idempotency key was used before with other bytes; deliver them under a key of their own",
        )
        return True

    def _feed(self, delivery: Delivery, payload: Payload) -> None:
        batch, stages = self._batch, self._settings.stages
        opened = open_decoder(delivery, self._settings.config, self._dictionary)
        digest = None if payload.sha256 else hashlib.sha256()
        unpacked = Unpacked()
        with delivery.open() as file:
            for data in _stage(unpacked.read(_Hashing(file, digest)), stages, "read"):
                for decoded in _stage(opened.decoder.feed(data), stages, "decode"):
                    _describe(payload, opened, decoded)
                    batch.take(payload, decoded)
                if self._settings.progress:
                    self._settings.progress(batch, file.tell())
        for decoded in _stage(opened.decoder.finish(), stages, "decode"):
            _describe(payload, opened, decoded)
            batch.take(payload, decoded)
        payload.account.bytes_in = unpacked.size
        if unpacked.damage is not None:
            self._damaged(payload, unpacked.damage)
        learned = opened.dictionary()
        if learned is not None and delivery.tool:
            batch.dictionaries[delivery.tool] = learned
        if digest is not None:
            payload.sha256 = digest.hexdigest()
            payload.key = payload.key or default_key(delivery, payload.sha256)
            if self._store.index.payload(payload.key):
                raise _ReplayFoundLate(payload.key, payload.sha256)

    def _damaged(self, payload: Payload, damage: Rejected) -> None:
        payload.account.bytes_in = damage.stop
        payload.dialect = None  # these bytes are no rows
        empty = np.empty(0, np.int64)
        self._batch.take(payload, Decoded(empty, empty, None, None, [damage], 0, 0))

    def _dictionary(self, tool: str) -> str | None:
        if tool in self._batch.dictionaries:
            return self._batch.dictionaries[tool]
        return stored_dictionary(self._store, tool)

    # --- the commit

    def settle(self) -> None:
        """Commit what the group holds; if another commit touched the same tools meanwhile, decide anew under the lock."""
        if self._closing is None:
            self._batch.stager.discard()
            self._record_refusals()
            return
        if self._settings.dry_run:
            self._batch.stager.discard()
            return
        with ExitStack() as stack:
            with self._swept():
                stack.enter_context(self._store.locked(self._settings.wait_s))
                if self._moved(self._closing):
                    with self._store.reading():
                        self._again()
                        self.close()
            closing = self._closing
            if closing is None:
                return
            with self._settings.stages("commit"):
                entry = self._store.commit(lambda seq: closing.change(seq, self._store.clock()))
            self.entry_seq = entry.seq
            self.recent = self._batch.recent
            self.recent.revisions |= dict.fromkeys(closing.tools(), entry.seq)

    def defer(self, reason: str) -> None:
        """Give up the group's payloads for now: nothing of them was committed, the same command takes them again."""
        self._closing = None
        for member in self.members:
            member.payload = None
            if member.receipt is None or member.twin is not None:
                member.receipt, member.twin = _deferred(member.delivery, reason), None

    def close(self) -> None:
        """Finish the batch as far as it goes without the lock."""
        settings = self._settings
        self._closing = None
        if any(member.payload for member in self.members):
            self._closing = Closing(self._batch, actor=settings.actor, software=settings.software, config_digest=settings.config.digest())

    def _moved(self, closing: Closing) -> bool:
        index, base = self._store.index, self._batch.base
        if index.head()[2] != base[2]:
            return True
        return any(index.tool_revision(tool) > base[0] for tool in closing.tools()) or any(
            index.payload(payload.key) is not None for payload in self._batch.payloads
        )

    def _again(self) -> None:
        """Decode the whole group once more, on the state that the lock now holds still."""
        self._batch.stager.discard()
        self.recent = Recent()
        self._batch = self._new_batch()
        self._keys.clear()
        for member in self.members:
            member.payload = member.receipt = member.replays = member.twin = None
            self._admit(member)

    def _record_refusals(self) -> None:
        refused = [m.receipt for m in self.members if m.receipt and m.receipt.state == "refused"]
        if not refused or self._settings.dry_run:
            return
        body = {"software": self._settings.software, "refused": [{"key": r.key, "sha256": r.sha256, "source": r.source} for r in refused]}
        with self._store.locked(self._settings.wait_s):
            self._store.commit(lambda _seq: Change("refuse", self._settings.actor, "", body, IndexDelta(0, "")))

    # --- the answer

    def report(self, summary: Summary) -> None:
        """Enter the group's receipts and figures in ``summary``."""
        committed = [member.payload for member in self.members if member.payload]
        if committed and self._closing is not None:
            if self.entry_seq is not None:
                summary.batches.append(self._batch.batch_id)
            summary.windows += self._closing.windows
            summary.features += self._closing.features
            summary.gaps += self._closing.gaps
        for payload in committed:
            summary.add(payload.account)
        for member in self.members:
            summary.book(self._receipt(member))

    def _receipt(self, member: _Member) -> Receipt:
        payload = member.payload
        if payload is not None:
            return Receipt(
                payload_id=payload.payload_id,
                key=payload.key,
                sha256=payload.sha256,
                source=payload.source,
                state="committed",
                ledger_seq=self.entry_seq,
                account=payload.account.figures(),
            )
        receipt = member.receipt
        assert receipt is not None
        if receipt.state == "replayed":
            if member.twin is not None:
                receipt.ledger_seq, receipt.account = self.entry_seq, member.twin.account.figures()
            else:
                receipt.account = first_account(self._store, receipt.payload_id)
        return receipt


def _describe(payload: Payload, opened: Opened, decoded: Decoded) -> None:
    """Keep beside the first rejected row what its decoder settled about the file."""
    if decoded.rejected and payload.dialect is None:
        settled = opened.dialect()
        payload.dialect = None if settled is None else canonical(settled)


def stored_dictionary(store: Store, tool: str) -> str | None:
    """Return the newest dictionary of ``tool`` as JSON."""
    return store.index.dictionary(tool)


def first_account(store: Store, payload_id: str | None) -> dict[str, int] | None:
    """Return the figures with which a payload was committed."""
    rows = store.rows(f"SELECT {', '.join(ACCOUNT)} FROM lake.main.payloads WHERE payload_id = ?", [payload_id])
    return dict(zip(ACCOUNT, rows[0], strict=True)) if rows else None


def _sha256(delivery: Delivery) -> str:
    if delivery.data is not None:
        return hashlib.sha256(delivery.data).hexdigest()
    assert delivery.path is not None
    return sha256_of(delivery.path)


def default_key(delivery: Delivery, sha256: str) -> str:
    """Return the idempotency key of a delivery that came without one: its bytes, and what they were taken for."""
    parts = {"sha256": sha256, "tool": delivery.tool, "format": delivery.format, "table": delivery.mapping, "captured": delivery.captured}
    return hashlib.sha256(canonical(parts).encode()).hexdigest()


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...


class _Hashing:
    """A binary file that is hashed while it is read."""

    def __init__(self, file: BinaryIO, digest: _Digest | None) -> None:
        self._file = file
        self._digest = digest

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        if self._digest is not None:
            self._digest.update(data)
        return data


def _stage(items: Iterable[Item], stages: Stages, name: str) -> Iterator[Item]:
    """Yield ``items``, counting the CPU time of making each under ``name``."""
    iterator = iter(items)
    while True:
        with stages(name):
            item = next(iterator, None)
        if item is None:
            return
        yield item


def settle_config(store: Store, given: Config | None, actor: str, software: str, wait_s: float, *, dry_run: bool = False) -> Config:
    """Return the configuration to use: ``given``, which the lake then keeps by digest, else the last one that it keeps."""
    rows = store.rows("SELECT digest, body FROM lake.main.configs ORDER BY revision DESC LIMIT 1")
    if given is None:
        return Config.model_validate_json(rows[0][1]) if rows else Config()
    digest = given.digest()
    if dry_run or (rows and rows[0][0] == digest):
        return given
    with store.locked(wait_s):
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
