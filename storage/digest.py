"""The content digest of a lake: the same for the same content, in whatever order and pieces it was delivered.

Each row is hashed (MD5 as a mixing function) and the hashes are added, so the order of rows does not matter. Names that we gave
(payloads, batches, windows, files) and sensor names stay out; traces and conflicts count together.
"""

from __future__ import annotations

import hashlib

from storage.store import Store
from storage.telling import Tell, nobody

_KEY = ("tool", "chamber", "trace", "stream", "seq", "epoch_us(ts)", "position")
_CONTEXT = ("lot", "wafer", "recipe", "step", "occurrence")
_STATISTICS = ("n", "missing", '"first"', '"last"', '"min"', '"max"', "mean", "std", "median", "p05", "p95", "slope", "area")
_SPAN = ("epoch_us(started_at)", "epoch_us(ended_at)", "complete")

PARTS: dict[str, tuple[tuple[tuple[str, ...], str], ...]] = {
    "traces": (
        ((*_KEY, "value"), "traces"),
        ((*_KEY, "value"), "conflicts"),
        ((*_KEY, "text"), "texts"),
        ((*_KEY, "text"), "conflicts WHERE text IS NOT NULL"),
    ),
    "events": (
        (
            (
                *(
                    "tool",
                    "chamber",
                    "event",
                    "ceid",
                    "dataid",
                    "epoch_us(ts)",
                    "vars",
                    "lot",
                    "wafer",
                    "recipe",
                    "step",
                    "role",
                    "body_digest",
                ),
                "CASE WHEN ts IS NULL THEN system_bytes END",
            ),
            "lake.main.events",
        ),
    ),
    "windows": ((("tool", "chamber", *_CONTEXT, *_SPAN), "windows"),),
    "features": (
        (
            ("tool", "chamber", "trace", *_CONTEXT, "position", *_STATISTICS, *_SPAN),
            "features WHERE window_id NOT IN (SELECT window_id FROM conflicts WHERE window_id IS NOT NULL)",
        ),
    ),
    "gaps": (
        (
            ("tool", "chamber", "trace", "stream", "first_missing", "last_missing", "missing", "epoch_us(after_ts)", "epoch_us(before_ts)"),
            "gaps",
        ),
    ),
}
"""part -> (columns, source) of what is added up."""


def content_digest(store: Store, tell: Tell = nobody) -> dict[str, str]:
    """Return the digest of traces, events, windows, features and gaps, each as SHA-256 hex."""
    found = {}
    for number, (part, sources) in enumerate(PARTS.items()):
        tell(f"digest of {part}", number, len(PARTS))
        found[part] = _digest(store, sources)
    return found


def _digest(store: Store, sources: tuple[tuple[tuple[str, ...], str], ...]) -> str:
    figures = []
    for columns, source in sources:
        text = ", ".join(f"coalesce(({column})::VARCHAR, chr(30))" for column in columns)
        rows = store.rows(
            "SELECT count(*), coalesce(sum(md5_number_lower(t)), 0), coalesce(sum(md5_number_upper(t)), 0) "
            f"FROM (SELECT concat_ws(chr(31), {text}) AS t FROM {source})"
        )
        figures.append(rows[0])
    both = [tuple(map(sum, zip(*figures[i : i + 2], strict=True))) for i in range(0, len(figures), 2)] if len(figures) > 1 else figures
    return hashlib.sha256(repr([tuple(int(x) for x in row) for row in both]).encode()).hexdigest()
