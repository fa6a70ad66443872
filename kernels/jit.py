"""The one place for jit options.

``kernel`` compiles lazily with the arguments' types and caches the machine code on disk, so that a warm process
starts without a compiler; a cold one begins with what :mod:`kernels.lowered` has, where that fits. ``nogil`` lets
threads run kernels side by side. No ``fastmath``: it would remove NaN checks. ``boundscheck`` follows
``NUMBA_BOUNDSCHECK``, and ``NUMBA_DISABLE_JIT=1`` runs every kernel as plain Python.
"""

from __future__ import annotations

import fcntl
import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import NullCache, UserProvidedCacheLocator

from kernels import helpers, lowered
from kernels.sealed import SealedFile


def cache_dir() -> Path:
    """Return the per-user, per-version folder for compiled kernels (``LOADLOCK_CACHE`` moves its root)."""
    root = os.environ.get("LOADLOCK_CACHE") or os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    version = f"py{sys.version_info[0]}{sys.version_info[1]}-{lowered.sources_digest()}"
    return Path(root) / "loadlock" / "kernels" / (version + ("-boundscheck" if numba.config.BOUNDSCHECK else ""))


FOLDER = cache_dir()
"""The folder of this process."""

KERNELS: dict[str, Any] = {}
"""Kernels by module and name, those of modules that were imported."""


def is_cold() -> bool:
    """Tell whether no kernel of this version was ever compiled for this user."""
    return not FOLDER.exists()


class CacheLocator(UserProvidedCacheLocator):  # type: ignore[misc]  # numba comes without types
    """Tells numba where compiled kernels are: in our folder, wherever loadlock is installed, also where it is read-only, as in an image."""

    def __init__(self, py_func: Callable[..., Any], py_file: str) -> None:
        self._py_file = py_file
        self._lineno = py_func.__code__.co_firstlineno

    def get_cache_path(self) -> str:
        """Return the folder."""
        return str(FOLDER)

    def get_source_stamp(self) -> str:
        """Return what the sources are, not when they were installed: environments of one version share their kernels."""
        return lowered.sources_digest()

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> CacheLocator:
        """Return the locator of one function."""
        return cls(py_func, py_file)


@contextmanager
def _located() -> Iterator[None]:
    """Let numba ask :class:`CacheLocator` for the functions that are decorated meanwhile, and for no others."""
    before = numba.config.CACHE_LOCATOR_CLASSES
    numba.config.CACHE_LOCATOR_CLASSES = f"{__name__}.{CacheLocator.__name__}"
    try:
        yield
    finally:
        numba.config.CACHE_LOCATOR_CLASSES = before


_turn = threading.RLock()
_depth = 0


@contextmanager
def _compiling() -> Iterator[None]:
    """Let one process at a time compile: the others wait and then find the machine code in the cache.

    Meanwhile Python does not look for cycles: a sixth of numba's time goes into looking through what it builds and keeps.
    """
    global _depth  # noqa: PLW0603  (kernels compile their helpers: only the outermost takes the lock)
    with _turn:
        _depth += 1
        fd, collecting = -1, gc.isenabled()
        gc.disable()
        try:
            if _depth == 1:
                try:
                    FOLDER.mkdir(parents=True, exist_ok=True)
                    fd = os.open(FOLDER / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                    fcntl.flock(fd, fcntl.LOCK_EX)
                except OSError:
                    fd = -1  # a folder that can't be written holds no cache either: each process compiles for itself
            yield
        finally:
            _depth -= 1
            if collecting:
                gc.enable()
            if fd >= 0:
                os.close(fd)


def _guard(dispatcher: Any) -> Any:
    compile_one = dispatcher.compile

    def guarded(signature: tuple[Any, ...]) -> Any:
        with _compiling():
            try:
                return compile_one(signature)
            except OSError:  # the folder can't be read, or does not take what was compiled, which then serves this process only
                dispatcher._cache = NullCache()
                return compile_one(signature)

    dispatcher.compile = guarded
    return dispatcher


def _known_inside(dispatcher: Any, name: str) -> Any:
    """Let a numba whose internals are known seal its cache, and begin with what :mod:`kernels.lowered` has, if that fits."""
    cache = dispatcher._cache
    cache._cache_file = SealedFile(cache.cache_path, cache._impl.filename_base, cache._impl.locator.get_source_stamp())
    compile_source = dispatcher._compiler.compile

    def compile_one(types: tuple[Any, ...], result: Any) -> Any:
        return lowered.load(name, types, dispatcher.targetctx) or compile_source(types, result)

    dispatcher._compiler.compile = compile_one
    return dispatcher


def _name(function: Callable[..., Any]) -> str:
    return f"{function.__module__.partition('.')[2]}.{function.__name__}"


def _kernel(function: Callable[..., Any], **options: Any) -> Any:
    """Compile ``function`` at its first call, in nopython mode, without the GIL, cached on disk under a lock."""
    if numba.config.DISABLE_JIT:
        return function
    pipeline = {"pipeline_class": helpers.KernelPipeline} if helpers.FITS else {}
    with _located():
        dispatcher = numba.njit(nogil=True, cache=True, error_model="numpy", **pipeline, **options)(function)
    return _guard(_known_inside(dispatcher, _name(function)) if helpers.FITS else dispatcher)


def _known(function: Callable[..., Any], kernel: Any) -> Any:
    if not numba.config.DISABLE_JIT:
        KERNELS[_name(function)] = kernel
    return kernel


def _helper(function: Callable[..., Any], **options: Any) -> Any:
    """Compile ``function`` into each kernel that calls it; where Python calls it, it is a kernel."""
    if numba.config.DISABLE_JIT or not helpers.FITS:
        return _kernel(function, **options)
    return helpers.helper(function, _kernel(function, **options), error_model="numpy", **options)


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a kernel, which Python calls."""
    return _known(function, _kernel(function))


def lean_kernel(function: Callable[..., Any]) -> Any:
    """Compile a kernel that creates no array, as :func:`leaf` is."""
    return _known(function, _kernel(function, _nrt=False))


def inline(function: Callable[..., Any]) -> Any:
    """Compile a small helper that kernels call; LLVM inlines it."""
    return _helper(function)


def leaf(function: Callable[..., Any]) -> Any:
    """Compile a helper that creates no array, without numba's run time for memory.

    No reference counts are then kept on arrays that travel from kernel to helper. They are atomic additions and cost more than a short
    message's decoding. A set literal needs that run time: compare with tuples.
    """
    return _helper(function, _nrt=False)


def inlined(function: Callable[..., Any]) -> Any:
    """Compile as ``leaf`` does and let LLVM put the body in place of each call: passing a dozen arrays costs more than a short body."""
    return _helper(function, _nrt=False, forceinline=True)
