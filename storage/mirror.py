"""The mirror beside the catalog: an append-only log of every commit, fsynced before the catalog commits it.

``LAKE/mirror`` holds segments ``NNNNNNNN.log``: a preamble (magic, digest of the record before), then records: length, kind, ledger seq,
ledger hash, digest, body. A record's digest is the SHA-256 of the digest before it, its own header and its body, so the log is one chain
and a torn or changed record is found. The newest segment that begins with a base (:mod:`storage.mirrorbase`) is where reading starts.

A record is written before COMMIT, so what was acknowledged is here. The last record may describe a commit that never came to be: the
catalog decides, and whoever takes the writer lock next cuts it off (ADR 9).
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from storage.errors import IntegrityError
from storage.files import fsync_folder
from storage.points import reached

MAGIC = b"LLMIRR1\n"
PREAMBLE = struct.Struct("<8s32s")
HEADER = struct.Struct("<IcQ32s")
DIGEST_BYTES = 32
COMMIT, BASE, BASE_END = b"c", b"b", b"e"
SEGMENT_BYTES = 1 << 20
BASE_AGAIN_BYTES = 64 << 20
"""A new base is written when the log after it outgrows this and twice the base."""

ZERO = bytes(DIGEST_BYTES)


class Record(NamedTuple):
    """One record: its kind, the ledger entry at which it leaves the lake, where it lies, and its compressed body."""

    kind: bytes
    seq: int
    hash: str
    start: int
    stop: int
    digest: bytes
    body: bytes


class Tail(NamedTuple):
    """Where the log ends: the last sound record and the segment's size. ``first``: it is its segment's first record."""

    path: Path
    size: int
    digest: bytes
    seq: int
    hash: str
    kind: bytes
    first: bool


@dataclass(slots=True)
class Scan:
    """The sound records of a segment, and what follows them (``fault``: None when nothing does)."""

    previous: bytes
    records: list[Record]
    stop: int
    fault: str | None


def segments(folder: Path) -> list[Path]:
    """Return the segments in order."""
    return sorted(path for path in folder.glob("*.log") if path.stem.isdigit()) if folder.is_dir() else []


def scan(path: Path) -> Scan:
    """Read a segment as far as its chain holds."""
    data = path.read_bytes()
    if len(data) < PREAMBLE.size:
        return Scan(ZERO, [], 0, "its preamble is torn")
    magic, previous = PREAMBLE.unpack_from(data)
    if magic != MAGIC:
        return Scan(ZERO, [], 0, "it is no segment of a mirror")
    records: list[Record] = []
    at, digest = PREAMBLE.size, previous
    while at < len(data):
        record = _record(data, at, digest)
        if record is None:
            return Scan(previous, records, at, f"the record at byte {at} is torn or changed")
        records.append(record)
        at, digest = record.stop, record.digest
    return Scan(previous, records, at, None)


def _record(data: bytes, at: int, digest: bytes) -> Record | None:
    body_at = at + HEADER.size + DIGEST_BYTES
    if body_at > len(data):
        return None
    length, kind, seq, entry_hash = HEADER.unpack_from(data, at)
    stop = body_at + length
    body = data[body_at:stop]
    if stop > len(data) or data[at + HEADER.size : body_at] != _digest(digest, data[at : at + HEADER.size], body):
        return None
    return Record(kind, seq, entry_hash.hex(), at, stop, data[at + HEADER.size : body_at], body)


def _digest(previous: bytes, header: bytes, body: bytes) -> bytes:
    return hashlib.sha256(previous + header + body).digest()


def frame(previous: bytes, kind: bytes, seq: int, entry_hash: str, body: bytes) -> tuple[bytes, bytes]:
    """Return (bytes of the record, its digest)."""
    header = HEADER.pack(len(body), kind, seq, bytes.fromhex(entry_hash))
    digest = _digest(previous, header, body)
    return header + digest + body, digest


class Mirror:
    """The log of one lake; whoever changes it holds the writer lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tail: Tail | None = None

    def settle(self, seq: int, entry_hash: str, acknowledged: tuple[int, str]) -> bool:
        """Bring the log to the catalog's head: cut off what was not committed; return False when a new base is owed.

        ``acknowledged``: (seq, hash) of an entry that is known to have been committed. Raises :class:`IntegrityError` when the catalog
        lacks entries that the log holds.
        """
        tail = self._find_tail()
        if tail is not None and tail.seq == seq + 1 and tail.kind == COMMIT and (tail.seq, tail.hash) != acknowledged:
            self._drop_last()
            tail = self.tail
        if tail is None or tail.seq < seq:
            return False
        if (tail.seq, tail.hash) != (seq, entry_hash):
            raise IntegrityError(
                f"{self.folder}: the mirror ends with ledger entry {tail.seq} ({tail.hash[:16]}...), the catalog with {seq} "
                f"({entry_hash[:16]}...): entries that were committed are missing from the catalog, or it is another one. Put the right "
                "catalog back, or move catalog.sqlite* away and run 'loadlock restore --from-mirror'"
            )
        return not self._outgrown()

    def _outgrown(self) -> bool:
        sizes = [path.stat().st_size for path in segments(self.folder)]
        return sum(sizes[1:]) > max(BASE_AGAIN_BYTES, 2 * sizes[0])

    def _find_tail(self) -> Tail | None:
        """Return the last sound record, from memory while nobody else wrote; a torn end is cut off."""
        for path in reversed(segments(self.folder)):
            if self.tail is not None and self.tail.path == path and self.tail.size == path.stat().st_size:
                return self.tail
            found = scan(path)
            if found.records and found.records[-1].kind != BASE:
                if found.fault:
                    self._cut(path, found.stop)
                last = found.records[-1]
                self.tail = Tail(path, found.stop, last.digest, last.seq, last.hash, last.kind, len(found.records) == 1)
                return self.tail
            if found.records:
                break  # a damaged base: everything is owed again
            self._remove(path)
        self.tail = None
        return None

    def _drop_last(self) -> None:
        """Cut off the last record: its commit never came to be."""
        tail = self.tail
        assert tail is not None
        if tail.first:
            self._remove(tail.path)
        else:
            self._cut(tail.path, scan(tail.path).records[-1].start)
        self.tail = None
        self._find_tail()

    def _cut(self, path: Path, size: int) -> None:
        with open(path, "r+b") as file:
            file.truncate(size)
            os.fsync(file.fileno())
        reached("mirror_cut")

    def _remove(self, path: Path) -> None:
        path.unlink()
        fsync_folder(self.folder)
        reached("segment_removed")

    def append(self, seq: int, entry_hash: str, body: bytes, on_step: Callable[[str], None]) -> None:
        """Add the record of ledger entry ``seq`` and make it durable; one that is there already (a second try) stays."""
        tail = self.tail
        assert tail is not None, "the mirror is settled when the lock is taken"
        if (tail.seq, tail.hash) == (seq, entry_hash):
            return
        if tail.seq == seq:
            self._drop_last()
            tail = self.tail
        assert tail is not None
        assert tail.seq == seq - 1, "the mirror holds every entry before this one"
        data, digest = frame(tail.digest, COMMIT, seq, entry_hash, body)
        fresh = tail.size + len(data) > SEGMENT_BYTES
        path = tail.path.with_name(f"{int(tail.path.stem) + 1:08d}.log") if fresh else tail.path
        size = PREAMBLE.size if fresh else tail.size
        with open(path, "wb" if fresh else "r+b") as file:
            reached("segment_opened")
            if fresh:
                file.write(PREAMBLE.pack(MAGIC, tail.digest))
            file.seek(size)
            file.write(data)
            file.flush()
            on_step("mirror_written")
            os.fsync(file.fileno())
        if fresh:
            fsync_folder(self.folder)
            reached("segment_durable")
        on_step("mirror_synced")
        self.tail = Tail(path, size + len(data), digest, seq, entry_hash, COMMIT, fresh)

    def start_again(self, seq: int, entry_hash: str, bodies: Iterable[bytes], last: bytes) -> None:
        """Write a base of ``bodies`` that ends with ``last``, whole or not at all, and let go of the segments before it."""
        self.folder.mkdir(exist_ok=True)
        fsync_folder(self.folder.parent)
        old = segments(self.folder)
        number = int(old[-1].stem) + 1 if old else 1
        path = self.folder / f"{number:08d}.log"
        temporary = path.with_suffix(".tmp")
        with open(temporary, "wb") as file:
            reached("base_opened")
            file.write(PREAMBLE.pack(MAGIC, ZERO))
            digest = ZERO
            for body in bodies:
                data, digest = frame(digest, BASE, seq, entry_hash, body)
                file.write(data)
            data, digest = frame(digest, BASE_END, seq, entry_hash, last)
            file.write(data)
            file.flush()
            reached("base_written", temporary)
            os.fsync(file.fileno())
        reached("base_synced")
        os.rename(temporary, path)
        reached("base_renamed")
        fsync_folder(self.folder)
        reached("base_durable")
        for stale in [*old, *self.folder.glob("*.tmp")]:
            stale.unlink()
            reached("segment_removed")
        self.tail = Tail(path, path.stat().st_size, digest, seq, entry_hash, BASE_END, first=False)


def read(folder: Path) -> tuple[list[Record], list[str]]:
    """Return the records from the newest whole base on, as far as the chain holds, and what is wrong with the log."""
    found = [(path, scan(path)) for path in segments(folder)]
    faults = [f"mirror/{path.name}: {part.fault}" for path, part in found if part.fault]
    starts = [i for i, (_, part) in enumerate(found) if part.records and part.records[0].kind == BASE]
    if not starts:
        return [], [*faults, "mirror: it holds no base; 'loadlock restore --from-mirror' can't work until the next commit writes one"]
    records: list[Record] = []
    digest = ZERO
    for path, part in found[starts[-1] :]:
        if part.previous != digest:
            faults.append(f"mirror/{path.name}: it does not follow the segment before it")
            break
        records += part.records
        if part.fault or not part.records:
            break
        digest = part.records[-1].digest
    if not any(record.kind == BASE_END for record in records):
        return [], [*faults, "mirror: its base is not whole"]
    return records, faults
