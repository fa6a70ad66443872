"""Text fields as columns: dictionary codes, doubles, integers and times, whatever container held them."""

from __future__ import annotations

from collections.abc import Set
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ingest.formats.clock import BLANKS, Clock, TextCells, Times, scaled
from ingest.records import Float64, Int64
from kernels import text, text_number
from kernels.text_number import EXACT, LONG, MISSING, SLOW, TEXT, WIDE

INT64 = np.iinfo(np.int64)


class Coded(NamedTuple):
    """One column of text: int64[n] codes into ``texts``, in order of appearance; None stands for bytes that are no UTF-8."""

    codes: Int64
    texts: list[str | None]

    def among(self, wanted: Set[str | None] | Set[str], prefix: str = "") -> npt.NDArray[np.bool_]:
        """Return bool[n]: which texts, after ``prefix``, are ``wanted``."""
        found = [code for code, text in enumerate(self.texts) if (text if text is None else prefix + text) in wanted]
        return np.isin(self.codes, found) if found else np.zeros(len(self.codes), np.bool_)


class Numbers(NamedTuple):
    """``k`` columns of doubles, float64[n, k], and beside them the texts that are to be kept: (row, column of k, text), by row."""

    values: Float64
    row: Int64
    column: Int64
    texts: pa.StringArray


class Integers(NamedTuple):
    """One column of int64[n]; bool[n] tells which could be read."""

    values: Int64
    sound: npt.NDArray[np.bool_]


class Fields:
    """``n`` rows of ``width`` text fields. ``decimal`` is the decimal mark; the texts of ``missing`` stand for no value."""

    def __init__(
        self,
        buffer: npt.NDArray[np.uint8],
        starts: npt.NDArray[np.integer],
        stops: npt.NDArray[np.integer],
        width: int,
        n: int,
        decimal: str,
        missing: tuple[str, ...],
    ) -> None:
        self.n = n
        self.decimal = decimal
        self._table = (buffer, starts, stops, width)
        entries = [entry.encode().strip(BLANKS) for entry in missing]
        self._missing = np.frombuffer(b"".join(entries), np.uint8)
        self._missing_stops = np.cumsum([len(entry) for entry in entries], dtype=np.int64)

    def cells(self, column: int) -> TextCells:
        """Return one column's fields."""
        return TextCells(*self._table, column, self.n)

    def show(self, row: int, column: int) -> str:
        """Return one field for a message."""
        found = self.cells(column).text(row)
        return "bytes that are no UTF-8" if found is None else f"'{found[:80]}'"

    def codes(self, column: int) -> Coded:
        """Give numbers to the distinct stripped texts of one column."""
        codes = np.empty(self.n, np.int64)
        firsts = np.empty(self.n, np.int64)
        count = text.encode(*self._table, column, codes, firsts)
        cells = self.cells(column)
        return Coded(codes, [cells.text(row) for row in firsts[:count].tolist()])

    def numbers(self, columns: Int64) -> Numbers:
        """Read ``k`` columns as doubles; what is no number is NULL with its text beside, what is missing is NULL."""
        values, kinds, odd = self.kinds(columns)
        if not odd:
            return Numbers(values, _NOTHING, _NOTHING, _NO_TEXT)
        rows, places = np.nonzero(kinds & (TEXT | WIDE | SLOW))
        by_column = np.argsort(places, kind="stable")
        some, first = np.unique(places[by_column], return_index=True)
        parts = []
        for place, here in zip(some.tolist(), np.split(by_column, first[1:]), strict=True):
            coded = self.codes(int(columns[place]))
            parts.append(pa.array(coded.texts, pa.string()).take(pa.array(coded.codes[rows[here]])))
        back = np.empty(len(rows), np.int64)
        back[by_column] = np.arange(len(rows))
        texts = pa.concat_arrays(parts).take(pa.array(back))
        found = kinds[rows, places]
        slow = np.flatnonzero(found & SLOW)
        for index, number in zip(slow.tolist(), texts.take(pa.array(slow)).to_pylist(), strict=True):
            if number is not None:
                values[rows[index], places[index]] = float(number.replace(self.decimal, "."))
        kept = np.flatnonzero(found & (TEXT | WIDE))
        return Numbers(values, rows[kept], places[kept], texts.take(pa.array(kept)))

    def kinds(self, columns: Int64) -> tuple[Float64, npt.NDArray[np.uint8], int]:
        """Return the doubles, how each field was read (``kernels.text_number``), and how many are neither a number nor missing."""
        values = np.empty((self.n, len(columns)), np.float64)
        kinds = np.empty((self.n, len(columns)), np.uint8)
        odd = text_number.parse_numbers(*self._table, columns, ord(self.decimal), self._missing, self._missing_stops, values, kinds)
        return values, kinds, odd

    def integers(self, column: int) -> Integers:
        """Read one column as 64-bit integers; ``7.0`` is one, ``7.5`` and an empty field are none."""
        values = np.empty(self.n, np.int64)
        kinds = np.empty(self.n, np.uint8)
        text_number.parse_scaled(*self._table, column, ord(self.decimal), 1, 0, values, kinds)
        sound = kinds == EXACT
        cells = self.cells(column)
        for row in np.flatnonzero(kinds == LONG).tolist():
            found = scaled((cells.text(row) or "").replace(self.decimal, "."), 1, 0)
            if found is not None and found[1] and INT64.min <= found[0] <= INT64.max:
                values[row], sound[row] = found[0], True
        return Integers(values, sound)

    def times(self, column: int, clock: Clock) -> Times:
        """Read one column by ``clock``."""
        return clock.read(self.cells(column))

    def numeric(self, columns: Int64) -> npt.NDArray[np.bool_]:
        """Tell for each of ``k`` columns whether all its fields are numbers or missing."""
        _, kinds, _ = self.kinds(columns)
        return np.asarray(((kinds & TEXT) == 0).all(axis=0))

    def empty(self, columns: Int64) -> npt.NDArray[np.bool_]:
        """Tell for each of ``k`` columns whether all its fields are missing."""
        _, kinds, _ = self.kinds(columns)
        return np.asarray((kinds == MISSING).all(axis=0))


_NOTHING = np.zeros(0, np.int64)
_NO_TEXT = pa.array([], pa.string())
