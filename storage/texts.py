"""Texts that stand beside the values of records: text values, and integers that no double says exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kernels.sequence import same_content

Int64 = npt.NDArray[np.int64]
Int32 = npt.NDArray[np.int32]


@dataclass(slots=True, frozen=True)
class Texts:
    """``t`` texts of records, those of a record together.

    ``record``: int64 (t,), ascending; ``position``: int32 (t,) from 0, ascending in a record; ``text``: (t,), without nulls.
    """

    record: Int64
    position: Int32
    text: pa.StringArray

    def __len__(self) -> int:
        """Return ``t``."""
        return len(self.record)

    def places(self, records: Int64) -> tuple[Int64, Int64]:
        """Return where the texts of each of ``records`` begin, and how many they are."""
        start = np.searchsorted(self.record, records)
        return start, np.searchsorted(self.record, records, side="right") - start

    def select(self, records: Int64) -> Texts:
        """Return the texts of ``records`` (in any order), numbered by their place in it."""
        if not len(self):
            return self
        return _gathered(self, *self.places(records))

    def of(self, record: int) -> tuple[tuple[int, str], ...]:
        """Return the (position, text) of one record."""
        a, b = np.searchsorted(self.record, [record, record + 1]).tolist()
        return tuple(zip(self.position[a:b].tolist(), self.text[a:b].to_pylist(), strict=True))


NO_TEXTS = Texts(np.empty(0, np.int64), np.empty(0, np.int32), pa.array([], pa.string()))


def texts_of(record: Int64, position: Int64 | Int32, text: pa.StringArray) -> Texts:
    """Return texts that were met in any order."""
    if not len(record):
        return NO_TEXTS
    if (np.diff(record) < 0).any() or ((np.diff(record) == 0) & (np.diff(position) < 0)).any():
        order = np.lexsort((position, record))
        record, position, text = record[order], position[order], text.take(pa.array(order))
    return Texts(record, position.astype(np.int32), text)


def joined(parts: Sequence[Texts], counts: Sequence[int]) -> Texts:
    """Join the texts of stretches that hold ``counts`` records each; records count on."""
    first = np.cumsum([0, *counts])[:-1].tolist()
    some = [(part, base) for part, base in zip(parts, first, strict=True) if len(part)]
    if not some:
        return NO_TEXTS
    return Texts(
        np.concatenate([part.record + base for part, base in some]),
        np.concatenate([part.position for part, _ in some]),
        pa.concat_arrays([part.text for part, _ in some]),
    )


def same_texts(some: Texts, record: Int64, others: Texts, other: Int64) -> npt.NDArray[np.bool_]:
    """Tell for each pair (``record[i]`` of ``some``, ``other[i]`` of ``others``) whether their texts are the same."""
    (start, count), (other_start, other_count) = some.places(record), others.places(other)
    same: npt.NDArray[np.bool_] = count == other_count
    pair = np.flatnonzero(same & (count > 0))
    if len(pair):
        ours, theirs = _gathered(some, start[pair], count[pair]), _gathered(others, other_start[pair], other_count[pair])
        code = pa.concat_arrays([ours.text, theirs.text]).dictionary_encode().indices.to_numpy().astype(np.int64)
        marks = code << 32 | np.concatenate([ours.position, theirs.position])
        begin = np.cumsum(count[pair]) - count[pair]
        same[pair] = same_content(marks[: len(ours)], begin, count[pair], marks[len(ours) :], begin, count[pair])
    return same


def _gathered(texts: Texts, start: Int64, count: Int64) -> Texts:
    """Return the texts at the places, those of place i as record i."""
    owner = np.repeat(np.arange(len(start)), count)
    at = np.arange(len(owner)) + (start - (np.cumsum(count) - count))[owner]
    return Texts(owner, texts.position[at], texts.text.take(pa.array(at)))
