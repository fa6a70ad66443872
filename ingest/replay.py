"""Quarantined spans are decoded again, with today's code and configuration, as a payload of their own.

A frame that two payloads cut stands as a torn tail and an unintelligible head; the two are joined when together they are sound.
Rows of tables are in :mod:`ingest.replay_rows`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ingest import group, intake, pipeline
from ingest.circuits import Breakers, microseconds
from ingest.errors import MappingMissing
from ingest.formats.registry import open_decoder
from ingest.receipts import Summary
from ingest.replay_rows import sound_rows
from ingest.spans import Span, delivery_of, open_spans
from storage.circuits import OPEN
from storage.store import Store

TAIL = "incomplete_tail"
MOST_PARTS = 64
"""Payloads that one frame may be spread over and still be joined."""


def replay(store: Store, ids: Sequence[str], settings: intake.Settings) -> Summary:
    """Replay the open spans named by ``ids``, or all.

    What still can't be understood stays open and untouched, and so do the spans of tools whose circuit is open.
    """
    store.ensure_index(settings.wait_s)
    waiting = Breakers(store.index.circuits(), settings.config.circuit, microseconds(store.clock())).tools(OPEN)
    spans = [span for span in open_spans(store, ids) if span.tool not in waiting]
    deliveries = []
    for origin in sorted({span.origin() for span in spans}, key=str):
        members = [span for span in spans if span.origin() == origin]
        if members[0].dialect is not None:
            deliveries += [delivery_of(run) for run in sound_rows(members, settings.config)]
            continue
        units = _sound_units(members, store, settings)
        if units:
            deliveries.append(delivery_of([span for unit in units for span in unit]))
    return pipeline.ingest(store, deliveries, settings)


def _sound_units(spans: Sequence[Span], store: Store, settings: intake.Settings) -> list[tuple[Span, ...]]:
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


def _complete(tail: Span, others: Sequence[Span], store: Store, settings: intake.Settings) -> tuple[Span, ...] | None:
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


def _may_follow(chain: tuple[Span, ...], head: Span, settings: intake.Settings) -> bool:
    """Tell whether the frame that ``chain`` begins is long enough to take ``head`` too."""
    joined = b"".join(span.data for span in chain)[:4]
    if len(joined) < 4:
        return True
    total = 4 + int.from_bytes(joined, "big")
    size = sum(len(span.data) for span in (*chain, head))
    return size <= min(total, settings.config.limits.frame_bytes + 4)


def _is_sound(chain: tuple[Span, ...], store: Store, settings: intake.Settings) -> bool:
    """Tell whether the joined bytes decode without a single rejection, into something."""
    delivery = delivery_of(chain)
    if not delivery.data:
        return False
    decoded: list[Any] = []
    try:
        opened = open_decoder(delivery, settings.config, lambda tool: group.stored_dictionary(store, tool))
        decoded += opened.decoder.feed(delivery.data)
        decoded += opened.decoder.finish()
    except MappingMissing:
        return False
    return not any(part.rejected for part in decoded) and any(len(part.frame_start) or part.other_frames for part in decoded)
