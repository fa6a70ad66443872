"""From a record back to the bytes that it was decoded from: payload, span, ledger entry, and the message itself where it is at hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from ingest.errors import UsageError
from ingest.sml import message
from ingest.unpack import Unpacked
from storage.files import sha256_of
from storage.kept import kept_path, open_kept
from storage.points import reached
from storage.store import Store

MOST_BYTES = 16 << 20
LENGTH_BYTES = 4
QUOTE, NEWLINE, RETURN = b'"\n\r'
COLUMNAR = (b"PAR1", b"ARROW1")

_RECORDS = """
SELECT {outcome} AS outcome, tool, chamber, trace, stream, seq, ts, payload_id, byte_start, any_value(window_id) AS window_id,
  list({{'position': position, 'sensor': sensor, 'value': value}} ORDER BY position) AS samples
FROM lake.main.{table} WHERE tool = $tool AND trace = $trace AND seq = $seq{more}
GROUP BY tool, chamber, trace, stream, seq, ts, payload_id, byte_start"""
_PAYLOAD = (
    "SELECT p.key, p.sha256, p.source, p.format, p.state, p.bytes_in, p.size, p.batch_id, p.ledger_seq, p.committed_at, p.config_digest, "
    "l.hash, l.actor, l.action, l.body FROM lake.main.payloads p LEFT JOIN lake.main.ledger l ON l.seq = p.ledger_seq WHERE payload_id = ?"
)


@dataclass(slots=True, frozen=True)
class Located:
    """Delivered bytes that are at hand: where they are, and how to open them."""

    place: str
    open: Callable[[], BinaryIO]


def records(store: Store, tool: str, trace: str, seq: int, chamber: str | None, at: datetime | None) -> list[dict[str, Any]]:
    """Return every record under a sequence number, kept or conflicting, with the payload and the ledger entry that brought it."""
    more = (" AND chamber = $chamber" if chamber is not None else "") + (" AND ts = $at" if at is not None else "")
    given = {"tool": tool, "trace": trace, "seq": seq} | ({"chamber": chamber} if chamber is not None else {})
    query = " UNION ALL ".join(
        _RECORDS.format(outcome=f"'{outcome}'", table=table, more=more)
        for outcome, table in (("kept", "traces"), ("conflict", "conflicts"))
    )
    relation = store.connection.execute(
        f"{query} ORDER BY ts, chamber, stream, outcome DESC, byte_start", given | ({"at": at} if at else {})
    )
    names = [column[0] for column in relation.description or ()]
    found = [dict(zip(names, row, strict=True)) for row in relation.fetchall()]
    for record in found:
        record["payload"], record["ledger"] = _origin(store, record.pop("payload_id"))
    return found


def _origin(store: Store, payload_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
    rows = store.rows(_PAYLOAD, [payload_id])
    if not rows:
        return {"payload_id": payload_id}, {}
    key, sha256, source, kind, state, bytes_in, size, batch, seq, committed, config, digest, actor, action, body = rows[0]
    payload = {"payload_id": payload_id, "key": key, "sha256": sha256, "source": source, "format": kind, "state": state, "size": size}
    payload |= {"bytes_in": bytes_in, "batch_id": batch, "committed_at": committed}
    software = json.loads(body).get("software") if body else None
    return payload, {"seq": seq, "hash": digest, "actor": actor, "action": action, "software": software, "config_digest": config}


def _opened(path: Path) -> BinaryIO:
    return open(path, "rb")


def locate(store: Store, sha256: str, source: str, given: Path | None, *, kept: bool = True) -> Located | None:
    """Return the delivered bytes of ``sha256`` where they still are: the file ``given``, the source's own path, or kept in the lake."""
    for path in (given, Path(source)):
        if path is not None and path.is_file() and sha256_of(path) == sha256:
            reached("source_proven")
            return Located(str(path), partial(_opened, path))
    copy = kept_path(store.path, sha256)
    return Located(str(copy), lambda: open_kept(copy)) if kept and copy.is_file() else None


def add_message(record: dict[str, Any], located: Located) -> None:
    """Add to ``record`` its byte span and the message as text (SML, or a table's line) and hex."""
    start = int(record["byte_start"])
    data = _from(located, start)
    record["bytes_from"] = located.place
    if record["payload"]["format"] == "hsms":
        size = LENGTH_BYTES + int.from_bytes(data[:LENGTH_BYTES], "big")
        frame = data[:size]
        record["message"] = message(frame)
    elif data is not None and start == 0 and data.startswith(COLUMNAR):
        record |= {"byte_stop": record["payload"]["bytes_in"], "message": None, "hex": None}  # such a file is one frame
        return
    else:
        frame = _line(data)
        record["message"] = frame.decode("utf-8", "replace").rstrip("\r\n")
    record |= {"byte_stop": start + len(frame), "hex": frame.hex()}


def _from(located: Located, start: int) -> bytes:
    """Return the bytes of the decompressed payload from ``start`` on, as many as a frame can have."""
    parts: list[bytes] = []
    at, held = 0, 0
    with located.open() as file:
        for data in Unpacked().read(file):
            if at + len(data) > start:
                parts.append(data[max(0, start - at) :][: MOST_BYTES - held])
                held += len(parts[-1])
                if held >= MOST_BYTES:
                    break
            at += len(data)
    return b"".join(parts)


def _line(data: bytes) -> bytes:
    """Return a table's row with its line end; line ends between double quotes belong to the row."""
    quoted = False
    for i, byte in enumerate(data):
        if byte == QUOTE:
            quoted = not quoted
        elif not quoted and byte == NEWLINE:
            return data[: i + 1]
        elif not quoted and byte == RETURN:
            return data[: i + 2] if data[i + 1 : i + 2] == b"\n" else data[: i + 1]
    return data


def trace(
    store: Store,
    tool: str,
    trace_name: str,
    seq: int,
    *,
    chamber: str | None = None,
    at: datetime | None = None,
    payload: Path | None = None,
) -> list[dict[str, Any]]:
    """Return all records under a sequence number, each with its message where the delivered bytes are at hand.

    Raises :class:`UsageError` when ``payload`` names a file that none of them came from.
    """
    found = records(store, tool, trace_name, seq, chamber, at)
    places: dict[str, Located | None] = {}
    for record in found:
        origin = record["payload"]
        if "sha256" in origin:
            if origin["sha256"] not in places:
                places[origin["sha256"]] = locate(store, origin["sha256"], origin["source"], payload)
            located = places[origin["sha256"]]
            if located is not None:
                add_message(record, located)
    if payload is not None and found and not any(place is not None and place.place == str(payload) for place in places.values()):
        raise UsageError(f"{payload}: its SHA-256 is that of none of these payloads: {', '.join(sorted(places))}")
    return found
