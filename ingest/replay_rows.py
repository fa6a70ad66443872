"""Which rejected rows of a table are sound today: they are decoded together, as rows of the file that they were cut from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ingest.config import Config
from ingest.errors import MappingMissing
from ingest.formats.registry import open_decoder
from ingest.records import Decoded
from ingest.spans import Span, delivery_of
from ingest.unpack import compression_of

TOGETHER_BYTES = 16 << 20
"""Rows are judged in lots of this size."""

OWN_FAULTS = frozenset(("bad_text", "no_tool", "no_time", "bad_time", "bad_seq", "bad_row"))
"""Reasons that lie in the row itself; a broken quote or an endless line may be a neighbour's."""


def sound_rows(spans: Sequence[Span], config: Config) -> list[list[Span]]:
    """Return the sound ones of spans of one origin, parted so that only a payload's last row lacks its line end."""
    try:
        plain = [span for span in spans if compression_of(span.data) is None]  # a payload that began like this would be unpacked
        sound = [span for lot in _runs(plain, TOGETHER_BYTES) for span in _judge(lot, config)]
    except MappingMissing:  # today's mapping does not fit the file: none of its rows can be read
        return []
    return list(_runs(sound))


def _runs(spans: Sequence[Span], most_bytes: int | None = None) -> Iterator[list[Span]]:
    run: list[Span] = []
    size = 0
    for span in spans:
        run.append(span)
        size += len(span.data)
        if not span.ended or (most_bytes is not None and size >= most_bytes):
            yield run
            run, size = [], 0
    if run:
        yield run


def _judge(spans: Sequence[Span], config: Config) -> list[Span]:
    """Return the spans that whole frames tile; where the others' fault may lie outside them, look at fewer together."""
    delivery = delivery_of(spans)
    assert delivery.data is not None
    opened = open_decoder(delivery, config, lambda _tool: None)
    found = [*opened.decoder.feed(delivery.data), *opened.decoder.finish()]
    parted = 1 if spans[0].rows else 0  # the line end between two rows as JSON
    bounds = np.cumsum([0, *(len(span.data) + parted for span in spans)])
    bounds[-1] = len(delivery.data)
    sound = _tiled(found, bounds)
    if len(spans) == 1 or (sound | _faulty(found, bounds)).all():
        return [span for span, good in zip(spans, sound.tolist(), strict=True) if good]
    half = len(spans) // 2
    return _judge(spans[:half], config) + _judge(spans[half:], config)


def _tiled(found: Sequence[Decoded], bounds: np.ndarray) -> np.ndarray:
    """Tell which of the ranges between ``bounds`` consist of whole frames."""
    starts = np.concatenate([part.frame_start for part in found])
    stops = np.concatenate([part.frame_stop for part in found])
    owner = np.searchsorted(bounds, starts, "right") - 1
    inside = stops <= bounds[owner + 1]
    covered = np.zeros(len(bounds) - 1, np.int64)
    np.add.at(covered, owner[inside], (stops - starts)[inside])
    return np.asarray(covered == np.diff(bounds))


def _faulty(found: Sequence[Decoded], bounds: np.ndarray) -> np.ndarray:
    """Tell which of the ranges were rejected as exactly one row, for a fault of its own."""
    own = {(span.start, span.stop) for part in found for span in part.rejected if span.reason in OWN_FAULTS}
    return np.array([pair in own for pair in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)], np.bool_)
