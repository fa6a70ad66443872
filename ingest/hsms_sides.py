"""Values of S6F1 that stand beside the doubles, to ``Texts``: whole columns at a time, odd encodings once per distinct text."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ingest.hsms_frames import byte_ranges
from ingest.items import BLANKS, INTEGER, NUMBER, jis_text, localized_text, plain_text
from ingest.records import Float64, Int64, Samples
from kernels.secs_values import SIDE_JIS, SIDE_LOCALIZED, SIDE_NUMBER, SIDE_SIGNED, SIDE_UNSIGNED
from storage.texts import NO_TEXTS, Texts, texts_of

Bytes = npt.NDArray[np.uint8]

EXACT = 1 << 53


def side_text(kind: int, raw: bytes) -> tuple[float | None, str | None]:
    """Return (the number, or None where it is none; the text to keep, or None) of one text."""
    text = localized_text(raw) if kind == SIDE_LOCALIZED else jis_text(raw) if kind == SIDE_JIS else plain_text(raw)
    number = text.strip(BLANKS)
    if kind not in (SIDE_NUMBER, SIDE_LOCALIZED) or not (number.isascii() and NUMBER.fullmatch(number)):
        return None, text or None
    value = float(number)
    beyond = INTEGER.fullmatch(number) and (abs(value) > EXACT or (abs(value) == EXACT and int(number.lstrip("+-0")) > EXACT))
    return value, number if beyond else None


def texts_beside(sides: Int64, buf: Bytes, value_start: Int64, values: Samples) -> Texts:
    """Return the texts of the messages of a stretch by ``sides`` (SIDE, s), and write into ``values`` the numbers among them."""
    if not sides.shape[1]:
        return NO_TEXTS
    message, position, kind, a, length = sides
    text = pa.nulls(len(kind), pa.string())
    for which, integers in ((SIDE_SIGNED, a), (SIDE_UNSIGNED, a.view(np.uint64))):
        text = _put(text, kind == which, pa.array(integers[kind == which]).cast(pa.string()))
    spelled = np.flatnonzero((kind != SIDE_SIGNED) & (kind != SIDE_UNSIGNED))
    if len(spelled):
        raw = byte_ranges(buf, a[spelled], a[spelled] + length[spelled])
        number, kept = _read(kind[spelled], raw)
        found = np.flatnonzero(~np.isnan(number))
        at = spelled[found]
        values[value_start[message[at]] + position[at]] = number[found]
        text = _put(text, (kind != SIDE_SIGNED) & (kind != SIDE_UNSIGNED), kept)
    held = np.flatnonzero(text.is_valid().to_numpy(zero_copy_only=False))
    return texts_of(message[held], position[held], text.take(pa.array(held)))


def _put(column: Any, mask: npt.NDArray[np.bool_], texts: Any) -> Any:
    return pc.replace_with_mask(column, pa.array(mask), texts) if mask.any() else column


def _read(kind: Int64, raw: pa.BinaryArray) -> tuple[Float64, pa.StringArray]:
    """Return (the number or NaN, the text to keep or null) of each text."""
    number = np.full(len(kind), np.nan)
    plain = (kind != SIDE_JIS) & (kind != SIDE_LOCALIZED)
    try:
        text = raw.cast(pa.string()) if plain.all() else None
    except pa.ArrowInvalid:  # Latin-1 somewhere
        text = None
    if text is None:
        return _read_distinct(kind, raw)
    odd = kind == SIDE_NUMBER
    if odd.any():
        some = pa.array(odd)
        number[odd], kept = _read_numbers(text.filter(some), raw.filter(some))
        text = pc.replace_with_mask(text, some, kept)
    return number, text


def _read_numbers(text: pa.StringArray, raw: pa.BinaryArray) -> tuple[Float64, pa.StringArray]:
    """Read texts that the kernel has found to be numbers of many digits; integers that no double says exactly are kept as well."""
    trimmed = pc.utf8_trim(text, BLANKS)
    try:
        number: Float64 = pc.utf8_ltrim(trimmed, "+").cast(pa.float64()).to_numpy()
    except pa.ArrowInvalid:  # beyond the range of doubles
        return _read_distinct(np.full(len(text), SIDE_NUMBER), raw)
    size = np.abs(number)
    if (size == EXACT).any():
        return _read_distinct(np.full(len(text), SIDE_NUMBER), raw)
    beyond = pc.and_(pc.match_substring_regex(trimmed, f"^{INTEGER.pattern}$"), pa.array(size > EXACT))
    return number, pc.if_else(beyond, trimmed, pa.scalar(None, pa.string()))


def _read_distinct(kind: Int64, raw: pa.BinaryArray) -> tuple[Float64, pa.StringArray]:
    """Read each distinct (kind, text) once."""
    coded = raw.dictionary_encode()
    pairs, which = np.unique(coded.indices.to_numpy().astype(np.int64) << 8 | kind, return_inverse=True)
    distinct = coded.dictionary.take(pa.array(pairs >> 8)).to_pylist()
    found = [side_text(k, text) for k, text in zip((pairs & 255).tolist(), distinct, strict=True)]
    numbers = np.asarray([np.nan if value is None else value for value, _ in found])
    return numbers[which], pa.array([text for _, text in found], pa.string()).take(pa.array(which))
