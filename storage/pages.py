"""Parquet's pages, column chunks and footer, as bytes (parquet-format 2.x, data page v1, zstd, CRC-32)."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from kernels.pages import WHOLE, rle_hybrid, zigzag
from storage import thrift
from storage.thrift import NEXT_BUT_ONE_I64, NEXT_I32, NEXT_I64, STOP, STRUCT, Field, array, binary, i16, i32, i64, members, struct
from storage.zstd import zstd

P = zstd.CompressionParameter
Options = dict[int, int]

MAGIC = b"PAR1"
CREATED_BY = b"loadlock-pages version 1.0.0"
FORMAT = 2

BOOLEAN, INT32, INT64, DOUBLE, BYTE_ARRAY = 0, 1, 2, 5, 6
PLAIN, RLE, DELTA_BINARY_PACKED, RLE_DICTIONARY, BYTE_STREAM_SPLIT = 0, 3, 5, 8, 9
DATA_PAGE, DICTIONARY_PAGE = 0, 2
REQUIRED, OPTIONAL = 0, 1
ZSTD = 6
"""Numbers of parquet.thrift."""

PHYSICAL: Final = {"BOOLEAN": BOOLEAN, "INTEGER": INT32, "BIGINT": INT64, "TIMESTAMP": INT64, "DOUBLE": DOUBLE, "VARCHAR": BYTE_ARRAY}
"""Type of a table's column -> physical type."""

BYTES_OF: Final = {BOOLEAN: 1, INT32: 4, INT64: 8}

STATISTICS_BYTES_MAX = 4096
"""A longer minimum or maximum is left out, as pyarrow does."""

FAR_WINDOW_LOG = 22
"""How far back repeats are looked for, in powers of two; what a reader must hold of a page to read it."""

FAR_LEVEL = 6
"""Level that is tried on such pages beside the one that is asked for: they are made once for all sensors."""

FASTEST_LEVEL = 2
DOUBLES_MATCH = 5
"""Doubles that are alike share fewer bytes than the matches that zstd's levels up to FASTEST_LEVEL look for."""

THOROUGH = {P.strategy: zstd.Strategy.btopt, P.target_length: 32, P.min_match: 7, P.search_log: 1, P.hash_log: 16, P.chain_log: 14}
THOROUGH_FAR = THOROUGH | {P.min_match: 4, P.search_log: 5, P.hash_log: 14, P.chain_log: 18}
"""Parameters that weigh a match against what its bytes cost without it: byte planes of noise are not torn by chance matches."""

WEIGHING_LEVEL = 16
"""Levels from here on do so themselves."""

BLOCK_BYTES_MAX: Final = 1015
"""zstd's number of its parameter ``ZSTD_c_maxBlockSize`` (experimental: the binding has no name for it)."""

BLOCK_BYTES: Final = (1 << 10, 1 << 17)
"""The least and the greatest value that it takes."""

PART_BYTES: Final = 1 << 20
"""All parts of a file but its last are as large: who writes or hashes lets go of Python's lock for each, who joins them does as well."""


@dataclass(slots=True, eq=False)
class Page:
    """One page, header included: its bytes, and what the chunk's metadata counts. A page equals itself only.

    Not frozen, which would make it four times as long to make one; nobody changes one.
    """

    kind: int
    encoding: int
    values: int
    raw_size: int
    data: tuple[bytes, ...]
    size: int


@dataclass(slots=True)
class Statistics:
    """What a chunk's footer promises: encoded minimum and maximum (None where all is null), and the number of nulls."""

    least: Any = None
    most: Any = None
    nulls: int = 0

    def add(self, least: Any, most: Any, nulls: int) -> None:
        """Take in those of some more values."""
        self.nulls += nulls
        if self.least is None:
            self.least, self.most = least, most
        elif least is not None:
            self.least, self.most = min(self.least, least), max(self.most, most)


@dataclass(slots=True, frozen=True)
class Column:
    """A column of the file's schema; ``time`` marks microseconds without a zone, ``text`` UTF-8."""

    name: str
    physical: int
    optional: bool
    text: bool = False
    time: bool = False

    def element(self) -> Field:
        """Return its SchemaElement."""
        fields = {1: i32(self.physical), 3: i32(OPTIONAL if self.optional else REQUIRED), 4: binary(self.name.encode())}
        if self.text:
            fields |= {6: i32(0), 10: struct({1: struct({})})}
        if self.time:
            micros = struct({2: struct({})})
            fields |= {10: struct({8: struct({1: thrift.boolean(False), 2: micros})})}
        return struct(fields)

    def bound(self, value: Any) -> bytes:
        """Return a minimum or maximum as its plain bytes without a length."""
        if self.physical == BYTE_ARRAY:
            return bytes(value.encode())
        return int(value).to_bytes(BYTES_OF[self.physical], "little", signed=self.physical != BOOLEAN)


@lru_cache(maxsize=1 << 10)
def _end_of_header(kind: int, encoding: int, values: int) -> bytes:
    """Return what stands in a page's header behind its fields 1 to 4, which are numbers."""
    of_all = {1: i32(values), 2: i32(encoding)}
    if kind == DATA_PAGE:
        return members({5: struct(of_all | {3: i32(RLE), 4: i32(RLE)})}, 4) + STOP
    return members({7: struct(of_all)}, 4) + STOP


def _whole(compressor: zstd.ZstdCompressor, body: Any) -> bytes:
    return compressor.compress(body, zstd.ZstdCompressor.FLUSH_FRAME)


class Compressor:
    """Makes pages: compresses with a zstd context for each kind of bytes, and takes the CRC-32 of what is stored."""

    def __init__(self, level: int, *, thorough: bool = False) -> None:
        """Compress at ``level``; ``thorough``: with several times the CPU, for files that are too small for it to matter."""
        thorough = thorough and level < WEIGHING_LEVEL
        plain: Options = {P.compression_level: level}
        doubles = plain | {P.min_match: DOUBLES_MATCH} if level <= FASTEST_LEVEL else plain
        far = [plain | {P.compression_level: each} for each in sorted({level, max(level, FAR_LEVEL)})]
        if thorough:
            plain = plain | THOROUGH
            doubles = plain | {P.min_match: DOUBLES_MATCH}
            far.append(plain | THOROUGH_FAR)
        self._plain: Final = plain
        self._bytes: Final = zstd.ZstdCompressor(options=plain)
        self._doubles: Final = zstd.ZstdCompressor(options=doubles)
        self._far: Final = [zstd.ZstdCompressor(options=each | {P.window_log: FAR_WINDOW_LOG}) for each in far]
        self._blocks: tuple[int, zstd.ZstdCompressor] | None = None

    def size(self, body: Any) -> int:
        """Return the compressed size of ``body``."""
        return len(_whole(self._bytes, body))

    def size_of_doubles(self, body: Any) -> int:
        """Return the compressed size of ``body``, doubles as they are."""
        return len(_whole(self._doubles, body))

    def page(self, body: Any, *, encoding: int, values: int) -> Page:
        """Return a data page of ``values`` values, nulls included."""
        return self._page(DATA_PAGE, encoding, values, len(body), _whole(self._bytes, body))

    def far_page(self, body: bytes, *, encoding: int, values: int) -> Page:
        """Return a data page in which long stretches repeat at long distances.

        A thorough search finds more in the first of them, and may miss that they repeat: the smaller result is taken.
        """
        return self._page(DATA_PAGE, encoding, values, len(body), min((_whole(far, body) for far in self._far), key=len))

    def doubles(self, body: bytes, *, values: int) -> Page:
        """Return a data page of doubles as they are, behind their levels."""
        return self._page(DATA_PAGE, PLAIN, values, len(body), _whole(self._doubles, body))

    def dictionary(self, body: bytes, *, entries: int) -> Page:
        """Return a dictionary page."""
        return self._page(DICTIONARY_PAGE, PLAIN, entries, len(body), _whole(self._doubles, body))

    def streams(self, front: bytes, streams: npt.NDArray[np.uint8], *, values: int) -> Page:
        """Return a data page of byte ``streams`` (8, n) behind ``front``, each in zstd blocks of its own: unlike bytes share no table."""
        n = streams.shape[1]
        fits = BLOCK_BYTES[0] <= n <= BLOCK_BYTES[1]
        stored = self._in_blocks(front, streams) if fits else self._flushed([front, *streams])
        return self._page(DATA_PAGE, BYTE_STREAM_SPLIT, values, len(front) + streams.size, stored)

    def _in_blocks(self, front: bytes, streams: npt.NDArray[np.uint8]) -> bytes:
        n = streams.shape[1]
        if self._blocks is None or self._blocks[0] != n:
            self._blocks = n, zstd.ZstdCompressor(options=self._plain | {BLOCK_BYTES_MAX: n})
        stream = self._blocks[1]
        head = stream.compress(front, stream.FLUSH_BLOCK) if front else b""
        return head + _whole(stream, streams)

    def _flushed(self, bodies: Sequence[Any]) -> bytes:
        """Return a frame of ``bodies`` on end, each in blocks of its own, at the cost of a call for each."""
        stream = self._bytes
        out = [stream.compress(body, stream.FLUSH_BLOCK) for body in bodies]
        out.append(stream.flush(stream.FLUSH_FRAME))
        return b"".join(out)

    def _page(self, kind: int, encoding: int, values: int, raw_size: int, stored: bytes) -> Page:
        crc = zlib.crc32(stored)
        numbers = zigzag(kind), zigzag(raw_size), zigzag(len(stored)), zigzag(crc - (1 << 32) if crc >> 31 else crc)
        header = NEXT_I32 + NEXT_I32.join(numbers) + _end_of_header(kind, encoding, values)
        return Page(kind, encoding, values, raw_size + len(header), (header, stored), len(header) + len(stored))


@dataclass(slots=True)
class Dictionary:
    """A chunk's dictionary; entries are numbered as they come."""

    physical: int
    codes: dict[Any, int] = field(default_factory=dict)

    def of(self, values: Iterable[Any]) -> tuple[int, ...]:
        """Return the codes of ``values``."""
        codes = self.codes
        return tuple([codes.setdefault(value, len(codes)) for value in values])

    def page(self, compressor: Compressor) -> Page:
        """Return the dictionary page."""
        if self.physical == BYTE_ARRAY:
            texts = [str(value).encode() for value in self.codes]
            body = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
        else:
            body = np.fromiter(self.codes, f"<i{BYTES_OF[self.physical]}", len(self.codes)).tobytes()
        return compressor.dictionary(body, entries=len(self.codes))


def code_width(most: int) -> int:
    """Return the bits of codes up to ``most``."""
    return max(1, most.bit_length())


def whole_width(most: int) -> int:
    """Return the bits of codes up to ``most`` in whole bytes."""
    return next(width for width in WHOLE if most < 1 << width)


def levels(present: npt.NDArray[np.bool_], copies: int = 1) -> bytes:
    """Return the definition levels of an optional column's page, ``present`` ``copies`` times on end, their length in front."""
    body = rle_hybrid(present.view(np.uint8), 1, copies)
    return len(body).to_bytes(4, "little") + body


def same_level(present: bool, rows: int) -> bytes:
    """Return the definition levels of a page of ``rows`` rows, all of which are there, or none."""
    return levels(np.full(1, present), rows)


@dataclass(slots=True)
class Description:
    """A ColumnChunk in front of its offsets and behind them, and the sizes of its dictionary page (or 0) and of all pages."""

    front: bytes
    back: bytes
    dictionary: int
    raw: int
    size: int

    def at(self, offset: int) -> Field:
        """Return the ColumnChunk where the first page begins at ``offset``."""
        dictionary = NEXT_BUT_ONE_I64 + zigzag(offset) if self.dictionary else b""
        return STRUCT, b"".join((self.front, NEXT_BUT_ONE_I64, zigzag(offset + self.dictionary), dictionary, self.back))


@lru_cache(maxsize=1 << 10)
def _front_of_chunk(column: Column, encodings: tuple[int, ...]) -> bytes:
    """Return a ColumnChunk up to field 4 of its metadata."""
    fields = {
        1: i32(column.physical),
        2: array(thrift.I32, map(i32, dict.fromkeys([RLE, *encodings]))),
        3: array(thrift.BINARY, [binary(column.name.encode())]),
        4: i32(ZSTD),
    }
    return members({2: i64(0), 3: (STRUCT, members(fields))})


@lru_cache(maxsize=1 << 10)
def _counts(kinds: tuple[tuple[tuple[int, int], int], ...]) -> Field:
    """Return how many pages there are of each (kind, encoding)."""
    return array(thrift.STRUCT, [struct({1: i32(kind), 2: i32(encoding), 3: i32(count)}) for (kind, encoding), count in kinds])


@dataclass(slots=True)
class Chunk:
    """The pages of one column in one row group; the dictionary page, where there is one, stands first."""

    column: Column
    statistics: Statistics | None
    pages: list[Page] = field(default_factory=list)

    def key(self) -> tuple[object, ...]:
        """Return what tells chunks with the same description, but for the offset, from others."""
        found = self.statistics
        bounds = () if found is None else (found.least, found.most, found.nulls)
        return (self.column.name, bounds, *self.pages)

    def describe(self) -> Description:
        """Return its description wherever it begins."""
        kinds: dict[tuple[int, int], int] = {}
        raw = size = values = 0
        for page in self.pages:
            kinds[page.kind, page.encoding] = kinds.get((page.kind, page.encoding), 0) + 1
            raw += page.raw_size
            size += page.size
            if page.kind == DATA_PAGE:
                values += page.values
        front = _front_of_chunk(self.column, tuple(encoding for _, encoding in kinds))
        numbers = front + NEXT_I64 + NEXT_I64.join((zigzag(values), zigzag(raw), zigzag(size)))
        back = {13: _counts(tuple(kinds.items()))}
        if self.statistics is not None:
            back = {12: self._statistics(self.statistics)} | back
        first = self.pages[0]
        dictionary = first.size if first.kind == DICTIONARY_PAGE else 0
        return Description(numbers, members(back, 11 if dictionary else 9) + STOP + STOP, dictionary, raw, size)

    def _statistics(self, found: Statistics) -> Field:
        fields = {3: i64(found.nulls)}
        bounds = {} if found.least is None else {5: self.column.bound(found.most), 6: self.column.bound(found.least)}
        bounds = {number: value for number, value in bounds.items() if len(value) <= STATISTICS_BYTES_MAX}
        fields |= {number: binary(value) for number, value in bounds.items()}
        fields |= {number + 2: thrift.boolean(True) for number in bounds}
        return struct(fields)


class ParquetFile:
    """A file that grows by row groups; once it is finished, ``parts`` are its bytes, to be written one after the other."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = columns
        self.parts: list[bytes] = []
        self.size = len(MAGIC)
        self.rows = 0
        self._stored = [MAGIC]
        self._joined = 0
        self._groups: list[Field] = []
        self._descriptions: dict[tuple[object, ...], Description] = {}

    def add(self, chunks: Sequence[Chunk], rows: int) -> None:
        """Add a row group; ``chunks`` in the order of the columns, each of ``rows`` rows."""
        start = self.size
        described, total = [], 0
        for chunk in chunks:
            key = chunk.key()
            if key not in self._descriptions:
                self._descriptions[key] = chunk.describe()
            description = self._descriptions[key]
            described.append(description.at(self.size))
            total += description.raw
            self.size += description.size
            for page in chunk.pages:
                self._stored += page.data
        group = {1: array(thrift.STRUCT, described), 2: i64(total), 3: i64(rows), 5: i64(start), 6: i64(self.size - start)}
        if len(self._groups) < 1 << 15:
            group[7] = i16(len(self._groups))
        self._groups.append(struct(group))
        if self.size - self._joined >= PART_BYTES:
            self._join()
        self.rows += rows

    def finish(self) -> None:
        """Add the footer."""
        root = struct({3: i32(REQUIRED), 4: binary(b"schema"), 5: i32(len(self.columns))})
        fields = {
            1: i32(FORMAT),
            2: array(thrift.STRUCT, [root, *(column.element() for column in self.columns)]),
            3: i64(self.rows),
            4: array(thrift.STRUCT, self._groups),
            6: binary(CREATED_BY),
            7: array(thrift.STRUCT, [struct({1: struct({})})] * len(self.columns)),
        }
        footer = struct(fields)[1]
        self._stored += [footer, len(footer).to_bytes(4, "little"), MAGIC]
        self.size += len(footer) + 8
        self._join()

    def _join(self) -> None:
        self.parts.append(b"".join(self._stored))
        self._stored.clear()
        self._joined = self.size
