"""A folder in which deliveries land: which of its files are whole, which are still being written, which were taken already."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class Shape(NamedTuple):
    """What changes when a file is written to, or replaced."""

    size: int
    mtime_ns: int
    inode: int


@dataclass(slots=True)
class Seen:
    """A file since its shape is what it is. ``from_s``: when it may be offered; ``taken``: it needs not be looked at again."""

    shape: Shape
    from_s: float
    taken: bool = False


class Landing:
    """The files below ``folder``. A file is whole when its shape has not changed for ``settle_s``; an empty one never is.

    Links that lead outside are refused, links to folders are not followed, hidden files stay out. Times are seconds of one clock that
    never goes back, and come in as arguments.
    """

    def __init__(self, folder: Path, settle_s: float) -> None:
        self._folder = folder
        self._settle_s = settle_s
        self._files: dict[str, Seen] = {}
        self._told: set[str] = set()
        self._news: list[str] = []

    def scan(self, now_s: float) -> None:
        """Look at every file; forget those that are gone."""
        found: dict[str, Seen] = {}
        faults: set[str] = set()
        for path, shape in self._walk(faults):
            known = self._files.get(path)
            found[path] = known if known and known.shape == shape else Seen(shape, now_s + self._settle_s)
        self._files = found
        self._news += sorted(faults - self._told)
        self._told = faults

    def _walk(self, faults: set[str]) -> Iterator[tuple[str, Shape]]:
        root = os.path.realpath(self._folder)
        folders = [str(self._folder)]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(folder) as listing:
                    entries = sorted((entry for entry in listing if not entry.name.startswith(".")), key=lambda entry: entry.name)
            except OSError as error:
                faults.add(f"{folder}: can't be listed ({error.strerror}); its files are taken once it can")
                continue
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                    continue
                fault, shape = _look(entry, root)
                if fault:
                    faults.add(fault)
                elif shape is not None:
                    yield entry.path, shape

    def ready(self, now_s: float) -> list[str]:
        """Return the whole files that are to be taken now, in order of their names."""
        return sorted(path for path, seen in self._files.items() if not seen.taken and seen.shape.size and seen.from_s <= now_s)

    def unchanged(self, path: str) -> bool:
        """Tell whether a file still is what the last scan saw."""
        try:
            return path in self._files and _shape(os.stat(path)) == self._files[path].shape
        except OSError:
            return False

    def size(self, path: str) -> int:
        """Return the size that the last scan saw."""
        return self._files[path].shape.size

    def take(self, path: str) -> None:
        """Note that a file needs not be looked at again, unless it changes."""
        self._files[path].taken = True

    def put_off(self, path: str, until_s: float) -> None:
        """Leave a file where it is until ``until_s``."""
        self._files[path].from_s = until_s

    @property
    def waiting(self) -> int:
        """Files that are still being written, or were put off."""
        return sum(not seen.taken for seen in self._files.values())

    def news(self) -> list[str]:
        """Return what was refused or can't be read, each once as long as it stays so."""
        news, self._news = self._news, []
        return news


def _shape(found: os.stat_result) -> Shape:
    return Shape(found.st_size, found.st_mtime_ns, found.st_ino)


def _look(entry: os.DirEntry[str], root: str) -> tuple[str | None, Shape | None]:
    """Return (why it is refused, None), (None, its shape), or nothing at all where it is no file."""
    try:
        if entry.is_symlink():
            target = os.path.realpath(entry.path)
            if os.path.commonpath((target, root)) != root:
                return f"{entry.path}: refused, a symbolic link that leads outside of the watched folder; deliver the file itself", None
            if not os.path.isfile(target):
                return None, None
        found = entry.stat()
    except FileNotFoundError:  # gone since it was listed
        return None, None
    except OSError as error:
        return f"{entry.path}: can't be looked at ({error.strerror})", None
    return None, _shape(found) if stat.S_ISREG(found.st_mode) else None
