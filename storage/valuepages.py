"""The pages of the value column: each takes the encoding that suits its values."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kernels.missing import NULL_BITS
from kernels.pages import byte_streams
from kernels.value_pages import DICTIONARY_MAX, SLOTS, encode_values, middle, room
from storage.pages import RLE_DICTIONARY, Compressor, Page, levels

Bits = npt.NDArray[np.uint64]

PAGE_ROWS = 16_384
"""A page of sensors with few records holds about as many rows."""

ALONE_ROWS = 4_096
"""A sensor with so many records has pages of its own: two sensors seldom share a Huffman table to advantage."""

RUN_ROWS = 2_048
"""Sensors with fewer records are judged together."""

_NULL = np.uint64(NULL_BITS)


class ValuePages:
    """The value column's pages of one row group after the other.

    Quantised values are numbered by the row group's dictionary, in 8 or 16 bits: zstd's Huffman coder works on whole bytes. Others are
    split into byte streams, or stay plain where doubles repeat that no dictionary holds.
    """

    def __init__(self, compressor: Compressor, *, optional: bool) -> None:
        self._compressor = compressor
        self._optional = optional
        self._entries = np.empty(DICTIONARY_MAX, np.uint64)
        self._slot_of = np.empty(DICTIONARY_MAX, np.int64)
        self._table = np.full(SLOTS, -1, np.int16)
        self._held = 0
        self._pages: list[Page] = []
        self._codes = np.empty(0, np.int32)
        self._body = np.empty(0, np.uint8)

    def add(self, values: npt.NDArray[np.float64]) -> None:
        """Append ``values`` (k, n), sensor by sensor; the array may change afterwards."""
        k, n = values.shape
        bits = np.ascontiguousarray(values).reshape(-1).view(np.uint64)
        rows = np.minimum(np.arange(0, k + max(1, RUN_ROWS // n), max(1, RUN_ROWS // n)), k) * n
        present, held, edges = None, bits, rows
        if self._optional:
            present = bits != _NULL
            held, edges = bits[present], np.concatenate(([0], np.cumsum(present)))[rows]
        found = self._encoded(held, edges, rows, 0 if n >= ALONE_ROWS else PAGE_ROWS)
        for first, last, start, stop, coded in found.tolist():
            begin, end = rows[first], rows[last]
            front = b"" if present is None else levels(present[begin:end])
            body = self._body[start:stop]
            self._pages.append(self._page(front, body, held[edges[first] : edges[last]], int(end - begin), coded=bool(coded)))

    def take(self) -> list[Page]:
        """Return the row group's pages, the dictionary first, and begin the next one's."""
        pages = self._pages
        if self._held:
            entries = self._entries[: self._held]
            pages = [self._compressor.dictionary(entries.tobytes(), entries=self._held), *pages]
            self._table.fill(-1)
        self._pages, self._held = [], 0
        return pages

    def _encoded(self, bits: Bits, edges: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int64]:
        """Return what :func:`kernels.value_pages.encode_values` says of its pages, whose bytes are then in ``_body``."""
        needed = room(len(bits), len(edges))
        if needed > len(self._body):
            self._body, self._codes = np.empty(needed, np.uint8), np.empty(needed // 8, np.int32)
        pages = np.empty((len(edges) - 1, 5), np.int64)
        dictionary = self._entries, self._slot_of, self._table, self._held
        self._held, count = encode_values(bits, edges, rows, most, *dictionary, self._codes, self._body, pages)
        return pages[:count]

    def _page(self, front: bytes, body: npt.NDArray[np.uint8], bits: Bits, rows: int, *, coded: bool) -> Page:
        if coded:
            return self._compressor.page(front + body.tobytes() if front else body, encoding=RLE_DICTIONARY, values=rows)
        if len(body) == 0 and self._repeats(bits):
            return self._compressor.doubles(front + bits.tobytes(), values=rows)
        return self._compressor.streams(front, body.reshape(8, -1) if len(body) else byte_streams(bits), values=rows)

    def _repeats(self, bits: Bits) -> bool:
        """Tell whether a sample of doubles is smaller as it is than split."""
        first, stop = middle(len(bits))
        return self._compressor.size_of_doubles(bits[first:stop]) < self._compressor.size(byte_streams(bits[first:stop]))
