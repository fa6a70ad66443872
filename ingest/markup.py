"""Receipts and overviews as HTML for notebooks: plain tables, every text escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

MOST_ROWS = 100


def cell(value: Any) -> str:
    """Return a value as it stands in a table: numbers with separators, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return escape(f"{value:,.6g}" if isinstance(value, float) else str(value))


def facts(title: str, pairs: Iterable[tuple[str, Any]]) -> str:
    """Return a table of names and values under ``title``."""
    rows = "".join(f'<tr><th style="text-align:left">{escape(name)}</th><td>{cell(value)}</td></tr>' for name, value in pairs)
    return f"<table><caption>{escape(title)}</caption><tbody>{rows}</tbody></table>"


def rows(title: str, items: Sequence[Mapping[str, Any]]) -> str:
    """Return a table with a column for each key of ``items``, at most ``MOST_ROWS`` of them; '' where there are none."""
    if not items:
        return ""
    head = "".join(f"<th>{escape(str(name))}</th>" for name in items[0])
    body = "".join(f"<tr>{''.join(f'<td>{cell(value)}</td>' for value in item.values())}</tr>" for item in items[:MOST_ROWS])
    more = f"<p>and {len(items) - MOST_ROWS:,} more</p>" if len(items) > MOST_ROWS else ""
    return f"<table><caption>{escape(title)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"
