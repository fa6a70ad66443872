"""Slow, obvious twins of :mod:`kernels.pages` and :mod:`kernels.value_pages`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

WRAP = 1 << 64


def split_bytes(bits: Sequence[int]) -> list[bytes]:
    """Return the eight byte streams."""
    return [bytes((bit % WRAP) >> 8 * b & 255 for bit in bits) for b in range(8)]


def coded_size(data: bytes, planes: int) -> float:
    """Return the bytes of each stream's order-0 entropy, its head and its table; a stream of one value is its head."""
    whole = 0.0
    for plane in range(planes):
        stream = data[plane::planes]
        counts = Counter(stream)
        entropy = sum(count * math.log2(len(stream) / count) for count in counts.values()) / 8
        whole += 4 + (min(len(stream), entropy + min(len(counts) / 2, 128)) if len(counts) > 1 else 0)
    return whole


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return (value, offset behind it) of an unsigned LEB128 number."""
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            return value, at


def read_zigzag(data: bytes, at: int) -> tuple[int, int]:
    """Return (value, offset behind it) of a zigzag number."""
    value, at = read_varint(data, at)
    return value >> 1 ^ -(value & 1), at


def _unpack(data: bytes, count: int, width: int) -> list[int]:
    number = int.from_bytes(data, "little")
    return [number >> i * width & (1 << width) - 1 for i in range(count)]


def read_delta_binary_packed(data: bytes) -> list[int]:
    """Return the values of a whole DELTA_BINARY_PACKED page; raise ValueError where bytes are left over."""
    block, at = read_varint(data, 0)
    minis, at = read_varint(data, at)
    total, at = read_varint(data, at)
    value, at = read_zigzag(data, at)
    out = [value] if total else []
    while len(out) < total:
        least, at = read_zigzag(data, at)
        widths = data[at : at + minis]
        at += minis
        for width in widths:
            if len(out) < total:
                size = width * (block // minis) // 8
                for delta in _unpack(data[at : at + size], block // minis, width)[: total - len(out)]:
                    value = (value + least + delta + WRAP // 2) % WRAP - WRAP // 2
                    out.append(value)
                at += size
    if at != len(data):
        raise ValueError(f"{len(data) - at} bytes behind the last value")
    return out


def read_rle_hybrid(data: bytes, width: int, count: int) -> list[int]:
    """Return the first ``count`` codes of a run-length/bit-packed hybrid; raise ValueError where bytes are left over."""
    out: list[int] = []
    at = 0
    while len(out) < count:
        head, at = read_varint(data, at)
        size = (head >> 1) * width if head & 1 else (width + 7) // 8
        if head & 1:
            out += _unpack(data[at : at + size], 8 * (head >> 1), width)
        else:
            out += [int.from_bytes(data[at : at + size], "little")] * (head >> 1)
        at += size
    if at != len(data):
        raise ValueError(f"{len(data) - at} bytes behind the last code")
    return out[:count]


def number_values(bits: Sequence[int], entries: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return (codes, the dictionary's entries after them)."""
    places = {entry: code for code, entry in enumerate(entries)}
    codes = [places.setdefault(bit, len(places)) for bit in bits]
    return codes, list(places)
