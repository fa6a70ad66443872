"""Encodings of Parquet pages (parquet-format, Encodings.md): byte streams, runs and packed bits, packed deltas.

The first sees every value and is compiled; the others see what many sensors share, so that numpy is fast enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.jit import kernel
from kernels.loads import put64
from kernels.runs import begins

BLOCK = 128
"""The values of a block of DELTA_BINARY_PACKED are a multiple of it."""

WHOLE = {8: "<u1", 16: "<u2", 32: "<u4"}
"""Widths of codes in whole bytes."""

_WORDS = 0x0000_0000_FFFF_FFFF
_PAIRS = 0x0000_FFFF_0000_FFFF
_BYTES = 0x00FF_00FF_00FF_00FF


@kernel
def split_bytes(bits, out):
    """Fill ``out`` (uint8 (8 n,)) with byte 0 of each of ``bits`` (uint64 (n,)), then byte 1 of each, and so on.

    An 8 x 8 matrix of bytes is transposed by halves: blocks of four, two and one byte change places. The last matrix may overlap the one
    before it.
    """
    n = len(bits)
    if n < 8:
        for i in range(n):
            for b in range(8):
                out[b * n + i] = (bits[i] >> np.uint64(8 * b)) & np.uint64(255)
        return
    word = np.zeros(8, np.uint64)
    for column in range((n + 7) // 8):
        first = min(8 * column, n - 8)
        for i in range(8):
            word[i] = bits[first + i]
        for i in range(4):
            swap = ((word[i] >> np.uint64(32)) ^ word[i + 4]) & np.uint64(_WORDS)
            word[i + 4] ^= swap
            word[i] ^= swap << np.uint64(32)
        for half in range(4):
            i = half + (half & 2)
            swap = ((word[i] >> np.uint64(16)) ^ word[i + 2]) & np.uint64(_PAIRS)
            word[i + 2] ^= swap
            word[i] ^= swap << np.uint64(16)
        for half in range(4):
            i = 2 * half
            swap = ((word[i] >> np.uint64(8)) ^ word[i + 1]) & np.uint64(_BYTES)
            word[i + 1] ^= swap
            word[i] ^= swap << np.uint64(8)
        for b in range(8):
            put64(out, b * n + first, word[b])


def byte_streams(bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8]:
    """Return (8, n) uint8: byte ``b`` of each of ``bits`` (uint64 (n,)) at [b] (BYTE_STREAM_SPLIT)."""
    out = np.empty(8 * len(bits), np.uint8)
    split_bytes(bits, out)
    return out.reshape(8, -1)


def varint(value: int) -> bytes:
    """Return ``value`` (not negative) as an unsigned LEB128 number."""
    if value < 1 << 7:
        return bytes((value,))
    if value < 1 << 14:
        return bytes((value & 127 | 128, value >> 7))
    if value < 1 << 21:
        return bytes((value & 127 | 128, value >> 7 & 127 | 128, value >> 14))
    if value < 1 << 28:
        return bytes((value & 127 | 128, value >> 7 & 127 | 128, value >> 14 & 127 | 128, value >> 21))
    return bytes((value & 127 | 128, value >> 7 & 127 | 128, value >> 14 & 127 | 128, value >> 21 & 127 | 128)) + varint(value >> 28)


def zigzag(value: int) -> bytes:
    """Return a 64-bit signed ``value`` as a zigzag number."""
    return varint(value << 1 if value >= 0 else ~(value << 1))


def same_runs(codes: Sequence[int], repeats: int, width: int) -> bytes:
    """Return ``codes`` of ``width`` bits, each ``repeats`` times, as runs of the RLE hybrid."""
    head, size = varint(repeats << 1), (width + 7) // 8
    return b"".join([head + code.to_bytes(size, "little") for code in codes])


def runs(codes: npt.NDArray[Any], repeats: npt.NDArray[np.int64], width: int) -> bytes:
    """Return ``codes`` (integers (r,) of ``width`` bits), code ``i`` ``repeats[i]`` times, as runs of the RLE hybrid."""
    size = (width + 7) // 8
    return b"".join(varint(n << 1) + code.to_bytes(size, "little") for code, n in zip(codes.tolist(), repeats.tolist(), strict=True))


def packed(codes: npt.NDArray[Any], width: int) -> bytes:
    """Return ``codes`` (integers (n,) of ``width`` bits, 0 to 32) as one bit-packed run of the RLE hybrid."""
    groups = (len(codes) + 7) // 8
    if groups == 0:
        return b""
    body = codes.astype(WHOLE[width]).tobytes() if width in WHOLE else pack_bits(codes.astype(np.uint64).reshape(1, -1), width).tobytes()
    return b"".join((varint(groups << 1 | 1), body, bytes(groups * width - len(body))))


def rle_hybrid(codes: npt.NDArray[Any], width: int, copies: int = 1) -> bytes:
    """Return ``codes`` (integers (n,) of ``width`` bits), ``copies`` times on end, as runs or bit-packed, whichever is shorter.

    The runs of every copy are the same bytes.
    """
    n = len(codes)
    edges = begins(codes)
    if len(edges) == 1:
        return same_runs(codes[:1].tolist(), n * copies, width)
    if len(edges) * ((width + 7) // 8 + 2) <= n * width // 8 + 4:
        return runs(codes[edges], np.diff(edges, append=n), width) * copies
    return packed(np.tile(codes, copies) if copies > 1 else codes, width)


def pack_bits(values: npt.NDArray[np.uint64], width: int) -> npt.NDArray[np.uint8]:
    """Return the low ``width`` bits of ``values`` (uint64 (m, n)) packed, least significant first: uint8 (m, ceil(n * width / 8))."""
    m, n = values.shape
    octets = np.ascontiguousarray(values, "<u8").view(np.uint8).reshape(m, n, 8)
    bits = np.unpackbits(octets, axis=2, count=width, bitorder="little")
    return np.packbits(bits.reshape(m, n * width), axis=1, bitorder="little")


def delta_bytes(values: npt.NDArray[np.int64], copies: int = 1) -> bytes:
    """Return ``values`` (int64 (n,)), ``copies`` times on end, as DELTA_BINARY_PACKED; differences wrap around as int64 do.

    All differences make one block of one miniblock, in whole bytes: every copy is the same bytes, which packed bits would hide from zstd.
    """
    n, total = len(values), len(values) * copies
    block = max(1, -(-(total - 1) // BLOCK)) * BLOCK
    head = varint(block) + varint(1) + varint(total) + zigzag(int(values[0]) if total else 0)
    if total < 2:
        return head
    above = np.empty(n, np.int64)
    np.subtract(values[1:], values[:-1], out=above[:-1])
    np.subtract(values[:1], values[-1:], out=above[-1:])  # from a copy to the next one
    used = above if copies > 1 else above[:-1]
    least = int(used.min())
    used -= least
    width = (int(used.view(np.uint64).max()).bit_length() + 7) // 8
    copy = np.ascontiguousarray(above.astype("<i8", copy=False).view(np.uint8).reshape(n, 8)[:, :width]).tobytes()
    rest = bytes((block - total + 1) * width)
    return b"".join((head, zigzag(least), bytes((8 * width,)), copy * (copies - 1), copy[: (n - 1) * width], rest))
