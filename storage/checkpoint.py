"""A checkpoint: the ledger's head, signed and kept elsewhere; later it proves that the ledger still begins with the same entries.

The proof is the head's hash. Marks (the first half of the hashes of every ``step``-th entry) say where a ledger that was sealed anew
departs from the one that was signed: the very entry up to 4,096 entries, a stretch of ``step`` beyond.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from storage import signing
from storage.errors import IntegrityError, LoadlockError
from storage.ledger import Entry, check_chain

DOMAIN = "checkpoint"
MOST_MARKS = 4096
MARK_DIGITS = 32
SIGNED = ("lake", "seq", "hash", "time", "step", "marks", "key")


class BadCheckpoint(LoadlockError):
    """The file is no checkpoint."""

    exit_code = 2


def make(entries: Sequence[Entry], key: Path, now: datetime) -> dict[str, Any]:
    """Return a signed checkpoint of the ledger's head; a ledger whose chain is broken is not signed."""
    faults = check_chain(entries)
    if faults or not entries:
        raise IntegrityError(f"the ledger is not sound, so its head is not signed: {'; '.join(faults[:3]) or 'it is empty'}")
    private = signing.read_private(key)
    step = 1
    while len(entries) // step > MOST_MARKS:
        step *= 2
    document = {
        "lake": entries[0].hash,
        "seq": entries[-1].seq,
        "hash": entries[-1].hash,
        "time": now.isoformat(timespec="microseconds") + "Z",
        "step": step,
        "marks": [entry.hash[:MARK_DIGITS] for entry in entries if entry.seq % step == 0],
        "key": signing.public_of(private),
    }
    return {"schema": 1, **document, "signature": signing.sign(private, DOMAIN, document)}


def read(path: Path) -> dict[str, Any]:
    """Return the checkpoint in the file at ``path``."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadCheckpoint(f"{path}: {error.strerror}; name a file that 'loadlock audit checkpoint' wrote") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise IntegrityError(f"{path}: no longer a checkpoint ({error}); take another copy") from error
    if not isinstance(document, dict) or set(document) != {"schema", *SIGNED, "signature"} or document["schema"] != 1:
        raise BadCheckpoint(f"{path}: not a checkpoint, or changed since; 'loadlock audit checkpoint' writes one")
    return document


def check(document: dict[str, Any], entries: Sequence[Entry], signer: str | None = None) -> list[str]:
    """Return why today's ``entries`` do not extend the checkpoint; empty when they do. ``signer``: the only key to be believed."""
    signed = {name: document[name] for name in SIGNED}
    if signer is not None and signed["key"] != signer:
        return [f"checkpoint: signed by {signed['key']}, not by {signer}"]
    if not signing.signed_by(signed["key"], DOMAIN, signed, document["signature"]):
        return ["checkpoint: its signature does not match; the file was changed after it was signed"]
    if not entries:
        return ["checkpoint: the ledger is empty"]
    seq, head = signed["seq"], signed["hash"]
    actual = {entry.seq: entry.hash for entry in entries}
    if actual.get(1, signed["lake"]) != signed["lake"]:
        return ["ledger entry 1: not the one that the checkpoint begins with; this is another lake, or a ledger sealed anew from its start"]
    faults = []
    last = max(actual)
    if last < seq:
        faults.append(f"ledger entries {last + 1} to {seq} are missing: the checkpoint of {signed['time']} was made at entry {seq}")
    if actual.get(seq, head) != head or _departs(signed, actual):
        faults.append(_where(signed, actual))
    return faults


def _marks(signed: dict[str, Any]) -> dict[int, str]:
    step = signed["step"]
    return {step * (i + 1): mark for i, mark in enumerate(signed["marks"])}


def _departs(signed: dict[str, Any], actual: dict[int, str]) -> bool:
    return any(seq in actual and actual[seq][:MARK_DIGITS] != mark for seq, mark in _marks(signed).items())


def _where(signed: dict[str, Any], actual: dict[int, str]) -> str:
    """Name the first entry that is not the one that was signed, as closely as the marks tell."""
    marks = _marks(signed) | {signed["seq"]: signed["hash"][:MARK_DIGITS], 1: signed["lake"][:MARK_DIGITS]}
    sound = 0
    for seq in sorted(marks):
        if seq in actual and actual[seq][:MARK_DIGITS] != marks[seq]:
            span = f"ledger entry {seq}" if sound == seq - 1 else f"ledger entry {sound + 1} or one up to {seq}"
            return f"{span}: not the one that was signed on {signed['time']}; the ledger was changed here and sealed anew"
        sound = seq if seq in actual else sound
    return f"ledger entry {signed['seq']}: not the one that was signed on {signed['time']}"
