"""The writer lock: ``flock`` on ``LAKE/lock``, a file that is created once and never removed."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.errors import Busy


@contextmanager
def in_turn(turn: threading.Lock, wait_s: float) -> Iterator[None]:
    """Hold ``turn``, which the threads of a process share: they need not poll for the file."""
    if not turn.acquire(timeout=max(0.0, wait_s)):
        raise Busy(
            f"another worker of this process has held the writer lock for {wait_s:g} s; nothing was changed. Run the same command again"
        )
    try:
        yield
    finally:
        turn.release()


@contextmanager
def writer_lock(path: Path, wait_s: float) -> Iterator[None]:
    """Hold the lake's writer lock; raise :class:`Busy` when it was not to be had within ``wait_s`` seconds."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _acquire(fd, path, wait_s)
        yield
    finally:
        os.close(fd)


def _acquire(fd: int, path: Path, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    pause_s = 0.002
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise Busy(
                    f"{path}: another process has held the writer lock for {wait_s:g} s; nothing was changed. "
                    "Run the same command again, or give it more patience with --wait SECONDS"
                ) from None
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 0.1)
