"""Reads deliveries in bounded chunks, through ``.zst`` and ``.gz``; what can't be unpacked is one span, never an exception."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from ingest.records import Rejected
from storage.zstd import zstd

CHUNK_BYTES = 24 << 20
"""What is decoded at a time. From 32 MiB on malloc asks the kernel for fresh pages each time, which costs a tenth of an ingest."""

INPUT_BYTES = 1 << 12
"""Compressed bytes per step: what a damaged step would still have given is lost, so steps are small."""

WINDOW_LOG_MAX = 27
"""128 MiB: what a zstd stream may ask to be held of it (``zstd --long`` asks for so much)."""

MAGIC = {b"\x28\xb5\x2f\xfd": "zstd", b"\x1f\x8b": "gzip"}


class Readable(Protocol):
    """What is read from: a binary file, or one that is hashed meanwhile."""

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes."""


class _Unpacker(Protocol):
    def decompress(self, data: bytes) -> bytes: ...
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...


def _new(kind: str) -> _Unpacker:
    if kind == "zstd":
        return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: WINDOW_LOG_MAX})
    return zlib.decompressobj(wbits=31)


def compression_of(head: bytes) -> str | None:
    """Return zstd, gzip or None by the first bytes."""
    return next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), None)


@dataclass(slots=True)
class Unpacked:
    """The state of reading one delivery; ``size`` counts decompressed bytes so far."""

    size: int = 0
    damage: Rejected | None = None

    def read(self, file: Readable) -> Iterator[bytes]:
        """Yield the payload's bytes in chunks of about 24 MiB; afterwards ``damage`` holds what could not be unpacked."""
        head = file.read(CHUNK_BYTES)
        kind = compression_of(head)
        if kind is None:
            while head:
                self.size += len(head)
                yield head
                head = b""
                head = file.read(CHUNK_BYTES)
            return
        yield from self._unpack(kind, head, file)

    def _unpack(self, kind: str, head: bytes, file: Readable) -> Iterator[bytes]:
        unpacker = _new(kind)
        waiting: list[bytes] = []
        held = 0
        data, fresh = head, False
        while data:
            for a in range(0, len(data), INPUT_BYTES):
                piece = data[a : a + INPUT_BYTES]
                try:
                    while piece:
                        if unpacker.eof:
                            unpacker = _new(kind)
                        out = unpacker.decompress(piece)
                        fresh = not unpacker.eof
                        piece = unpacker.unused_data if unpacker.eof else b""
                        waiting.append(out)
                        held += len(out)
                except (zlib.error, zstd.ZstdError) as error:
                    self.size += held
                    yield b"".join(waiting)
                    rest = data[a:] + file.read()
                    self.damage = Rejected(self.size, self.size + len(rest), "bad_compression", f"{kind} stream is damaged: {error}", rest)
                    return
                if held >= CHUNK_BYTES:
                    self.size += held
                    out = b"".join(waiting)
                    waiting, held = [], 0
                    yield out
                    out = b""
            data = file.read(CHUNK_BYTES)
        self.size += held
        yield b"".join(waiting)
        if fresh:
            self.damage = Rejected(self.size, self.size, "bad_compression", f"{kind} stream ends before its end", b"")
