"""SECS messages as people read them: SML text of a body's item tree, and a hex dump."""

from __future__ import annotations

from ingest.items import ASCII, BINARY, BOOLEAN, ELEMENTS, JIS8, LIST, LOCALIZED, Item, read

NAMES = {LIST: "L", BINARY: "B", BOOLEAN: "BOOLEAN", ASCII: "A", JIS8: "J", LOCALIZED: "W"} | {
    code: {"b": "I", "h": "I", "i": "I", "q": "I", "B": "U", "H": "U", "I": "U", "Q": "U", "f": "F", "d": "F"}[letter] + str(width)
    for code, (letter, width) in ELEMENTS.items()
}
"""Format code (E5) -> the item's name in SML."""

HEADER_BYTES = 14
"""Length prefix and message header of an HSMS frame (E37)."""
PER_LINE = 16


def message(frame: bytes) -> str:
    """Return the SML text of a whole HSMS data frame whose body is sound; a header alone where it has no body."""
    stream, function = frame[6], frame[7]
    wanted = " W" if stream & 0x80 else ""
    head = f"S{stream & 0x7F}F{function}{wanted}  /* session {int.from_bytes(frame[4:6], 'big')}, system bytes {frame[10:14].hex()} */"
    body = frame[HEADER_BYTES:]
    return "\n".join([head, *(_lines(read(body), 0) if body else ())]) + "\n."


def _lines(item: Item, depth: int) -> list[str]:
    pad, name = "  " * depth, NAMES[item.code]
    if item.code == LIST:
        if not item.value:
            return [f"{pad}<L [0]>"]
        return [f"{pad}<L [{len(item.value)}]", *(line for child in item.value for line in _lines(child, depth + 1)), f"{pad}>"]
    return [f"{pad}<{name} [{len(item.value)}]{_values(item)}>"]


def _values(item: Item) -> str:
    if len(item.value) == 0:
        return ""
    if isinstance(item.value, str):
        return " " + _quoted(item.value)
    if item.code == BINARY:
        return " " + " ".join(f"0x{byte:02X}" for byte in item.value)
    if item.code == BOOLEAN:
        return " " + " ".join("T" if value else "F" for value in item.value)
    return " " + " ".join(map(repr, item.value))


def _quoted(text: str) -> str:
    """Return a text as SML writes it: what is not printable or is a quote stands outside the quotes as its code."""
    parts: list[str] = []
    run = ""
    for char in text:
        if char.isprintable() and char != '"':
            run += char
            continue
        parts += [f'"{run}"'] * bool(run) + [f"0x{ord(char):02X}"]
        run = ""
    return " ".join(parts + [f'"{run}"'] * bool(run))


def hex_dump(data: bytes, start: int) -> list[str]:
    """Return lines of sixteen bytes; ``start`` is the offset of the first."""
    lines = []
    for offset in range(0, len(data), PER_LINE):
        piece = data[offset : offset + PER_LINE]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in piece)
        lines.append(f"{start + offset:10d}  {piece.hex(' '):47}  {text}")
    return lines
