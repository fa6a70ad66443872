"""A group: deliveries that are decoded into one batch and share one commit; each ends with a receipt."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import duckdb

from ingest import intake
from ingest.account import Payload
from ingest.batch import Batch
from ingest.circuits import Breakers, microseconds, record
from ingest.closing import Closing
from ingest.errors import MappingMissing, Unreadable, readable
from ingest.intake import Settings
from ingest.judgement import Member, judge, sole_tool
from ingest.receipts import PURGED, Receipt, Summary, first_account
from ingest.recent import Recent
from ingest.sources import Delivery
from storage.circuits import DEPENDENCY, DERIVED, HALF_OPEN, OPEN, TOOL
from storage.errors import CatalogDown, StoreDown
from storage.index import IndexDelta
from storage.kept import keep
from storage.patience import out_of_order, patiently
from storage.points import reached
from storage.store import Change, Store


class _Held(Exception):
    """A circuit is open: the delivery stays where it is."""


class _ReplayFoundLate(Exception):
    """A large payload turned out, when all of it was read, to be known: what it left is discarded."""

    def __init__(self, key: str, sha256: str) -> None:
        self.key = key
        self.sha256 = sha256


class Group:
    """Deliveries that share one commit."""

    def __init__(self, store: Store, settings: Settings, recent: Recent) -> None:
        self._store = store
        self.recent = recent
        self._settings = settings
        self._now_us = microseconds(store.clock())
        self.members: list[Member] = []
        self._batch = self._new_batch()
        self._keys: dict[str, Payload] = {}
        self._closing: Closing | None = None
        self.entry_seq: int | None = None

    def _new_batch(self) -> Batch:
        settings = self._settings
        batch = Batch(self._store, settings.config, settings.new_id(), settings.new_id, settings.stages, self.recent, settings.arena)
        self._breakers = Breakers(self._store.index.circuits(), settings.config.circuit, self._now_us)  # not older than the batch's base
        self._breakers.recover(self._store.index.troubles())
        batch.derived.off = self._breakers.state(DERIVED, DEPENDENCY) == OPEN
        return batch

    def fill(self, items: Iterator[Delivery], pushed: list[Delivery]) -> bool:
        """Decode deliveries until the group is full; return False when there are no more. Nothing is left behind on an error."""
        more = True

        def work() -> None:
            nonlocal more
            if self.members:  # a try before this one failed
                self._again()
            else:
                more = self._fill(items, pushed)
            self.close()

        with self._swept():
            self._steadily(work)
        return more

    def _steadily(self, work: Callable[[], None]) -> None:
        """Do ``work`` at one snapshot; where the catalog fails, open it anew and try again, a bounded number of times."""

        def once() -> None:
            try:
                with self._store.reading():
                    work()
            except duckdb.Error as error:
                if not out_of_order(error):
                    raise
                try:
                    self._store.reconnect()
                except duckdb.Error as again:
                    error = again
                raise duckdb.OperationalError(str(error)) from error
            except sqlite3.OperationalError as error:  # the working index
                raise StoreDown(f"the lake's disk does not take it ({error}); nothing was changed. Run the same command again") from error

        try:
            patiently(once, duckdb.OperationalError)
        except duckdb.OperationalError as error:
            raise CatalogDown(
                f"the lake can't be read ({error}); nothing was changed. Run the same command again; "
                "if that does not help, 'loadlock audit verify' names what is damaged"
            ) from error

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
            member = Member(delivery)
            self.members.append(member)
            self._admit(member)
            size += delivery.size
            if member.payload and self._breakers.state(member.payload.sole or "") == HALF_OPEN:
                return True  # what becomes of this one decides over the next
            if size >= limits.batch_bytes or time.monotonic() - begin >= limits.batch_seconds:
                return True
        return False

    # --- one delivery

    def _admit(self, member: Member) -> None:
        """Decode a delivery into the batch, or settle it: replayed, refused or deferred."""
        try:
            self._decode(member)
        except _Held as error:
            member.receipt = deferred(member.delivery, str(error))
        except Unreadable as error:
            member.held = str(error)
            member.receipt = deferred(member.delivery, str(error))
            if member.payload is not None:  # some of it may have been taken: without it, all over again
                self._again()
        except MappingMissing as error:
            if member.payload is not None:
                self._batch.drop_payload(member.payload)
            member.payload = None
            member.receipt = deferred(member.delivery, f"mapping: {error}")
        except _ReplayFoundLate as late:
            self._batch.stager.discard()
            self._batch = self._new_batch()
            member.payload = None
            self._known(member, late.key, late.sha256)

    def _decode(self, member: Member) -> None:
        delivery, stages = member.delivery, self._settings.stages
        small = delivery.size <= self._settings.config.lake.batch_bytes
        key, sha256 = delivery.key, ""
        if small and delivery.data is None:
            with stages("read"), delivery.open() as file, readable(delivery.source):
                delivery.data = file.read()
                reached("payload_read")
            delivery.size = len(delivery.data)
        # A large payload is read once, and hashed meanwhile, unless its key or its size says that it may be a replay.
        if small or (key and self._store.index.payload(key)) or self._store.index.size_known(delivery.size):
            with stages("hash"):
                sha256 = intake.digest_of(delivery)
            key = key or intake.default_key(delivery, sha256)
            if self._known(member, key, sha256):
                return
        tool = sole_tool(delivery, self._settings.config)
        if tool and not sha256 and self._breakers.names_delivery(tool):
            sha256 = intake.digest_of(delivery)
            key = key or intake.default_key(delivery, sha256)
        if tool and not member.held and self._breakers.state(tool) == OPEN and not self._breakers.forces(tool, sha256):
            member.held = self._breakers.waiting(tool)
        if member.held:
            raise _Held(member.held)
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
            sole=tool,
            kept_out=frozenset() if tool else self._breakers.shut_out(sha256) | member.walled,
        )
        self._batch.open_payload(payload)
        member.payload = payload
        intake.read(delivery, payload, self._batch, self._settings, self._dictionary)
        if not sha256 and self._store.index.payload(payload.key):
            raise _ReplayFoundLate(payload.key, payload.sha256)
        self._keys[payload.key] = payload
        self._batch.replays += delivery.replays

    def _known(self, member: Member, key: str, sha256: str) -> bool:
        """Settle a delivery whose key was used before: the same bytes are replayed, others refused."""
        known, twin = self._store.index.payload(key), self._keys.get(key)
        if known is None and twin is None:
            return False
        same = sha256 == (known.sha256 if known else twin.sha256 if twin else "")
        member.twin = twin
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

    def _dictionary(self, tool: str) -> str | None:
        if tool in self._batch.dictionaries:
            return self._batch.dictionaries[tool]
        return stored_dictionary(self._store, tool)

    # --- the commit

    def settle(self) -> None:
        """Commit what the group holds; if another commit touched the same tools meanwhile, decide anew under the lock."""
        if self._settings.dry_run or not (self._closing or self._breakers.changes()):
            self._batch.stager.discard()
        else:
            with ExitStack() as stack:
                with self._swept():
                    self._keep()
                    stack.enter_context(self._store.locked(self._settings.wait_s))
                    if self._moved():
                        for member in self.members:
                            member.forgive()
                        self._steadily(self._anew)
                        self._keep()
                try:
                    with self._settings.stages("commit"):
                        self._commit()
                except StoreDown:  # before COMMIT: no snapshot names these files
                    self._batch.stager.discard()
                    raise
                finally:
                    self._batch.stager.release()
        if self._closing is None:
            self._record_refusals()

    def _anew(self) -> None:
        self._again()
        self.close()

    def _commit(self) -> None:
        closing = self._closing
        if closing is not None:
            entry = self._store.commit(lambda seq: closing.change(seq, self._store.clock()))
            self.entry_seq = entry.seq
            self.recent = self._batch.recent
            self.recent.revisions |= dict.fromkeys(closing.tools(), entry.seq)
            return
        self._batch.stager.discard()
        if changes := self._breakers.changes():
            left = [{"source": m.receipt.source, "reason": m.receipt.reason} for m in self.members if m.failed and m.receipt]
            body = {"software": self._settings.software, "circuits": self._breakers.story(), "deferred": left}
            record(self._store, changes, body, self._settings.actor)

    def _keep(self) -> None:
        """Keep the delivered bytes in the lake, where the configuration says so."""
        if not self._settings.config.lake.keep_payloads:
            return
        for member in self.members:
            payload = member.payload
            if payload is not None and payload.kept is None:
                with self._settings.stages("keep"), member.delivery.open() as file:
                    payload.kept = keep(self._store.path, payload.sha256, file)

    def defer(self, reason: str) -> None:
        """Give up the group's payloads for now: nothing of them was committed, the same command takes them again."""
        self._closing = None
        for member in self.members:
            member.payload = None
            if member.receipt is None or member.twin is not None:
                member.receipt, member.twin = deferred(member.delivery, reason), None

    def close(self) -> None:
        """Finish the batch as far as it goes without the lock; leave out what is not fit to be committed."""
        settings = self._settings
        self._closing = None
        self._batch.flush()
        while judge(self.members, self._breakers):
            self._again()
            self._batch.flush()
        if any(member.payload for member in self.members):
            self._closing = Closing(
                self._batch,
                actor=settings.actor,
                software=settings.software,
                config_digest=settings.config.digest(),
                refused=[_refusal(m.receipt) for m in self.members if m.receipt and m.receipt.state == "refused"],
                breakers=self._breakers,
            )

    def _moved(self) -> bool:
        index, base = self._store.index, self._batch.base
        if index.head()[2] != base[2] or (self._closing is not None and not self._closing.replaces_current_files()):
            return True
        tools = set(self._closing.tools()) if self._closing else set()
        touched = {(TOOL, tool) for tool in tools} | {(circuit.kind, circuit.tool) for circuit in self._breakers.changes()}
        if any(index.circuit_revision(*circuit) > base[0] for circuit in touched):
            return True
        return any(index.tool_revision(tool) > base[0] for tool in tools) or any(
            index.payload(payload.key) is not None for payload in self._batch.payloads
        )

    def _again(self) -> None:
        """Decode the whole group once more, on the state that the lock now holds still."""
        self._batch.stager.discard()
        self.recent = Recent()
        self._batch = self._new_batch()
        self._keys.clear()
        for member in self.members:
            member.payload = member.receipt = member.twin = None
            self._admit(member)

    def _record_refusals(self) -> None:
        refused = [m.receipt for m in self.members if m.receipt and m.receipt.state == "refused"]
        if not refused or self._settings.dry_run:
            return
        body = {"software": self._settings.software, "refused": [_refusal(receipt) for receipt in refused]}
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
            summary.owed += self._closing.owed
            summary.gaps += self._closing.gaps
        for payload in committed:
            summary.add(payload.account, payload.reasons)
        for member in self.members:
            summary.book(self._receipt(member))
            if member.held and member.receipt and member.receipt.state == "deferred" and not member.delivery.has_place:
                summary.busy = (
                    f"{member.delivery.source}: these bytes have no file to wait in and were not taken; deliver them again. {member.held}"
                )

    def _receipt(self, member: Member) -> Receipt:
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
                receipt.account, purged = first_account(self._store, receipt.payload_id)
                receipt.reason = PURGED if purged else None
        return receipt


def _refusal(receipt: Receipt) -> dict[str, str]:
    """Return what the ledger keeps of a refused delivery."""
    return {"key": receipt.key, "sha256": receipt.sha256, "source": receipt.source}


def stored_dictionary(store: Store, tool: str) -> str | None:
    """Return the newest dictionary of ``tool`` as JSON."""
    return store.index.dictionary(tool)


def deferred(delivery: Delivery, reason: str) -> Receipt:
    """Return the receipt of a delivery that stays where it is: its key is free, nothing of it was committed."""
    return Receipt(
        payload_id=None, key=delivery.key or "", sha256="", source=delivery.source, state="deferred", ledger_seq=None, reason=reason
    )
