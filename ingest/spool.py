"""Statistics that wait on disk for the end of their batch, so that a batch of any size needs no more memory."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import numpy as np

from ingest.records import Float64
from ingest.tracefile import Reduced
from storage.points import reached

IN_MEMORY_BYTES = 8 << 20


class Spool:
    """An unnamed temporary file beside the lake's data."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._waiting: list[Reduced] = []
        self._bytes = 0

    def add(self, pieces: Iterable[Reduced]) -> None:
        """Take note of new pieces, and move all that wait to the file when they are too many."""
        for piece in pieces:
            self._waiting.append(piece)
            self._bytes += piece.statistics.nbytes
        if self._bytes > IN_MEMORY_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115  (it lives as long as the batch)
            weakref.finalize(self, self._file.close)  # a batch ends in many ways, also by what went wrong
        self._file.seek(0, 2)
        for piece in self._waiting:
            piece.spooled = (self._file.tell(), piece.statistics.shape)
            self._file.write(np.ascontiguousarray(piece.statistics).tobytes())
            piece.statistics = np.empty((0, 0))
        self._waiting, self._bytes = [], 0
        reached("spooled")

    def load(self, piece: Reduced) -> Float64:
        """Return the statistics (k, 13) of ``piece``, wherever they are."""
        if piece.spooled is None:
            return piece.statistics
        assert self._file is not None
        offset, shape = piece.spooled
        self._file.seek(offset)
        return np.frombuffer(self._file.read(8 * shape[0] * shape[1]), np.float64).reshape(shape)
