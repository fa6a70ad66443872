"""What the console's pages share: rows of the lake, what was asked for, and pieces of HTML."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ingest.errors import UsageError
from loadlock.console.html import Html, tag
from loadlock.console.series import dictionaries
from loadlock.lake import Lake

Asked = Mapping[str, str]
HEX_BYTES = 4096
"""Bytes that a page shows."""


def rows(lake: Lake, query: str, *parameters: Any) -> list[dict[str, Any]]:
    """Return the rows of ``query``."""
    return dictionaries(lake.store.connection, query, list(parameters))


def number(asked: Asked, name: str, otherwise: float | None = None) -> float | None:
    """Return a number that was asked for."""
    if not asked.get(name):
        return otherwise
    try:
        value = float(asked[name])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"{name}: '{asked[name]}' is no number")
    return value


def known_tool(lake: Lake, asked: Asked) -> str:
    """Return the tool that was asked for, of which the lake must hold something."""
    name = asked.get("tool", "")
    tables = ("traces", "events", "windows", "quarantine", "payloads")
    if not rows(lake, " UNION ALL ".join(f"(SELECT 1 FROM {table} WHERE tool = ?1 LIMIT 1)" for table in tables), name):
        raise UsageError(f"no tool '{name}' in this lake")
    return name


def form_of(path: str, *fields: Html, button: str = "Show", method: str = "get") -> Html:
    """Return a form."""
    return tag("form", *fields, tag("button", button, type="submit"), action=path, method=method)


def cards(values: Mapping[str, object]) -> Html:
    """Return figures with their names."""
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in values.items()), class_="cards")
