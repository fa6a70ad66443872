"""The writer lock: ``flock`` on ``LAKE/lock``, a file that is created once and never removed; and marks of batches that run."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.errors import Busy
from storage.points import reached

POLL_S = 0.1
"""The longest that a waiting thread does not look up."""

Waiting = Callable[[], None]
"""Called while a lock is waited for; what it raises ends the wait."""


def on_and_on() -> None:
    """Wait as long as patience lasts."""


@contextmanager
def in_turn(turn: threading.Lock, wait_s: float, waiting: Waiting = on_and_on) -> Iterator[None]:
    """Hold ``turn``, which the threads of a process share: they need not poll for the file."""
    deadline = time.monotonic() + wait_s
    while not turn.acquire(timeout=max(0.0, min(POLL_S, deadline - time.monotonic()))):
        waiting()
        if time.monotonic() >= deadline:
            raise Busy(
                f"another worker of this process has held the writer lock for {wait_s:g} s; nothing was changed. Run the same command again"
            )
    try:
        yield
    finally:
        turn.release()


@contextmanager
def writer_lock(path: Path, wait_s: float, waiting: Waiting = on_and_on) -> Iterator[None]:
    """Hold the lake's writer lock; raise :class:`Busy` when it was not to be had within ``wait_s`` seconds."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        reached("lock_opened")
        _acquire(fd, path, wait_s, waiting)
        yield
    finally:
        os.close(fd)


def _acquire(fd: int, path: Path, wait_s: float, waiting: Waiting) -> None:
    deadline = time.monotonic() + wait_s
    pause_s = 0.002
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            waiting()
            if time.monotonic() >= deadline:
                raise Busy(
                    f"{path}: another process has held the writer lock for {wait_s:g} s; nothing was changed. "
                    "Run the same command again, or give it more patience with --wait SECONDS"
                ) from None
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, POLL_S)


class Mark:
    """A locked file in ``LAKE/staging`` while a batch has files staged; they are all younger than it. A dead process holds no lock."""

    def __init__(self, root: Path, name: str) -> None:
        self.path = root / "staging" / name
        self.path.parent.mkdir(exist_ok=True)
        self._file = open(self.path, "wb")  # noqa: SIM115  (it is open as long as the batch has files)
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def remove(self) -> None:
        """End the mark."""
        try:
            self.path.unlink(missing_ok=True)
        finally:
            self._file.close()
        reached("mark_removed")


def running_since(root: Path, stale_s: float) -> float | None:
    """Return when the oldest batch that still runs staged its first file (None: none runs); marks of dead ones before ``stale_s`` go."""
    oldest: float | None = None
    for path in sorted((root / "staging").glob("*")):
        try:
            with open(path, "rb") as file:
                begun = os.fstat(file.fileno()).st_mtime
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    if begun < stale_s:
                        path.unlink(missing_ok=True)
                        reached("stale_mark_removed")
                        continue
                except BlockingIOError:
                    pass
        except FileNotFoundError:
            continue
        oldest = begun if oldest is None else min(oldest, begun)
    return oldest
