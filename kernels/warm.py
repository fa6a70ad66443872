"""Compiles every kernel before the first ingest needs it.

Each kernel is called with one set of argument types, one of them with two. They stand here, so that images and machines without a
network get their machine code at roll-out (``loadlock doctor --warm``); a test proves that ingests of every format, and a look at what
they brought, compile nothing more.
"""

from __future__ import annotations

import re
import time
from importlib import import_module
from typing import NamedTuple

import numba
import numpy as np

from kernels import lowered
from kernels.jit import KERNELS

FIELDS = "const u1[], i4[], i4[], i8"
"""A buffer, where its fields start and stop, and how many a row has."""

KEYS = "i4[], i8[], i8[]"
"""Stream, time and number of keys."""

SIGNATURES = {
    "downsample.extremes": "i8[], f8[], i8",
    "gather.transpose": "f8[], i8[], i8[], f8[,]",
    "gather.transpose of float32": "f4[], i8[], i8[], f8[,]",
    "gather.valid_bits": "i8[]",
    "gather.count_nulls": "i8[]",
    "pages.split_bytes": "u8[], u1[]",
    "pagewalk.walk_pages": "u1[], i8, i8, i8[,]",
    "value_pages.encode_values": "u8[], i8[], i8[], i8, u8[], i8[], i2[], i8, i4[], u1[], i8[,]",
    "reduce._reduce": "f8[], i8[], i8[], i8[], i8, f8[,,], f8[], f8[], i8[], f8[], f8[], i8[], f8[], f8[,], u1[,], i8[,], f8[,]",
    "secs.walk": "const u1[], ?, i8[], i8[], i8[,], f8[], f4[], i8[,], i8[,], i8[], i8[], i8[], u1[], i8[], i8[], i8[], u1[]",
    "secs_events.event_heads": "const u1[], i8[,], i8[,], u1[], f8[]",
    "secs_events.event_values": ("const u1[], i8[,], i8[], i8[], i8[], const u1[], i8[], const u1[], i8[], i8[], i8[,], u1[], u1[], i8[]"),
    "secs_text.parse_stimes": "const u1[], i8[], i8[], i8[], i8[]",
    "secs_traces.rehash": "i8, u1[], i8[], i8[]",
    "sequence.order_keys": KEYS,
    "sequence.advance": f"{KEYS}, i4[], i8[,], i8[]",
    "sequence.covered": f"{KEYS}, i8[], i8[,]",
    "sequence.merge_runs": f"{KEYS}, i4[], i8[,], i8[]",
    "sequence.same_as_previous": KEYS,
    "sequence.same_content": "i8[], i8[], i8[], i8[], i8[], i8[]",
    "sequence.find_keys": "i8[], i8[], i8[], i8[]",
    "text.scan_rows": "const u1[], i8, i8, ?, ?, i8, i8, i8, i8, i8, i4[], i4[], i4[], i4[], i4[,]",
    "text.unescape": "u1[], i4[], i4[], i8, i8",
    "text.equal_rows": "const u1[], i4[], i4[], i8, const u1[], ?[]",
    "text.encode": f"{FIELDS}, i8, i8[], i8[]",
    "text.densify": "i8[], i8[], i8[]",
    "text_number.parse_numbers": f"{FIELDS}, i8[], i8, const u1[], i8[], f8[,], u1[,]",
    "text_number.parse_scaled": f"{FIELDS}, i8, i8, i8, i8, i8[], u1[]",
    "text_time.parse_times": f"{FIELDS}, i8, i8[,], i8[], ?[], u1[]",
}
"""Kernel -> types of its arguments: numpy's codes, ``[,]`` for an array (in C order) of two dimensions, ``const`` where it is read-only.
What follows a blank in a name tells several sets of types of one kernel apart."""


class Warmed(NamedTuple):
    """One kernel: CPU seconds that it took, whether it was compiled (or found), and whether from intermediate code (or from source)."""

    kernel: str
    seconds: float
    compiled: bool
    lowered: bool


def types_of(signature: str) -> tuple[numba.types.Type, ...]:
    """Return numba's types for one of :data:`SIGNATURES`."""
    return tuple(_type_of(part) for part in re.split(r", (?![^\[]*\])", signature))


def _type_of(part: str) -> numba.types.Type:
    found = re.fullmatch(r"(const )?(\?|[iuf]\d)(\[,*\])?", part)
    assert found is not None, part
    const, code, shape = found.groups()
    scalar = numba.from_dtype(np.dtype(code))
    return scalar if shape is None else numba.types.Array(scalar, len(shape) - 1, "C", readonly=const is not None)


def warm() -> list[Warmed]:
    """Compile the kernels that are not in the cache yet; other processes that need them meanwhile wait and find them there."""
    done = []
    for name, signature in SIGNATURES.items():
        import_module(f"kernels.{name.partition('.')[0]}")
        kernel = KERNELS[name.partition(" ")[0]]
        begin, before = time.process_time(), sum(kernel.stats.cache_misses.values())
        kernel.compile(types_of(signature))
        seconds, compiled = time.process_time() - begin, sum(kernel.stats.cache_misses.values()) > before
        done.append(Warmed(name, seconds, compiled, isinstance(kernel.overloads[types_of(signature)].library, lowered.Library)))
    return done
