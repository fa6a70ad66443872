"""HTML that can't be broken out of: what is text is escaped, wherever it came from."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any
from urllib.parse import urlencode

VOID = {"input", "link", "meta"}


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """Return an element; ``None`` and ``False`` leave a child or an attribute out, ``class_`` is class and ``aria_label`` aria-label."""
    parts = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        plain = key.rstrip("_").replace("_", "-")
        parts.append(f" {plain}" if value is True else f' {plain}="{html.escape(str(value))}"')
    opening = f"<{name}{''.join(parts)}>"
    return Html(opening if name in VOID else f"{opening}{join(children)}</{name}>")


def join(children: Iterable[object]) -> Html:
    """Return children one after the other, escaped where they are no HTML."""
    kept = [child for child in children if child is not None and child is not False]
    return Html("".join(child if isinstance(child, Html) else html.escape(shown(child)) for child in kept))


def shown(value: object) -> str:
    """Return a value as people read it."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if 1e5 <= abs(value) < 1e15 else f"{value:,.5g}"  # nan and inf as they are
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, datetime):
        return value.isoformat(" ", "seconds")
    return bytes(value).hex(" ") if isinstance(value, bytes | bytearray | memoryview) else str(value)


def percent(share: float | None) -> str:
    """Return a share of one as people read it."""
    return "" if share is None else f"{100 * share:.3g} %"


def link(text: object, path: str, parameters: Mapping[str, object] | None = None) -> Html:
    """Return a link; parameters that are ``None`` are left out."""
    return tag("a", text, href=address(path, parameters or {}))


def address(path: str, parameters: Mapping[str, object]) -> str:
    """Return path and query."""
    given = {name: value for name, value in parameters.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path


def table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, most: int = 200) -> Html:
    """Return a table with caption and column headers, of at most ``most`` rows; that there are more is said."""
    if not rows:
        return tag("p", f"{caption}: none.", class_="none")
    kinds = [_kind(cell) for cell in rows[0]]
    head = tag("tr", *(tag("th", name, scope="col", class_=kind) for name, kind in zip(columns, kinds, strict=True)))
    body = [tag("tr", *(tag("td", cell, class_=_kind(cell)) for cell in row)) for row in rows[:most]]
    more = tag("p", f"{len(rows) - most:,} more rows are not shown.", class_="none") if len(rows) > most else None
    grid = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *body))
    return join([tag("div", grid, class_="scroll", role="region", aria_label=caption, tabindex="0"), more])


def _kind(cell: object) -> str | None:
    if isinstance(cell, int | float) or (isinstance(cell, str) and cell.endswith(" %")):
        return "number"
    return "moment" if isinstance(cell, date) else None


def data(document: object, **attributes: object) -> Html:
    """Return a block of JSON that a script reads; nothing in it can end the block."""
    text = json.dumps(finite(document), separators=(",", ":"), allow_nan=False, default=str)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return tag("script", Html(text), type="application/json", **attributes)


def finite(value: Any) -> Any:
    """Return ``value`` with NaN and infinities as null: JSON has no others."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list | tuple) else value


def chart(figure: dict[str, Any], caption: str, *, live: str | None = None) -> Html:
    """Return a chart with its caption; ``live`` is the address that a zoom asks for finer points."""
    plot = tag("div", data(figure), class_="plot", role="img", aria_label=caption, data_live=live)
    state = tag("p", class_="state", role="status") if live else None
    return tag("figure", plot, state, tag("figcaption", caption))


def field(label: str, name: str, value: object, choices: Sequence[object] | None = None) -> Html:
    """Return a labelled field of a form: a list where there are ``choices``."""
    if choices is None:
        inner = tag("input", id=name, name=name, value="" if value is None else value)
    else:
        options = [tag("option", "any" if item == "" else item, value=item, selected=str(item) == str(value or "")) for item in choices]
        inner = tag("select", *options, id=name, name=name)
    return tag("div", tag("label", label, for_=name), inner, class_="field")
