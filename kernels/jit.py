"""The one place for jit options.

``kernel`` compiles lazily with the arguments' types and caches the machine code on disk, so that a warm process
starts without a compiler. ``nogil`` lets threads run kernels side by side. No ``fastmath``: it would remove NaN
checks. ``boundscheck`` follows ``NUMBA_BOUNDSCHECK``, and ``NUMBA_DISABLE_JIT=1`` runs every kernel as plain Python.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def _sources_digest() -> str:
    """Return a digest of all kernel sources: an edited helper must never meet a stale cached caller."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def cache_dir() -> Path:
    """Return the per-user, per-version folder for compiled kernels (``LOADLOCK_CACHE`` moves its root)."""
    root = os.environ.get("LOADLOCK_CACHE") or os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    version = f"py{sys.version_info[0]}{sys.version_info[1]}-{_sources_digest()}"
    return Path(root) / "loadlock" / "kernels" / version


os.environ.setdefault("NUMBA_CACHE_DIR", str(cache_dir()))

import numba  # noqa: E402  (the cache folder must be named before numba reads its configuration)


def kernel(function: Callable[..., Any]) -> Any:
    """Compile ``function`` in nopython mode, without the GIL, cached on disk."""
    return numba.njit(nogil=True, cache=True, error_model="numpy")(function)


def inline(function: Callable[..., Any]) -> Any:
    """Compile a small helper that kernels call; LLVM inlines it."""
    return numba.njit(nogil=True, cache=True, error_model="numpy", inline="never")(function)
