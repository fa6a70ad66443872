"""The twin of ``kernels.pagewalk``: each header is read into a dictionary of its fields."""

from __future__ import annotations

from typing import Any

from kernels.pagewalk import CHECKSUM, DEEPEST, NO_CHECKSUM, SIZE


class Broken(Exception):
    """No page header begins here."""


class _Header:
    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at

    def take(self, count: int) -> bytes:
        if count < 0 or self.at + count > len(self.data):
            raise Broken
        self.at += count
        return self.data[self.at - count : self.at]

    def varint(self) -> int:
        value = 0
        for shift in range(0, 64, 7):
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                return value - (1 << 64 if value >> 63 & 1 else 0)
        raise Broken

    def struct(self, depth: int = 1) -> dict[int, Any]:
        if depth > DEEPEST:
            raise Broken
        fields: dict[int, Any] = {}
        number = 0
        while byte := self.take(1)[0]:
            if byte >> 4 == 0:
                raise Broken
            number += byte >> 4
            fields[number] = self.value(byte & 15, depth)
        return fields

    def value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2):
            return kind == 1
        if kind in (3, 7):
            return self.take(1 if kind == 3 else 8)
        if kind in (4, 5, 6):
            number = self.varint()
            return number >> 1 ^ -(number & 1)
        if kind == 8:
            return self.take(self.varint())
        if kind == 12:
            return self.struct(depth + 1)
        raise Broken


def walk_pages(data: bytes, at: int, end: int) -> tuple[list[tuple[int, int, int]], int]:
    """Return the (start, stop, CRC-32 or NO_CHECKSUM) of all pages, and where the walk ended."""
    pages = []
    while at < end:
        header = _Header(data[:end], at)
        try:
            fields = header.struct()
            size = fields.get(SIZE, -1)
            if type(size) is not int or size < 0 or size > end - header.at:  # a bool is no size
                raise Broken
        except Broken:
            break
        checksum = fields.get(CHECKSUM)
        known = checksum & 0xFFFFFFFF if type(checksum) is int else NO_CHECKSUM
        pages.append((header.at, header.at + size, known))
        at = header.at + size
    return pages, at
