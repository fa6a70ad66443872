"""One data file against what was recorded of it: its bytes read once, for SHA-256 and page checksums alike; rows and key ranges."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from kernels.pagewalk import NO_CHECKSUM, walk_pages
from storage.points import reached

KEYS = ("tool", "ts", "seq", "window_id", "payload_id")
"""The columns whose ranges the catalog prunes by: a wrong one hides rows."""

MAGIC = b"PAR1"
TAIL_BYTES = 8
PAGES = 1 << 16


@dataclass(slots=True)
class Recorded:
    """What catalog and ledger keep of a file: its table, the ledger's record of it (None: none), the catalog's rows and size.

    ``ranges``: column -> (least, greatest) as the catalog's text.
    """

    path: str
    table: str
    entry: Mapping[str, Any] | None
    rows: int
    size: int
    ranges: dict[str, tuple[str | None, str | None]] = field(default_factory=dict)


class FileCheck:
    """Checks files one after the other in one buffer, which is as large as the largest of them."""

    def __init__(self) -> None:
        self._room = np.empty(1 << 20, np.uint8)
        self._pages = np.empty((PAGES, 3), np.int64)

    def fault(self, path: Path, recorded: Recorded, *, quick: bool) -> str | None:
        """Return what is wrong with the file at ``path``; ``quick`` looks at its presence and size alone."""
        entry = recorded.entry
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            return "missing"
        except OSError as error:
            return f"unreadable: {error}"
        if entry is None:
            return "no ledger entry names this file"
        if size != entry["size"] or recorded.size != entry["size"]:
            return f"{size} bytes on disk, {entry['size']} in the ledger, {recorded.size} in the catalog"
        if quick:
            return None
        try:
            data = self._read(path, size)
        except OSError as error:
            return f"unreadable: {error}"
        if data is None:
            return "it changed while it was read"
        if hashlib.sha256(data.data).hexdigest() != entry["sha256"]:
            page = self._page_fault(data)
            return "its SHA-256 is not the one in the ledger" + (f" ({page})" if page else "")
        return self._page_fault(data) or _content_fault(data, recorded)

    def _read(self, path: Path, size: int) -> npt.NDArray[np.uint8] | None:
        if len(self._room) < size:
            self._room = np.empty(size, np.uint8)
        data = self._room[:size]
        view = data.data
        at = 0
        with open(path, "rb", buffering=0) as file:
            while at < size and (count := file.readinto(view[at:])):
                at += count
        reached("file_proven")
        return data if at == size else None

    def _page_fault(self, data: npt.NDArray[np.uint8]) -> str | None:
        """Return the first page that is not what its checksum says."""
        view = data.data
        if bytes(view[:4]) != MAGIC or bytes(view[-4:]) != MAGIC:
            return "it does not begin and end as a Parquet file does"
        at, end = len(MAGIC), len(data) - TAIL_BYTES - int.from_bytes(view[-TAIL_BYTES:-4], "little")
        if not at <= end:
            return "its footer is longer than the file"
        while at < end:
            count, stop = walk_pages(data, at, end, self._pages)
            for start, after, known in self._pages[:count].tolist():
                if known == NO_CHECKSUM:
                    return f"the page at byte {start} has no checksum"
                if zlib.crc32(view[start:after]) != known:
                    return f"the page at byte {start} does not have its checksum"
            if count == 0:
                return f"no page begins at byte {stop}"
            at = stop
        return None


def _content_fault(data: npt.NDArray[np.uint8], recorded: Recorded) -> str | None:
    """Compare rows and key ranges as the file's footer, the ledger and the catalog tell them."""
    assert recorded.entry is not None
    try:
        footer = pq.read_metadata(pa.BufferReader(pa.py_buffer(data)))
    except (pa.ArrowException, OSError) as error:
        return f"unreadable: {error}"
    known = recorded.entry["rows"]
    if footer.num_rows != known or recorded.rows != known:
        return f"{footer.num_rows} rows in the file, {known} in the ledger, {recorded.rows} in the catalog"
    names = footer.schema.names
    for column in KEYS:
        if column in names and column in recorded.ranges:
            told, found = recorded.ranges[column], _range(footer, names.index(column))
            if found is not None and None not in told and tuple(map(_typed, told, found)) != found:
                return f"{column} runs from {found[0]} to {found[1]} in the file, from {told[0]} to {told[1]} in the catalog"
    return None


def _range(footer: Any, column: int) -> tuple[Any, Any] | None:
    """Return (least, greatest) over all row groups, None where a row group does not tell."""
    least, greatest = [], []
    for number in range(footer.num_row_groups):
        found = footer.row_group(number).column(column).statistics
        if found is None:
            return None
        if found.has_min_max:
            least.append(found.min)
            greatest.append(found.max)
        elif found.null_count != found.num_values + found.null_count:
            return None
    return (min(least), max(greatest)) if least else None


def _typed(text: str | None, like: Any) -> Any:
    """Return the catalog's ``text`` as a value of the type of ``like``, or as it is where it can't be one."""
    assert text is not None
    try:
        return datetime.fromisoformat(text) if isinstance(like, datetime) else type(like)(text)
    except ValueError:
        return text
