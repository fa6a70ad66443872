"""Decoding of HSMS trace messages against copying the same bytes, and against secsgem on a few of them.

Contestants run in turns in one process; CPU seconds of the best round count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from benchmarks import capture
from benchmarks.goals import ratio
from benchmarks.measure import Found, check, race, timed
from ingest.config import Config, parse
from ingest.unpack import CHUNK_BYTES

MB = 1_000_000
TOOL = "ETCH01"
LAYOUTS = ("f4", "mixed")


def run(size_mb: float, rounds: int, messages: int) -> Found:
    """Return the figures of decoding captures of ``size_mb`` each, and of ``messages`` that secsgem takes as well."""
    contestants: dict[str, Callable[[], float]] = {}
    counts: dict[str, capture.Counts] = {}
    bodies = {layout: capture.bodies(messages, layout) for layout in LAYOUTS}
    for layout in LAYOUTS:
        tool = capture.Tool(TOOL, layout)
        data = b"".join(capture.chunks(tool, int(size_mb * MB)))
        counts[layout] = tool.counts
        chunks = cut(data)
        check(decode(chunks) == tool.counts.records + tool.counts.duplicates, f"{layout}: records are missing")
        contestants[f"memcpy_{layout}"] = timed(copier(data))
        contestants[f"decode_{layout}"] = timed(partial(decode, chunks))
        contestants[f"secsgem_{layout}"] = timed(secsgem_decoder(bodies[layout]))
    spreads = race(contestants, rounds)
    found = Found(spreads=spreads)
    times: dict[str, float] = {}
    for layout in LAYOUTS:
        ours, size, samples = spreads[f"decode_{layout}"], counts[layout].bytes_in, counts[layout].samples
        times[layout] = size / sum(len(body) + capture.HEADER_BYTES for body in bodies[layout])
        rate = f"{size / ours.best / MB:.0f} MB/CPU s, {samples / ours.best / MB:.0f} M samples/CPU s"
        found.figures.append(ratio(f"decode_{layout}_vs_memcpy", spreads[f"memcpy_{layout}"], ours, rate))
    mixed = times["mixed"] * spreads["secsgem_mixed"].best / spreads["decode_mixed"].best
    note = f"mixed formats: {mixed:.0f}; secsgem on {messages} messages"
    found.figures.append(ratio("decode_vs_secsgem", spreads["secsgem_f4"], spreads["decode_f4"], note, times["f4"]))
    return found


def cut(data: bytes) -> list[bytes]:
    """Return ``data`` in the chunks that the pipeline reads."""
    return [data[at : at + CHUNK_BYTES] for at in range(0, len(data), CHUNK_BYTES)]


@cache
def configuration() -> Config:
    """Return the configuration of the capture, read once: that is no part of decoding."""
    return parse(capture.configuration())


def decode(chunks: Sequence[bytes]) -> int:
    """Decode ``chunks`` of one payload; return the number of records, none of them kept."""
    from ingest.dictionary import Dictionary
    from ingest.formats.hsms import HsmsDecoder

    config = configuration()
    decoder = HsmsDecoder(TOOL, {"tool": TOOL}, config.model(TOOL), Dictionary(), config.limits, reuse=True)
    records = 0
    for chunk in chunks:
        for decoded in decoder.feed(chunk):
            records += 0 if decoded.records is None else len(decoded.records.seq)
    for decoded in decoder.finish():
        records += 0 if decoded.records is None else len(decoded.records.seq)
    return records


def copier(data: bytes) -> Callable[[], Any]:
    """Return a copy of all bytes of ``data`` into memory that is there already."""
    source = np.frombuffer(data, dtype=np.uint8)
    target = np.ones_like(source)
    return lambda: np.copyto(target, source)


def secsgem_decoder(bodies: list[bytes]) -> Callable[[], None]:
    """Return secsgem's decoding of ``bodies`` to Python values."""
    from secsgem.secs.functions import SecsS06F01

    def run() -> None:
        for body in bodies:
            message = SecsS06F01()
            message.decode(body)
            check(len(message.get()["SV"]) == capture.SVS, "secsgem found another number of values")

    return run
