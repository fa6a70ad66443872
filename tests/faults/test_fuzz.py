"""Mutated deliveries, in bulk: no exception whatever the bytes, spans that do not overlap, and an account that balances.

The mutations are our own (bits, hostile numbers, cuts, repeats, splices), and the decoders run as they do in earnest, compiled.
``test_guided`` looks for branches instead.
"""

from __future__ import annotations

import random
import resource
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import loadlock
from ingest.config import Limits, parse
from ingest.dictionary import Dictionary
from ingest.formats.hsms import HsmsDecoder
from sample_data import secs_encoder as secs
from tests.faults.soak import new_seed, scaled
from tests.ingest.table_support import decode, table

Run = Callable[..., Any]
MODEL = parse(
    """
[tools.T]
model = "m"
[models.m.traces.7]
period = 1.0
sensors = ["power", "pressure"]
[models.m.traces.8]
period = 0.5
group = 2
[models.m.events.9]
name = "Start"
values = ["ts", "lot"]
window = "start"
"""
).models["m"]
STIME = "2026031708000000"
FRAMES = [
    secs.s6f1(secs.item("U1", 7), secs.item("U4", 3), STIME, [secs.item("F4", 1.0), secs.item("U2", 7)]),
    secs.s6f1(secs.item("U1", 8), secs.item("U4", 4), STIME, [secs.item("F8", *(i / 3 for i in range(40)))]),
    secs.s6f1(secs.item("U4", 9), secs.item("U4", 5), "", [secs.text("IDLE"), secs.item("U8", (1 << 60) + 1), secs.items()]),
    secs.s6f11(9, [(1, [secs.text(STIME), secs.text("L1")])]),
    secs.s6f11(10, [(2, [secs.items(secs.text("x"), secs.items(secs.item("I4", -1)))])]),
    secs.s5f1(6, "hot", is_set=True),
    secs.s1f12([(1, "temp", "C"), (2, "flow", "sccm")]),
    secs.s2f23(7, "000001", 1, [1, 2]),
    secs.reply(2, 24, system=5),
    secs.control("Linktest.req"),
]
OFTEN = np.array([1.0] * 6 + [0.1, 0.1] + [1.0] * 2)
"""Messages that teach names end a stretch, and each stretch has its price: there are fewer of them."""

HOSTILE_BYTES = np.array([0, 1, 0x7F, 0x80, 0xFF, 0x21, 0xB1, 0x91, 0x41], np.uint8)
PER_ROUND = 4_000
GROWTH_BYTES = 300 << 20


def mutated(seed: int, count: int) -> tuple[bytes, int]:
    """``count`` frames with about one mutation each; return the bytes, and how many of the frames were hit."""
    chance = np.random.default_rng(seed)
    chosen = [FRAMES[i] for i in chance.choice(len(FRAMES), count, p=OFTEN / OFTEN.sum())]
    data = np.frombuffer(b"".join(chosen), np.uint8).copy()
    starts = np.cumsum([0, *(len(frame) for frame in chosen)])
    at = (starts[:-1] + chance.random(count) * np.diff(starts)).astype(np.int64)
    kind = chance.integers(4, size=count)
    data[at[kind == 0]] ^= (1 << chance.integers(8, size=(kind == 0).sum())).astype(np.uint8)
    data[at[kind == 1]] = chance.choice(HOSTILE_BYTES, (kind == 1).sum())
    lengths = starts[:-1][kind == 2] + chance.integers(4, size=(kind == 2).sum())  # a byte of the frame's length
    data[lengths] = chance.choice(HOSTILE_BYTES, (kind == 2).sum())
    hit = int((kind != 3).sum())
    cuts = np.sort(chance.integers(len(data), size=max(2, count // 50)))
    pieces = [data[a:b].tobytes() for a, b in pairwise([0, *cuts.tolist(), len(data)])]
    for i in range(1, len(pieces)):
        move = chance.integers(4)
        if move == 0:
            pieces[i] = pieces[i][int(chance.integers(40)) :]
        elif move == 1:
            pieces[i] = chance.bytes(int(chance.integers(40))) + pieces[i]
        elif move == 2:
            pieces[i] = pieces[i - 1][:200] + pieces[i]
    return b"".join(pieces), hit


def decode_hsms(data: bytes, seed: int) -> int:
    """Decode ``data`` in chunks of random sizes and prove the spans; return the number of rejected ones."""
    chance = random.Random(seed)
    decoder = HsmsDecoder("T", {}, MODEL, Dictionary(), Limits(frame_bytes=4096, depth=8, children=500))
    spans: list[tuple[int, int]] = []
    rejected = other = at = 0
    while at <= len(data):
        size = chance.choice([7, 100, 1 << 12, 1 << 16])
        for part in decoder.feed(data[at : at + size]) if at < len(data) else decoder.finish():
            spans += zip(part.frame_start.tolist(), part.frame_stop.tolist(), strict=True)
            other += part.other_bytes
            for span in part.rejected:
                assert span.data == data[span.start : span.stop]
                spans.append((span.start, span.stop))
                rejected += 1
        at = min(at + size, len(data)) if at < len(data) else len(data) + 1
    spans.sort()
    assert all(stop <= start for (_, stop), (start, _) in pairwise(spans))
    assert sum(stop - start for start, stop in spans) + other == len(data)
    return rejected


def fuzz_hsms(frames: int, seed: int) -> dict[str, int]:
    """Mutate and decode until ``frames`` frames were hit; memory must not grow."""
    hit = rejected = rounds = 0
    start_bytes = 0
    while hit < frames:
        data, more = mutated(seed + rounds, min(PER_ROUND, frames))
        try:
            rejected += decode_hsms(data, seed + rounds)
        except BaseException as error:
            error.add_note(f"seed {seed + rounds}, {min(PER_ROUND, frames)} frames")
            raise
        hit, rounds = hit + more, rounds + 1
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        start_bytes = start_bytes or peak
        assert peak - start_bytes < GROWTH_BYTES
    return {"frames mutated": hit, "spans rejected": rejected, "rounds": rounds}


def test_mutated_frames(note: Run) -> None:
    seed = new_seed()
    note(seed=seed, **fuzz_hsms(40_000, seed))


@pytest.mark.slow
def test_ten_million_mutated_frames(note: Run) -> None:
    seed = new_seed()
    note(seed=seed, **fuzz_hsms(scaled(10_000_000), seed))


# --- tables

SECTION = table(sensors="*", context={"wafer": "w"})
TEXT = b"t,w,a,b\n" + b"".join(b'%d,W%d,%f,"x ""%d"""\n' % (i, i % 3, i / 7, i) for i in range(40))
TOKENS = [b'"', b"\r", b"\n", b"\0", b",", b";", b"\t", b"\xff\xfe", b"\xef\xbb\xbf", b"nan", b"1e999", b"-", b"9" * 400, b'""', b"\xc3"]


def mutated_text(chance: random.Random) -> bytes:
    data = bytearray(TEXT)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(4):
            case 0:
                data[at:at] = chance.choice(TOKENS)
            case 1:
                del data[at : at + chance.randrange(30)]
            case 2:
                data[at : at + 1] = bytes([chance.randrange(256)])
            case _:
                data[at:at] = data[: chance.randrange(60)]
    return bytes(data)


def fuzz_tables(count: int, seed: int) -> None:
    from ingest.errors import MappingMissing

    for i in range(count):
        chance = random.Random(seed + i)
        data = mutated_text(chance)
        try:
            decode(data, SECTION, chance.choice([None, 7, 64]))
        except MappingMissing:  # a mapped column's name was hit: the payload is deferred
            pass
        except BaseException as error:
            error.add_note(f"seed {seed + i}")
            raise


def test_mutated_tables(note: Run) -> None:
    seed = new_seed()
    fuzz_tables(150, seed)
    note(seed=seed, tables=150)


@pytest.mark.slow
def test_many_mutated_tables(note: Run) -> None:
    seed, count = new_seed(), scaled(50_000)
    fuzz_tables(count, seed)
    note(seed=seed, tables=count)


# --- bits, through the whole pipeline


def flip_bits(count: int, seed: int, folder: Path, site: Any, check_conserved: Run) -> None:
    """Ingest a capture and a table with one bit flipped, ``count`` times."""
    capture = b"".join(FRAMES * 3)
    text = site.wafers("whole.csv", [1]).read_bytes()
    with loadlock.open(folder / "fab.lake") as lake:
        for i in range(count):
            chance = random.Random(seed + i)
            data = bytearray(capture if i % 2 else text)
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            try:
                given = {"tool": "T", "format": "hsms"} if i % 2 else {"format": "table"}
                check_conserved(lake.ingest_all(data=bytes(data), config=site.config, **given))
            except BaseException as error:
                error.add_note(f"seed {seed + i}")
                raise
        assert lake.verify().faults == []


def test_one_bit_in_the_input(polisher: Run, tmp_path: Path, assert_conserved: Run, note: Run) -> None:
    seed = new_seed()
    flip_bits(40, seed, tmp_path, polisher(tmp_path), assert_conserved)
    note(seed=seed, bits=40)


@pytest.mark.slow
def test_many_bits_in_the_input(polisher: Run, tmp_path: Path, assert_conserved: Run, note: Run) -> None:
    seed, count = new_seed(), scaled(500)
    flip_bits(count, seed, tmp_path, polisher(tmp_path), assert_conserved)
    note(seed=seed, bits=count)
