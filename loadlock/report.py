"""One page about a lake, with all it needs inside: for a browser without a network, and for paper."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ingest.errors import UsageError
from loadlock import __version__
from loadlock.console import assets, figures
from loadlock.console.html import Html, chart, join, percent, shown, table, tag
from loadlock.console.series import WINDOWS, band, dictionaries, overlay
from loadlock.lake import Lake
from storage.errors import StoreDown

CHARTS, OVERLAYS = 6, 4
POINTS = 800
"""A control chart shows so many points, the newest ones."""
GAPS = 500

_QUARANTINE = """
SELECT reason, count(*) AS spans, sum(octet_length(bytes))::BIGINT AS bytes, any_value(detail) AS detail FROM quarantine
WHERE state = 'open' AND (?1 IS NULL OR tool = ?1) GROUP BY reason ORDER BY spans DESC, reason
"""
_GAPS = """
SELECT concat_ws(' / ', tool, nullif(chamber, ''), trace, nullif(stream, '')) AS stream, after_ts, before_ts, first_missing, missing
FROM gaps WHERE ?1 IS NULL OR tool = ?1 ORDER BY missing DESC, stream, first_missing LIMIT {most}
"""
_DRIFTED = "SELECT *, abs(change_sigmas) AS moved FROM drift(?) WHERE isfinite(change_sigmas) ORDER BY moved DESC LIMIT ?"
_MOVED = """
SELECT tool, chamber, trace, recipe, step, sensor, any_value(n) AS n, max(abs(z)) AS moved FROM wafer_z(?, lot := ?) WHERE isfinite(z)
GROUP BY ALL ORDER BY moved DESC LIMIT ?
"""
_POINTS = """
FROM spc(?, ?) WHERE chamber IS NOT DISTINCT FROM ? AND trace = ? AND recipe IS NOT DISTINCT FROM ? AND step IS NOT DISTINCT FROM ?
"""
_WINDOWS = """
SELECT window_id, lot, wafer, occurrence, epoch_us(ended_at) - epoch_us(started_at) AS length_us FROM windows
WHERE tool = ? AND chamber IS NOT DISTINCT FROM ? AND recipe IS NOT DISTINCT FROM ? AND step IS NOT DISTINCT FROM ? ORDER BY started_at DESC
"""


class Wishes(NamedTuple):
    """What the page is about: a tool, a lot, and the lot that is known to be good; each may be left out."""

    tool: str | None = None
    lot: str | None = None
    golden: str | None = None


EVERYTHING = Wishes()


def write(lake: Lake, path: Path, wishes: Wishes = EVERYTHING) -> int:
    """Write the page about ``lake`` to ``path``; return its size in bytes."""
    page = document(lake, wishes).encode()
    try:
        path.write_bytes(page)
    except OSError as error:
        raise StoreDown(f"{path}: the page can't be written ({error.strerror})") from error
    return len(page)


def document(lake: Lake, wishes: Wishes) -> Html:
    """Return the page. Raises :class:`UsageError` where the lake holds nothing of the tool or lot."""
    with lake.store.reading():
        _check(lake, wishes)
        title = " / ".join(["loadlock", *(name for name in (wishes.tool, wishes.lot) if name)])
        moved = _moved(lake, wishes)
        parts = [*_quality(lake, wishes), *_gaps(lake, wishes), *_walled(lake, wishes), *_charts(lake, moved)]
        body = tag("main", tag("h1", title), _head(lake, wishes), *parts, *_overlays(lake, wishes, moved))
    head = tag("head", tag("meta", charset="utf-8"), tag("title", title), tag("style", Html(assets.own("console.css"))))
    scripts = [tag("script", Html(source)) for source in (assets.plotly(), assets.own("console.js"))]
    return Html("<!doctype html>" + tag("html", head, tag("body", body, *scripts), lang="en"))


def _rows(lake: Lake, query: str, *parameters: Any) -> list[dict[str, Any]]:
    return dictionaries(lake.store.connection, query, list(parameters))


def _check(lake: Lake, wishes: Wishes) -> None:
    known = {tool["tool"] for tool in lake.status()["tools"]}
    if wishes.tool is not None and wishes.tool not in known:
        raise UsageError(f"no tool '{wishes.tool}' in this lake; there are {', '.join(sorted(known)) or 'none'}")
    for lot in (wishes.lot, wishes.golden):
        if lot is not None and not _rows(
            lake, "SELECT 1 FROM windows WHERE lot = ?1 AND (?2 IS NULL OR tool = ?2) LIMIT 1", lot, wishes.tool
        ):
            raise UsageError(f"no lot '{lot}' in this lake; 'loadlock sql \"select distinct lot from windows\"' lists them")


def _head(lake: Lake, wishes: Wishes) -> Html:
    status = lake.status()
    tools = [tool for tool in status["tools"] if wishes.tool in (None, tool["tool"])]
    names = ("tool", "rows", "last_ts", "gaps", "conflicts", "quarantined", "circuit")
    tools = [tool | {"last_ts": (tool["last_ts"] or "")[:19].replace("T", " ")} for tool in tools]
    written = f"Written at {lake.store.clock():%Y-%m-%d %H:%M:%S} UTC by loadlock {__version__} from {lake.path.name}, "
    written += f"ledger entry {status['last_entry']['seq']}. All times are UTC."
    heads = [name.replace("_ts", " sample") for name in names]
    return join([tag("p", written), table("Tools", heads, [[tool[name] for name in names] for tool in tools])])


def _quality(lake: Lake, wishes: Wishes) -> Iterator[Html]:
    yield tag("h2", "Data quality per tool and day")
    names = ("tool", "day", "payloads", "bytes_in", "records", "duplicate_share", "conflict_share", "quarantined_share")
    found = _rows(lake, f"SELECT {', '.join(names)} FROM data_quality(tool := ?) ORDER BY day DESC, tool LIMIT 1000", wishes.tool)
    days = [[percent(value) if key.endswith("_share") else value for key, value in row.items()] for row in found]
    yield table("By day of commit", [name.removesuffix("_share").replace("_", " ") for name in names], days)


def _gaps(lake: Lake, wishes: Wishes) -> Iterator[Html]:
    yield tag("h2", "Gaps")
    found = _rows(lake, _GAPS.format(most=GAPS), wishes.tool)
    if found:
        timed = [gap for gap in found if gap["after_ts"] and gap["before_ts"]]
        yield chart(figures.gap_chart(timed[:GAPS]), f"Missing sequence numbers on the time line: the {len(timed)} largest gaps.")
    rows = _rows(lake, "FROM gap_report(tool := ?)", wishes.tool)
    names = ("tool", "chamber", "trace", "stream", "gaps", "missing", "longest", "first after", "last before")
    yield table("Gaps by stream", names, [list(row.values()) for row in rows], most=50)


def _walled(lake: Lake, wishes: Wishes) -> Iterator[Html]:
    yield tag("h2", "Quarantine")
    found = _rows(lake, _QUARANTINE, wishes.tool)
    if found:
        spans = figures.bars([row["reason"] for row in found], [row["spans"] for row in found], "spans")
        yield chart(spans, "Spans that wait for a decision, by reason.")
    yield table("By reason", ("reason", "spans", "bytes", "one of them"), [list(row.values()) for row in found])


def _moved(lake: Lake, wishes: Wishes) -> list[dict[str, Any]]:
    """Return the series that moved most, the largest move of each (tool, sensor) only."""
    tools = [wishes.tool] if wishes.tool else [row["tool"] for row in _rows(lake, "SELECT DISTINCT tool FROM windows ORDER BY tool")]
    most = 10 * CHARTS
    found = [
        row for tool in tools for row in (_rows(lake, _MOVED, tool, wishes.lot, most) if wishes.lot else _rows(lake, _DRIFTED, tool, most))
    ]
    first: dict[tuple[str, str], dict[str, Any]] = {}
    for row in sorted(found, key=lambda row: -row["moved"]):
        first.setdefault((row["tool"], row["sensor"]), row)
    return list(first.values())[:CHARTS]


def _named(series: dict[str, Any]) -> str:
    return " / ".join(str(series[name]) for name in ("tool", "chamber", "recipe", "step", "sensor") if series[name])


def _charts(lake: Lake, moved: list[dict[str, Any]]) -> Iterator[Html]:
    yield tag("h2", "Features that moved most")
    if not moved:
        yield tag("p", "No series has three windows yet.", class_="none")
    for series in moved:
        points = _rows(lake, _POINTS, *(series[name] for name in ("tool", "sensor", "chamber", "trace", "recipe", "step")))[-POINTS:]
        broken = sum(any(point[f"rule_{rule}"] for rule in (1, 2, 3, 4)) for point in points)
        text = f"{_named(series)}: mean of each window, moved by {shown(series['moved'])} robust sigmas; "
        text += f"{broken} of {len(points)} points break a rule."
        yield chart(figures.control_chart(points, series["sensor"]), text)


def _overlays(lake: Lake, wishes: Wishes, moved: list[dict[str, Any]]) -> Iterator[Html]:
    yield tag("h2", "Traces against the golden band")
    connection = lake.store.connection
    for series in moved[:OVERLAYS]:
        windows = _rows(lake, _WINDOWS, *(series[name] for name in ("tool", "chamber", "recipe", "step")))
        shown = [row for row in windows if wishes.lot in (None, row["lot"])][:WINDOWS]
        rest = [row for row in windows if row["lot"] == wishes.golden or (wishes.golden is None and row["lot"] != wishes.lot)]
        golden = rest if wishes.golden or wishes.lot else windows
        names = {row["window_id"]: f"{row['lot'] or ''} {row['wafer'] or ''} {row['occurrence']}" for row in shown}
        lines = overlay(connection, series["tool"], series["sensor"], list(names))["lines"]
        figure = figures.overlay_chart(lines, names, series["sensor"], set())
        length_s = max((row["length_us"] or 0) / 1e6 for row in windows) if windows else 0.0
        ids = [row["window_id"] for row in golden[:200]]
        figure["data"] = figures.band_traces(*band(connection, series["tool"], series["sensor"], ids, length_s)) + figure["data"]
        of = f"lot {wishes.golden}" if wishes.golden else "all other lots" if wishes.lot else "all windows"
        yield chart(figure, f"{_named(series)}: {len(lines)} windows; the band is median and three robust sigmas of {of}.")
