"""What lies in a folder of deliveries: captures of which tools, tables of which kinds, and the patterns that tell them."""

from __future__ import annotations

import os
import re
import struct
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ingest.config import Limits, match_path, strip_compression
from ingest.sources import walk
from ingest.survey_captures import ToolSeen, look_at_captures
from ingest.survey_tables import Sheet, TableSeen, look_at_table, read_sheet
from ingest.unpack import Unpacked

HEAD_BYTES = 1 << 18
TEXTS = (".csv", ".tsv", ".tab", ".txt", ".dat", ".log")
CAPTURED = ("tool", "chamber", "lot", "wafer", "recipe", "step")
_KEYWORD = re.compile(rf"(?i)(?<![a-z])({'|'.join(CAPTURED)})([_=-]?)([a-z]{{0,3}}\d[a-z0-9]*)")
_LIKE_A_TOOL = re.compile(r"(?i)[a-z]+[a-z_-]*\d+[a-z]?")


@dataclass(slots=True)
class Kind:
    """Tables of one kind: the same columns. ``patterns`` tell their files, ``captured`` is what their paths give."""

    name: str
    seen: TableSeen
    files: list[PurePosixPath]
    patterns: list[str] = field(default_factory=list)
    captured: set[str] = field(default_factory=set)
    guessed: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Survey:
    """What was found in ``folder``. ``left``: files that were not understood, each with the reason."""

    folder: Path
    tools: dict[str, ToolSeen] = field(default_factory=dict)
    patterns: list[str] = field(default_factory=list)
    kinds: list[Kind] = field(default_factory=list)
    left: list[tuple[str, str]] = field(default_factory=list)


def survey(folder: Path, limits: Limits) -> Survey:
    """Look at every file of ``folder``; nothing is written."""
    found = Survey(folder)
    root = folder.absolute()
    captures: dict[str, list[PurePosixPath]] = defaultdict(list)
    sheets: dict[tuple[tuple[str, ...], bool], list[tuple[PurePosixPath, Sheet]]] = defaultdict(list)
    every: list[PurePosixPath] = []
    for path, _ in walk([root]):
        place = PurePosixPath(os.fsencode(path.relative_to(root)).decode("utf-8", "replace"))
        every.append(place)
        head, whole, reason = _head(path)
        suffix = PurePosixPath(strip_compression(place.name)).suffix.lower()
        if reason:
            found.left.append((str(place), reason))
        elif looks_like_hsms(head, limits) or suffix == ".hsms":
            captures[place.parts[0] if len(place.parts) > 1 else root.name].append(place)
        elif suffix not in TEXTS:
            found.left.append((str(place), "no HSMS frames at its beginning, and its name is not that of a text table"))
        elif (sheet := read_sheet(head, whole, str(place), limits)) is None:
            found.left.append((str(place), "no table was recognised: no delimiter cuts its lines alike, or columns share a name"))
        else:
            sheets[sheet.columns, sheet.header].append((place, sheet))
    for tool, places in captures.items():
        found.tools[tool] = look_at_captures(tool, [root / place for place in places], limits)
    found.patterns = capture_patterns(root.name, [place for places in captures.values() for place in places])
    for members in sheets.values():
        _kind(found, root, members, every)
    return found


def _head(path: Path) -> tuple[bytes, bool, str | None]:
    """Return the first bytes of a file, unpacked, whether they are all, and why it can't be read."""
    try:
        if not path.is_file():
            return b"", True, "a pipe or a device, and no file"
        with open(path, "rb") as file:
            head = next(iter(Unpacked().read(file)), b"")
    except OSError as error:
        return b"", True, str(error.strerror)
    return head[:HEAD_BYTES], len(head) <= HEAD_BYTES, None if head.strip() else "empty"


def looks_like_hsms(head: bytes, limits: Limits) -> bool:
    """Tell whether ``head`` begins with whole HSMS headers (E37): a length, presentation type 0, a session type below 10."""
    at = frames = 0
    while at + 14 <= len(head) and frames < 8:
        (size,) = struct.unpack_from(">I", head, at)
        if not 10 <= size <= limits.frame_bytes or head[at + 8] != 0 or head[at + 9] > 9:
            return False
        at, frames = at + 4 + size, frames + 1
    return frames > 0


def capture_patterns(root: str, places: list[PurePosixPath]) -> list[str]:
    """Return patterns that take the tool from the first folder below ``root``, or from ``root`` where files lie there."""
    depths = sorted({len(place.parts) for place in places}, reverse=True)
    found = []
    for depth in depths:
        names = {PurePosixPath(strip_compression(place.name)).suffix for place in places if len(place.parts) == depth}
        folders = "{tool}/" + "*/" * max(0, depth - 2)
        anchor = f"{_plain(root)}/" if len(depths) > 1 and depth > 1 else ""
        found += [f"{anchor}{folders}*{_plain(suffix)}" for suffix in sorted(names)]
    return found


def _kind(found: Survey, root: Path, members: list[tuple[PurePosixPath, Sheet]], every: list[PurePosixPath]) -> None:
    """Add the tables of one kind: judged by the file with the most rows, told apart by their paths."""
    places = [place for place, _ in members]
    seen = look_at_table(max((sheet for _, sheet in members), key=lambda sheet: len(sheet.rows)))
    if seen.time is None or not seen.sensors:
        lack = "no column looks like a time" if seen.time is None else "no column holds numbers beside time and context"
        found.left += [(str(place), f"{lack}; columns: {', '.join(seen.sheet.columns[:12])}") for place in places]
        return
    kind = Kind(_name(root.name, places, {other.name for other in found.kinds}), seen, places)
    for depth in sorted({len(place.parts) for place in places}, reverse=True):
        mine = [place for place in places if len(place.parts) == depth]
        kind.patterns.append(_pattern(kind, mine, [place for place in every if place not in set(places)]))
    found.kinds.append(kind)


def _name(root: str, places: list[PurePosixPath], taken: set[str]) -> str:
    folders = {place.parent.name for place in places}
    stem = next(iter(folders)) if len(folders) == 1 and folders != {""} else root
    name = re.sub(r"[^a-z0-9]+", "_", stem.casefold()).strip("_") or "table"
    return next(wanted for number in range(1, len(taken) + 2) if (wanted := name if number == 1 else f"{name}_{number}") not in taken)


def _pattern(kind: Kind, places: list[PurePosixPath], strangers: list[PurePosixPath]) -> str:
    """Return the pattern of files that lie equally deep; of its forms the first that takes no stranger."""
    time = kind.seen.time
    apart = time is not None and time.restarts  # each file begins anew: its name must tell it from the others
    folders = [_folder(kind, [place.parts[level] for place in places], apart) for level in range(len(places[0].parts) - 1)]
    names = [strip_compression(place.name) for place in places]
    forms = ["/".join([*folders, name]) for name in _file_names(kind, names, apart and len(places) > 1)]
    for form in forms:
        if not any(match_path(form, Path("/") / stranger) is not None for stranger in strangers):
            return form
    return forms[0]


def _capture(kind: Kind, name: str, *, guess: bool = True) -> bool:
    """Tell whether ``name`` is to be captured from the path, and note it: not where a column gives it, nor twice."""
    has_column = kind.seen.tool if name == "tool" else kind.seen.chamber if name == "chamber" else kind.seen.context.get(name)
    if has_column is not None or name in kind.captured:
        return False
    kind.captured.add(name)
    if guess:
        kind.guessed.add(name)
    return True


def _folder(kind: Kind, names: list[str], apart: bool) -> str:
    """Return the pattern of one folder level."""
    if len(set(names)) == 1 and not _LIKE_A_TOOL.fullmatch(names[0]):
        return _plain(names[0])
    worded = _worded(kind, names)
    if worded is not None:
        return worded
    if all(_LIKE_A_TOOL.fullmatch(name) for name in names) and _capture(kind, "tool"):
        return "{tool}"
    if len(set(names)) == 1:
        return _plain(names[0])
    return "{lot}" if apart and _capture(kind, "lot") else "*"


def _worded(kind: Kind, names: Iterable[str]) -> str | None:
    """Return the pattern that words like ``wafer_7`` in all names give, None where they give no common one."""
    words = {match[1].lower() for name in names for match in _KEYWORD.finditer(name)}
    mine = {word for word in words if word not in kind.captured and _capture(kind, word, guess=False)}
    forms = {_KEYWORD.sub(lambda m: f"{m[1]}{m[2]}{{{m[1].lower()}}}" if m[1].lower() in mine else m[0], _plain(name)) for name in names}
    if mine and len(forms) == 1:
        return forms.pop()
    kind.captured -= mine
    return None


def _file_names(kind: Kind, names: list[str], apart: bool) -> list[str]:
    """Return patterns of file names, the most general one first."""
    worded = _worded(kind, names)
    if worded is not None:
        return [worded]
    if len(set(names)) == 1:
        return [re.sub(r"\d{6,}", "*", _plain(names[0]))]
    prefix, suffix = _common(names), _common([name[::-1] for name in names])[::-1]
    shortest = min(map(len, names))
    suffix = suffix[max(0, len(prefix) + len(suffix) - shortest) :]
    loose, tail = re.sub(r"\d+$", "", prefix), re.sub(r"^\d+", "", suffix)
    varying = "{wafer}" if apart and _capture(kind, "wafer") else "*"
    forms = [_plain(loose) + varying + _plain(tail)]
    widths = {len(name) - len(loose) - len(tail) for name in names}
    if len(widths) == 1 and varying == "*":
        forms.append(_plain(loose) + "?" * widths.pop() + _plain(tail))
    forms.append(_plain(prefix) + varying + _plain(tail))
    return [re.sub(r"\d{6,}", "*", form) for form in forms]


def _common(names: list[str]) -> str:
    """Return what all names begin with."""
    first, last = min(names), max(names)
    return first[: next((place for place, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))]


def _plain(name: str) -> str:
    """Return ``name`` as a pattern that matches it: what a pattern reads as a sign becomes ``?``."""
    return re.sub(r"[*{}\ufffd]", "?", name)
