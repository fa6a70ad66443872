"""A command that runs beside the test: its lines as they come, signals, and the writer lock held against it."""

from __future__ import annotations

import fcntl
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

PATIENCE_S = 60.0


def eventually(true: Callable[[], bool], what: str) -> None:
    """Wait until ``true`` holds; fail with ``what`` if it never does."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.02)


class Running:
    """``loadlock`` as a process that goes on; a context manager that leaves none behind."""

    def __init__(self, *arguments: object, **environment: str) -> None:
        self.child = subprocess.Popen(
            [sys.executable, "-m", "loadlock.cli", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"LOADLOCK_ACTOR": "tests"} | environment,
        )
        self.out: list[str] = []
        self.err: list[str] = []
        self._new: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._readers = [
            threading.Thread(target=self._read, args=(stream, lines), daemon=True)
            for stream, lines in ((self.child.stdout, self.out), (self.child.stderr, self.err))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: IO[str] | None, lines: list[str]) -> None:
        assert stream is not None
        for line in stream:
            lines.append(line.rstrip("\n"))
            if lines is self.out:
                self._new.put(lines[-1])

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()
        for reader in self._readers:
            reader.join()
        for stream in (self.child.stdout, self.child.stderr):
            assert stream is not None
            stream.close()

    def line(self) -> str:
        """The next line of standard output."""
        return self._new.get(timeout=PATIENCE_S)

    def batch(self) -> dict[str, Any]:
        """The next line as a JSON object."""
        found = json.loads(self.line())
        assert isinstance(found, dict)
        return found

    def said(self, words: str) -> None:
        """Wait until standard error holds ``words``."""
        eventually(lambda: words in "\n".join(self.err) or self.child.poll() is not None, words)
        assert words in "\n".join(self.err), self.err

    def end(self, number: int | None = None) -> int:
        """Send a signal, if one is given, and return the exit code."""
        if number is not None:
            self.child.send_signal(number)
        code = self.child.wait(timeout=PATIENCE_S)
        for reader in self._readers:
            reader.join()
        return code


@contextmanager
def lock_held(lake: Path) -> Iterator[None]:
    """Hold the lake's writer lock, so that whoever has staged a batch waits before its commit."""
    with open(lake / "lock", "rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def data_files(lake: Path) -> set[str]:
    """The names of the lake's data files, temporary ones too."""
    return {path.relative_to(lake).as_posix() for path in (lake / "data").rglob("*") if path.is_file()}
