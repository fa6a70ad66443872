"""Numba's cache on disk, each file with a digest over what it holds: one that a full disk or a lost power cut short is compiled anew.

Numba would raise as it reads such a file, or run what is in it. Two methods a file kind of its cache are replaced, which are no public
interface: ``helpers.FITS`` says which release they were read from.
"""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

from numba.core.caching import IndexDataCacheFile

DIGEST_BYTES = 32


class SealedFile(IndexDataCacheFile):  # type: ignore[misc]  # numba comes without types
    """Index and data files of one kernel: SHA-256 over numba's version, the sources' stamp and the content, then the content."""

    def _digest(self, body: bytes) -> bytes:
        return hashlib.sha256(f"{self._version} {self._source_stamp}\n".encode() + body).digest()

    def _seal(self, path: str, content: object) -> None:
        body = self._dump(content)
        with self._open_for_write(path) as file:
            file.write(self._digest(body) + body)

    def _unseal(self, path: str) -> Any:
        sealed = Path(path).read_bytes()
        digest, body = sealed[:DIGEST_BYTES], sealed[DIGEST_BYTES:]
        return pickle.loads(body) if digest == self._digest(body) else None

    def _save_index(self, overloads: dict[Any, str]) -> None:
        self._seal(self._index_path, overloads)

    def _load_index(self) -> dict[Any, str]:
        try:
            return self._unseal(self._index_path) or {}
        except FileNotFoundError:
            return {}

    def _save_data(self, name: str, data: Any) -> None:
        self._seal(self._data_path(name), data)

    def _load_data(self, name: str) -> Any:
        return self._unseal(self._data_path(name))
