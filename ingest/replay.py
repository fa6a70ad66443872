"""Quarantined spans are decoded again, with today's code and configuration, as a payload of their own.

A frame that two payloads cut stands as a torn tail and an unintelligible head; the two are joined when together they are sound.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from ingest import pipeline
from ingest.errors import MappingMissing, UsageError
from ingest.formats.registry import open_decoder
from ingest.receipts import Summary
from ingest.sources import Delivery
from storage.store import Store

TAIL = "incomplete_tail"
MOST_PARTS = 64
"""Payloads that one frame may be spread over and still be joined."""


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
    whole: bool
    """The region reaches the end of its payload."""

    def origin(self) -> tuple[str | None, str, str | None, str]:
        """Return what decides how it is decoded."""
        return self.tool, self.format, self.mapping, self.captured


_FIELDS = tuple(field.name for field in fields(Span))


def replay(store: Store, ids: Sequence[str], settings: pipeline.Settings) -> Summary:
    """Replay the open spans named by ``ids``, or all; what still can't be understood stays open and untouched."""
    store.ensure_index(settings.wait_s)
    spans = _spans(store, ids)
    deliveries = []
    for origin in sorted({span.origin() for span in spans}, key=str):
        members = [span for span in spans if span.origin() == origin]
        units = _sound_units(members, store, settings)
        if units:
            deliveries.append(_delivery(units))
    return pipeline.ingest(store, deliveries, settings)


def _spans(store: Store, ids: Sequence[str]) -> list[Span]:
    where = "q.state = 'open'" + (" AND list_contains(?, q.quarantine_id)" if ids else "")
    rows = store.rows(
        "SELECT q.quarantine_id, q.payload_id, q.tool, q.start, q.stop, q.reason, q.bytes, l.format, l.mapping, l.captured, l.rows, p.bytes_in "
        f"FROM quarantine q JOIN lake.main.quarantine_log l USING (quarantine_id) JOIN payloads p ON q.payload_id = p.payload_id WHERE {where} "
        "ORDER BY p.ledger_seq, q.payload_id, q.start",
        [list(ids)] if ids else None,
    )
    missing = set(ids) - {row[0] for row in rows}
    if missing:
        raise UsageError(f"no open quarantine entry: {', '.join(sorted(missing))}; 'loadlock quarantine list' names them")
    spans: list[Span] = []
    for row in rows:
        span = Span(**dict(zip(_FIELDS, ((row[0],), *row[1:6], bytes(row[6]), *row[7:11], row[4] == row[11]), strict=True)))
        last = spans[-1] if spans else None
        if (
            last
            and (last.payload_id, last.stop, last.reason) == (span.payload_id, span.start, span.reason)
            and not span.rows
            and last.reason != "sensor_count"
        ):
            joined = replace(last, ids=last.ids + span.ids, stop=span.stop, data=last.data + span.data, whole=span.whole)
            if len(last.data) % (1 << 20) == 0:
                spans[-1] = joined
                continue
        spans.append(span)
    return spans


def _sound_units(spans: Sequence[Span], store: Store, settings: pipeline.Settings) -> list[tuple[Span, ...]]:
    """Return the spans, or chains of spans, that are now sound as a whole."""
    units: list[tuple[Span, ...]] = []
    left: list[Span] = []
    for span in spans:
        if _is_sound((span,), store, settings):
            units.append((span,))
        else:
            left.append(span)
    used: set[tuple[str, ...]] = set()
    for tail in left:
        if tail.reason != TAIL or tail.format != "hsms" or tail.ids in used:
            continue
        chain = _complete(tail, [span for span in left if span.ids not in used and span is not tail], store, settings)
        if chain:
            units.append(chain)
            used |= {span.ids for span in chain}
    return units


def _complete(tail: Span, others: Sequence[Span], store: Store, settings: pipeline.Settings) -> tuple[Span, ...] | None:
    """Find the head (and whole payloads between) that makes ``tail`` a sound frame."""
    heads = [span for span in others if span.start == 0 and span.payload_id != tail.payload_id]
    chains: list[tuple[Span, ...]] = [(tail,)]
    for _ in range(MOST_PARTS):
        longer = [(*chain, head) for chain in chains for head in heads if head not in chain and _may_follow(chain, head, settings)]
        for chain in longer:
            if _is_sound(chain, store, settings):
                return chain
        chains = [chain for chain in longer if chain[-1].whole][:MOST_PARTS]
        if not chains:
            return None
    return None


def _may_follow(chain: tuple[Span, ...], head: Span, settings: pipeline.Settings) -> bool:
    """Tell whether the frame that ``chain`` begins is long enough to take ``head`` too."""
    joined = b"".join(span.data for span in chain)[:4]
    if len(joined) < 4:
        return True
    total = 4 + int.from_bytes(joined, "big")
    size = sum(len(span.data) for span in (*chain, head))
    return size <= min(total, settings.config.limits.frame_bytes + 4)


def _delivery(units: Sequence[tuple[Span, ...]]) -> Delivery:
    spans = [span for unit in units for span in unit]
    ids = [name for span in spans for name in span.ids]
    data = _bytes(spans)
    first = spans[0]
    named = "quarantine:" + "+".join(ids)
    key = named if len(named) <= 200 else f"quarantine:{hashlib.sha256(named.encode()).hexdigest()}"
    delivery = Delivery(
        f"quarantine replay of {len(ids)}", None, data, len(data), first.format, first.mapping, first.tool, json.loads(first.captured), key
    )
    delivery.replays = tuple(ids)
    return delivery


def _bytes(spans: Iterable[Span]) -> bytes:
    return b"".join(span.data for span in spans)


def _is_sound(chain: tuple[Span, ...], store: Store, settings: pipeline.Settings) -> bool:
    """Tell whether the joined bytes decode without a single rejection, into something."""
    delivery = _delivery([chain])
    if chain[0].rows or not delivery.data:
        return False
    decoded: list[Any] = []
    try:
        opened = open_decoder(delivery, settings.config, lambda tool: pipeline.stored_dictionary(store, tool))
        decoded += opened.decoder.feed(delivery.data)
        decoded += opened.decoder.finish()
    except MappingMissing:
        return False
    return not any(part.rejected for part in decoded) and any(len(part.frame_start) or part.other_frames for part in decoded)
