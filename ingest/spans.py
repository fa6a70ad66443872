"""Open spans of the quarantine as they were before they were stored in pieces, and as payloads to be decoded again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from ingest.batch import PIECE_BYTES
from ingest.errors import UsageError
from ingest.sources import Delivery
from storage.store import Store


@dataclass(slots=True, frozen=True)
class Span:
    """A contiguous unintelligible region of one payload: the ids of its pieces and its bytes."""

    ids: tuple[str, ...]
    payload_id: str
    tool: str | None
    start: int
    stop: int
    reason: str
    data: bytes
    format: str
    mapping: str | None
    captured: str
    rows: bool
    dialect: str | None
    whole: bool
    """The region reaches the end of its payload."""

    def origin(self) -> tuple[str | None, str, str | None, str, str | None]:
        """Return what decides how it is decoded; a row's dialect tells the tool named at delivery, its own tool is a finding."""
        tool = self.tool if self.dialect is None else None
        return tool, self.format, self.mapping, self.captured, self.dialect

    @property
    def ended(self) -> bool:
        """Tell whether a span of rows ends where a row ends; only a file's last row may lack its line end."""
        return self.rows or self.data.endswith(b"\r" if self.dialect and json.loads(self.dialect)["line_end"] == ord("\r") else b"\n")


_FIELDS = tuple(field.name for field in fields(Span))


def open_spans(store: Store, ids: Sequence[str]) -> list[Span]:
    """Return the open spans, all or those named by ``ids``, pieces joined."""
    where = "q.state = 'open'" + (" AND list_contains(?, q.quarantine_id)" if ids else "")
    rows = store.rows(
        "SELECT q.quarantine_id, q.payload_id, q.tool, q.start, q.stop, q.reason, q.bytes, l.format, l.mapping, l.captured, l.rows, "
        "l.dialect, p.bytes_in FROM quarantine q JOIN lake.main.quarantine_log l USING (quarantine_id) "
        f"JOIN payloads p ON q.payload_id = p.payload_id WHERE {where} "
        "ORDER BY p.ledger_seq, q.payload_id, q.start",
        [list(ids)] if ids else None,
    )
    missing = set(ids) - {row[0] for row in rows}
    if missing:
        raise UsageError(f"no open quarantine entry: {', '.join(sorted(missing))}; 'loadlock quarantine list' names them")
    spans: list[Span] = []
    for row in rows:
        span = Span(**dict(zip(_FIELDS, ((row[0],), *row[1:6], bytes(row[6]), *row[7:12], row[4] == row[12]), strict=True)))
        last = spans[-1] if spans else None
        if last and _continues(last, span):
            spans[-1] = replace(last, ids=last.ids + span.ids, stop=span.stop, data=last.data + span.data, whole=span.whole)
            continue
        spans.append(span)
    return spans


def _continues(last: Span, span: Span) -> bool:
    """Tell whether ``span`` is the next piece of the region that ``last`` begins."""
    if (last.payload_id, last.stop, last.reason) != (span.payload_id, span.start, span.reason) or span.rows:
        return False
    if last.reason == "sensor_count":
        return False
    return len(last.data) % PIECE_BYTES == 0 or (last.dialect is not None and not last.ended)


def delivery_of(spans: Sequence[Span]) -> Delivery:
    """Return spans of one origin as a payload of their own: its bytes are theirs, its key are their ids."""
    ids = [name for span in spans for name in span.ids]
    first = spans[0]
    data = (b"\n" if first.rows else b"").join(span.data for span in spans)
    named = "quarantine:" + "+".join(ids)
    key = named if len(named) <= 200 else f"quarantine:{hashlib.sha256(named.encode()).hexdigest()}"
    captured = json.loads(first.captured)
    dialect = None if first.dialect is None else json.loads(first.dialect)
    tool = first.tool if dialect is None else dialect["tool"] or captured.get("tool")
    source = f"quarantine replay of {len(ids)}"
    return Delivery(source, None, data, len(data), first.format, first.mapping, tool, captured, key, tuple(ids), dialect)
