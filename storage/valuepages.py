"""The pages of the value column: each takes the encoding that suits its values."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kernels.missing import NULL_BITS
from kernels.pages import DICTIONARY_MAX, SLOTS, byte_streams, coded_size, number_values, packed
from storage.pages import RLE_DICTIONARY, Compressor, Page, levels

Bits = npt.NDArray[np.uint64]

PAGE_ROWS = 16_384
"""A page of sensors with few records holds about as many rows."""

ALONE_ROWS = 4_096
"""A sensor with so many records has pages of its own: two sensors seldom share a Huffman table to advantage."""

RUN_ROWS = 2_048
"""Sensors with fewer records are judged together."""

REPEATS = 16
"""Values take a dictionary where each entry stands for as many of them."""

SAMPLE, SAMPLED = 1_024, 16
"""A trial takes so many values, or one in so many where those are more."""

ENTRIES_UNTRIED = 128
ENTRY_BYTES = 3
"""So many new entries need no trial; each takes so many bytes."""

LOOKED_AT = 256
"""So many values tell whether a sensor's were float32."""

FLOAT32_REST = np.uint64((1 << 29) - 1)
"""The bits of a double that are 0 where it was a float32."""

_NULL = np.uint64(NULL_BITS)


def _middle(n: int) -> slice:
    """Return what a trial takes of ``n`` values."""
    size = max(SAMPLE, n // SAMPLED)
    start = max(0, n - size) // 2
    return slice(start, min(n, start + size))


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
        self._waiting: list[tuple[Bits, npt.NDArray[np.int32] | None]] = []
        self._rows = 0

    def add(self, values: npt.NDArray[np.float64]) -> None:
        """Append ``values`` (k, n), sensor by sensor; the array may change afterwards."""
        k, n = values.shape
        together = max(1, RUN_ROWS // n)
        for first in range(0, k, together):
            bits = np.ascontiguousarray(values[first : first + together]).reshape(-1).view(np.uint64)
            codes = self._numbered(bits)
            if self._waiting and ((codes is None) != (self._waiting[0][1] is None) or self._rows + len(bits) > PAGE_ROWS):
                self._flush()
            self._waiting.append((bits, codes))
            self._rows += len(bits)
            if n >= ALONE_ROWS:
                self._flush()
        self._flush()

    def take(self) -> list[Page]:
        """Return the row group's pages, the dictionary first, and begin the next one's."""
        pages = self._pages
        if self._held:
            entries = self._entries[: self._held]
            pages = [self._compressor.dictionary(entries.tobytes(), entries=self._held), *pages]
            self._table.fill(-1)
        self._pages, self._held = [], 0
        return pages

    def _numbered(self, bits: Bits) -> npt.NDArray[np.int32] | None:
        """Return the codes of the values that are not NULL, or None where a dictionary does not pay."""
        held = bits[bits != _NULL] if self._optional else bits
        codes = np.empty(len(held), np.int32)
        size = int(number_values(held, self._entries, self._slot_of, self._table, self._held, len(held) // REPEATS, codes))
        if size <= 0:
            return None
        if size - self._held > ENTRIES_UNTRIED and self._dearer(held, codes, size - self._held):
            self._table[self._slot_of[self._held : size]] = -1
            return None
        self._held = size
        return codes

    @staticmethod
    def _dearer(bits: Bits, codes: npt.NDArray[np.int32], new: int) -> bool:
        """Tell whether ``new`` entries and ``codes`` are larger than the values' byte streams, by the entropy of a sample's bytes."""
        some = _middle(len(bits))
        sample = bits[some]
        entries = new * ENTRY_BYTES * len(sample) // len(bits)
        numbers = coded_size(codes[some].astype("<u2").view(np.uint8), 1)
        return bool(entries + numbers > coded_size(sample.view(np.uint8), sample.itemsize))

    def _flush(self) -> None:
        if not self._waiting:
            return
        bits = self._waiting[0][0] if len(self._waiting) == 1 else np.concatenate([run for run, _ in self._waiting])
        numbered = [codes for _, codes in self._waiting if codes is not None]
        self._waiting, self._rows = [], 0
        rows, front = len(bits), b""
        if self._optional:
            present = bits != _NULL
            front, bits = levels(present), bits[present]
        if numbered:
            self._pages.append(self._dictionary_page(front, numbered[0] if len(numbered) == 1 else np.concatenate(numbered), rows))
        elif self._repeats(bits):
            self._pages.append(self._compressor.doubles(front + bits.tobytes(), values=rows))
        else:
            self._pages.append(self._compressor.streams(front, byte_streams(bits), values=rows))

    def _dictionary_page(self, front: bytes, codes: npt.NDArray[np.int32], rows: int) -> Page:
        width = 8 if self._held <= 1 << 8 or len(codes) == 0 or codes.max() < 1 << 8 else 16
        return self._compressor.page(front + bytes((width,)) + packed(codes, width), encoding=RLE_DICTIONARY, values=rows)

    def _repeats(self, bits: Bits) -> bool:
        """Tell whether a sample of doubles that were no float32 is smaller as it is than split."""
        sample = bits[_middle(len(bits))]
        if not (sample[:LOOKED_AT] & FLOAT32_REST).any():
            return False
        return self._compressor.size_of_doubles(sample) < self._compressor.size(byte_streams(sample))
