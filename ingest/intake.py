"""Intake: one delivery is read, unpacked, hashed and decoded into a batch, in bounded chunks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol, TypeVar

import numpy as np

from ingest.account import Payload
from ingest.batch import Batch
from ingest.config import Config
from ingest.errors import readable
from ingest.formats.registry import Opened, open_decoder
from ingest.records import Decoded
from ingest.segment import Arena
from ingest.sources import Delivery
from ingest.timing import Stages
from ingest.unpack import Unpacked
from storage.files import sha256_of
from storage.ledger import canonical
from storage.points import reached

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
    arena: Arena = field(default_factory=Arena)


def read(delivery: Delivery, payload: Payload, batch: Batch, settings: Settings, dictionary: Callable[[str], str | None]) -> None:
    """Decode ``delivery`` into ``batch`` as ``payload``, and complete its digest and key if it was not hashed before.

    ``dictionary`` gives what is known of a tool's names. Raises :class:`ingest.errors.MappingMissing` before anything is taken.
    """
    stages = settings.stages
    opened = open_decoder(delivery, settings.config, dictionary, payload.kept_out)
    digest = None if payload.sha256 else hashlib.sha256()
    unpacked = Unpacked()
    with delivery.open() as file:
        for data in _stage(unpacked.read(_Hashing(delivery.source, file, digest)), stages, "read"):
            for decoded in _stage(opened.decoder.feed(data), stages, "decode"):
                _describe(payload, opened, decoded)
                batch.take(payload, decoded)
            del data
            if settings.progress:
                settings.progress(batch, file.tell())
    for decoded in _stage(opened.decoder.finish(), stages, "decode"):
        _describe(payload, opened, decoded)
        batch.take(payload, decoded)
    payload.account.bytes_in = unpacked.size
    if unpacked.damage is not None:
        payload.account.bytes_in = unpacked.damage.stop
        payload.dialect = None  # these bytes are no rows
        nothing = np.empty(0, np.int64)
        batch.take(payload, Decoded(nothing, nothing, None, None, [unpacked.damage], 0, 0))
    learned = opened.dictionary()
    if learned is not None and delivery.tool:
        batch.dictionaries[delivery.tool] = learned
    if digest is not None:
        payload.sha256 = digest.hexdigest()
        payload.key = payload.key or default_key(delivery, payload.sha256)


def _describe(payload: Payload, opened: Opened, decoded: Decoded) -> None:
    """Keep beside the first rejected row what its decoder settled about the file."""
    if decoded.rejected and payload.dialect is None:
        settled = opened.dialect()
        payload.dialect = None if settled is None else canonical(settled)


def digest_of(delivery: Delivery) -> str:
    """Return the SHA-256 of the delivered bytes."""
    if delivery.data is not None:
        return hashlib.sha256(delivery.data).hexdigest()
    assert delivery.path is not None
    with readable(delivery.source):
        return sha256_of(delivery.path)


def default_key(delivery: Delivery, sha256: str) -> str:
    """Return the idempotency key of a delivery that came without one: its bytes, and what they were taken for."""
    parts = {"sha256": sha256, "tool": delivery.tool, "format": delivery.format, "table": delivery.mapping, "captured": delivery.captured}
    return hashlib.sha256(canonical(parts).encode()).hexdigest()


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...


class _Hashing:
    """A binary file that is hashed while it is read."""

    def __init__(self, source: str, file: BinaryIO, digest: _Digest | None) -> None:
        self._source = source
        self._file = file
        self._digest = digest

    def read(self, size: int = -1) -> bytes:
        with readable(self._source):
            data = self._file.read(size)
            reached("payload_read")
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
        del item  # a chunk is large: let it go before the next one is read
