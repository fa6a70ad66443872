"""The pages of the value column: each takes the encoding that suits its values."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kernels.missing import NULL_BITS
from kernels.pages import (
    DICTIONARY_MAX,
    FLOAT32_REST,
    HEAD_BYTES,
    LOOKED_AT,
    SLOTS,
    byte_streams,
    encode_values,
    judge_values,
    middle,
    packed,
)
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
        self._body = np.empty(HEAD_BYTES + 16, np.uint8)
        self._waiting: list[tuple[Bits, npt.NDArray[np.int32] | None]] = []
        self._rows = 0

    def add(self, values: npt.NDArray[np.float64]) -> None:
        """Append ``values`` (k, n), sensor by sensor; the array may change afterwards."""
        k, n = values.shape
        if n >= ALONE_ROWS:
            for sensor in values:
                self._add_page(sensor)
            return
        together = max(1, RUN_ROWS // n)
        for first in range(0, k, together):
            bits = np.ascontiguousarray(values[first : first + together]).reshape(-1).view(np.uint64)
            codes = self._numbered(bits)
            if self._waiting and ((codes is None) != (self._waiting[0][1] is None) or self._rows + len(bits) > PAGE_ROWS):
                self._flush()
            self._waiting.append((bits, codes))
            self._rows += len(bits)
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

    def _add_page(self, values: npt.NDArray[np.float64]) -> None:
        """Append a page of ``values`` (n,) alone: what it takes is one call, for each lets another thread have Python's lock."""
        bits = np.ascontiguousarray(values).view(np.uint64)
        front, held = self._present(bits)
        n = len(held)
        if len(self._codes) < n:
            self._codes, self._body = np.empty(n, np.int32), np.empty(HEAD_BYTES + 8 * n + 16, np.uint8)
        size, start, stop = encode_values(held, self._entries, self._slot_of, self._table, self._held, self._codes[:n], self._body)
        body = self._body[start:stop]
        if size > 0:
            self._held = size
            self._pages.append(self._compressor.page(front + body.tobytes() if front else body, encoding=RLE_DICTIONARY, values=len(bits)))
        elif stop > start:
            self._pages.append(self._compressor.streams(front, body.reshape(8, -1), values=len(bits)))
        else:
            self._pages.append(self._without_dictionary(front, held, len(bits)))

    def _numbered(self, bits: Bits) -> npt.NDArray[np.int32] | None:
        """Return the codes of the values that are not NULL, or None where a dictionary does not pay."""
        held = bits[bits != _NULL] if self._optional else bits
        codes = np.empty(len(held), np.int32)
        size = int(judge_values(held, self._entries, self._slot_of, self._table, self._held, codes))
        if size < 0:
            return None
        self._held = size
        return codes

    def _flush(self) -> None:
        if not self._waiting:
            return
        bits = self._waiting[0][0] if len(self._waiting) == 1 else np.concatenate([run for run, _ in self._waiting])
        numbered = [codes for _, codes in self._waiting if codes is not None]
        self._waiting, self._rows = [], 0
        front, held = self._present(bits)
        if numbered:
            codes = numbered[0] if len(numbered) == 1 else np.concatenate(numbered)
            width = 8 if len(codes) == 0 or codes.max() < 1 << 8 else 16
            body = front + bytes((width,)) + packed(codes, width)
            self._pages.append(self._compressor.page(body, encoding=RLE_DICTIONARY, values=len(bits)))
        else:
            self._pages.append(self._without_dictionary(front, held, len(bits)))

    def _present(self, bits: Bits) -> tuple[bytes, Bits]:
        """Return the definition levels of ``bits``, where there are any, and those that are not NULL."""
        if not self._optional:
            return b"", bits
        present = bits != _NULL
        return levels(present), bits[present]

    def _without_dictionary(self, front: bytes, held: Bits, rows: int) -> Page:
        if self._repeats(held):
            return self._compressor.doubles(front + held.tobytes(), values=rows)
        return self._compressor.streams(front, byte_streams(held), values=rows)

    def _repeats(self, bits: Bits) -> bool:
        """Tell whether a sample of doubles that were no float32 is smaller as it is than split."""
        first, stop = middle(len(bits))
        sample = bits[first:stop]
        if not (sample[:LOOKED_AT] & np.uint64(FLOAT32_REST)).any():
            return False
        return self._compressor.size_of_doubles(sample) < self._compressor.size(byte_streams(sample))
