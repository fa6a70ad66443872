"""A strict walk through a Parquet file, written from the specification and without the writer: every byte has its place."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from storage.zstd import zstd

BOOLS, INTEGERS = {1: True, 2: False}, {4, 5, 6}
BINARY, LIST, STRUCT = 8, 9, 12
DATA, DICTIONARY = 0, 2


class Reader:
    """Thrift's compact protocol."""

    def __init__(self, data, at=0):
        self.data, self.at = data, at

    def varint(self):
        value = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def value(self, kind):
        if kind in BOOLS:
            return BOOLS[kind]
        if kind in INTEGERS:
            number = self.varint()
            return number >> 1 ^ -(number & 1)
        if kind == BINARY:
            size = self.varint()
            self.at += size
            return bytes(self.data[self.at - size : self.at])
        if kind == LIST:
            head = self.data[self.at]
            self.at += 1
            count = self.varint() if head >> 4 == 15 else head >> 4
            return [self.value(head & 15) for _ in range(count)]
        assert kind == STRUCT, kind
        return self.struct()

    def struct(self):
        fields, number = {}, 0
        while head := self.data[self.at]:
            self.at += 1
            assert head >> 4, "long form of a field's number"
            number += head >> 4
            fields[number] = self.value(head & 15)
        self.at += 1
        return fields


@dataclass
class WalkedPage:
    """A page as its header tells, and its body as it was before compression."""

    kind: int
    encoding: int
    values: int
    at: int
    body: bytes


def footer(data):
    """Return the footer's fields, and where it begins."""
    assert data[:4] == data[-4:] == b"PAR1"
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    reader = Reader(data, start)
    fields = reader.struct()
    assert reader.at == len(data) - 8, "the footer has another length than it says"
    return fields, start


def walk(data):
    """Return one list of pages a column for each row group; assert that all offsets, sizes, sums and checksums are right."""
    fields, end = footer(data)
    root, *elements = fields[2]
    assert root[5] == len(elements) == len(fields[7])
    assert sum(group[3] for group in fields[4]) == fields[3]
    at, groups = 4, []
    for number, group in enumerate(fields[4]):
        assert (group[5], group[7]) == (at, number)
        columns = []
        for chunk, element in zip(group[1], elements, strict=True):
            meta = chunk[3]
            assert (meta[1], meta[3], meta[4]) == (element[1], [element[4]], 6)
            pages = list(_pages(data, at, at + meta[7]))
            _check(meta, pages, at, group[3])
            at += meta[7]
            columns.append(pages)
        assert group[2] == sum(chunk[3][6] for chunk in group[1])
        assert group[6] == at - group[5]
        groups.append(columns)
    assert at == end, "bytes between the last chunk and the footer"
    return groups


def _check(meta, pages, at, rows):
    described = [page for page, _ in pages]
    data_pages = [page for page in described if page.kind == DATA]
    assert [page.kind for page in described[1:]].count(DICTIONARY) == 0
    assert described[0].at == at
    assert meta[5] == rows == sum(page.values for page in data_pages)
    assert meta[9] == data_pages[0].at
    assert meta.get(11) == (at if described[0].kind == DICTIONARY else None)
    assert meta[6] == sum(raw for _, raw in pages)
    counted = {(stats[1], stats[2]): stats[3] for stats in meta[13]}
    found = [(page.kind, page.encoding) for page in described]
    assert counted == {pair: found.count(pair) for pair in found}
    assert set(meta[2]) == {3, *(encoding for _, encoding in found)}
    assert len(meta[2]) == len(set(meta[2]))


def _pages(data, at, stop):
    """Yield (page, its raw size with the header)."""
    while at < stop:
        reader = Reader(data, at)
        head = reader.struct()
        stored = data[reader.at : reader.at + head[3]]
        assert zlib.crc32(stored) == head[4] % (1 << 32), "checksum"
        body = zstd.decompress(stored)
        assert len(body) == head[2]
        inner = head[5] if head[1] == DATA else head[7]
        assert set(head) == {1, 2, 3, 4, 5 if head[1] == DATA else 7}
        yield WalkedPage(head[1], inner[2], inner[1], at, body), head[2] + reader.at - at
        at = reader.at + head[3]
    assert at == stop, "a page is longer than its chunk"
