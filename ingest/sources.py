"""What is to be ingested: files, folders, standard input or bytes, each with what it was found to be."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from ingest.config import Config
from ingest.errors import Unreadable, UsageError, readable
from storage.points import reached

FORMATS = ("hsms", "table")


@dataclass(slots=True)
class Delivery:
    """One payload before it is read. ``data`` holds it where it has no file of its own."""

    source: str
    path: Path | None
    data: bytes | None
    size: int
    format: str
    mapping: str | None
    tool: str | None
    captured: dict[str, str] = field(default_factory=dict)
    key: str | None = None
    replays: tuple[str, ...] = ()
    """The quarantine entries whose bytes these are."""
    dialect: dict[str, Any] | None = None
    """What was settled about the file that these rows were cut from: see ``ingest.formats.table``."""
    opened: Callable[[], BinaryIO] | None = None
    """How to open bytes that are neither in memory nor in a file of their own."""

    @property
    def has_place(self) -> bool:
        """Tell whether the bytes stay somewhere when they are not taken: in a file, or in the quarantine."""
        return self.path is not None or bool(self.replays)

    def open(self) -> BinaryIO:
        """Open the delivered bytes."""
        if self.data is not None:
            return io.BytesIO(self.data)
        if self.opened is not None:
            return self.opened()
        assert self.path is not None
        with readable(self.source):
            reached("payload_opening")
            return open(self.path, "rb")


@dataclass(slots=True, frozen=True)
class Skipped:
    """A file that is nothing to ingest. ``named`` tells that the caller named it itself."""

    source: str
    reason: str
    named: bool


def walk(sources: Iterable[Path]) -> Iterator[tuple[Path, bool]]:
    """Yield (file, named by the caller) of files and, recursively and sorted, of folders; hidden files stay out."""
    for source in sources:
        if source.is_dir():
            for folder, names, files in os.walk(source):
                names[:] = sorted(name for name in names if not name.startswith("."))
                for name in sorted(files):
                    if not name.startswith("."):
                        yield Path(folder) / name, False
        elif source.exists() or source.is_symlink():
            yield source, True
        else:
            raise UsageError(f"{source}: no such file or folder")


def deliveries(
    sources: Iterable[Path], config: Config, *, tool: str | None = None, format: str | None = None, key: str | None = None
) -> Iterator[Delivery | Skipped]:
    """Tell for every file what it is: by ``tool`` and ``format`` where given, else by the configuration's sources."""
    for path, named in walk(sources):
        if str(path) == "-":
            continue
        found = identify(path.absolute(), config, tool=tool, format=format)
        if isinstance(found, str):
            yield Skipped(str(path), found, named)
            continue
        kind, mapping, captured = found
        try:
            size = regular_size(path)
        except Unreadable as error:
            yield Skipped(str(path), str(error), named)
            continue
        yield Delivery(str(path), path, None, size, kind, mapping, tool or captured.get("tool"), captured, key)


def regular_size(path: Path) -> int:
    """Return the size of a file, links followed; raise :class:`Unreadable` for a device (it never ends) or a pipe."""
    with readable(str(path)):
        state = path.stat()
    if not stat.S_ISREG(state.st_mode):
        raise Unreadable(f"{path}: a pipe or a device, and no file")
    return state.st_size


def identify(path: Path, config: Config, *, tool: str | None, format: str | None) -> tuple[str, str | None, dict[str, str]] | str:
    """Return (format, table mapping, captures) of a file, or the reason why it can't be told."""
    match = config.match(path)
    captured = dict(match.captured) if match else {}
    kind = format or (match.format if match else None)
    if kind is None:
        return "matches no [[sources]] pattern; give --tool and --format, or add a pattern"
    if kind not in FORMATS:
        raise UsageError(f"--format {kind}: not one of {', '.join(FORMATS)}")
    mapping = match.table if match and match.format == kind else None
    if kind == "table" and mapping is None:
        if len(config.tables) != 1:
            return f"no [[sources]] pattern tells which of the {len(config.tables)} [tables] it is"
        mapping = next(iter(config.tables))
    if not (tool or captured.get("tool") or (mapping and config.tables[mapping].tool)):
        return "no tool can be told from its path; give --tool, or capture {tool} in its pattern"
    return kind, mapping, captured


def from_bytes(data: bytes, config: Config, *, tool: str | None, format: str | None, key: str | None, source: str) -> Delivery:
    """Return bytes in memory (or standard input) as a delivery."""
    kind = format or "hsms"
    if kind not in FORMATS:
        raise UsageError(f"format {kind}: not one of {', '.join(FORMATS)}")
    mapping = None
    if kind == "table":
        if len(config.tables) != 1:
            raise UsageError(
                f"{source}: a table without a path needs a configuration with exactly one [tables] entry, found {len(config.tables)}"
            )
        mapping = next(iter(config.tables))
    if tool is None and not (mapping and config.tables[mapping].tool):
        raise UsageError(f"{source}: no tool can be told; give --tool NAME")
    return Delivery(source, None, data, len(data), kind, mapping, tool, {}, key)
