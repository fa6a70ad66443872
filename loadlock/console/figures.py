"""Figures as plotly's JSON; colours of text and lines that depend on light and dark are the script's."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

ALARM = "#d1495b"
CALM = "#2a7fb8"
BAND = "rgba(42,160,120,0.25)"
GREY = "rgba(128,128,128,0.55)"
PALETTE = ("#2a7fb8", "#e08e1b", "#4b9f57", "#9a6fb0", "#c06c84", "#7f8c3a", "#3aa6a0", "#b5763b")

Trace = dict[str, Any]


def figure(traces: list[Trace], x: str, y: str, *, height: int = 320, **layout: Any) -> dict[str, Any]:
    """Return a figure with titled axes."""
    axes = {"xaxis": {"title": {"text": x}}, "yaxis": {"title": {"text": y}, "automargin": True}}
    return {"data": traces, "layout": axes | {"height": height} | layout}


def control_chart(points: Sequence[dict[str, Any]], sensor: str) -> dict[str, Any]:
    """Return a Shewhart chart with EWMA of rows of ``spc``; points that break a rule of Western Electric stand out."""
    x = [_moment(point["started_at"]) for point in points]
    broken = [", ".join(str(rule) for rule in (1, 2, 3, 4) if point[f"rule_{rule}"]) for point in points]
    values: Trace = {
        "type": "scatter",
        "mode": "lines+markers",
        "name": sensor,
        "x": x,
        "y": [point["value"] for point in points],
        "text": [
            _plain(f"{point['lot']} {point['wafer']}" + (f", rule {rule}" if rule else ""))
            for point, rule in zip(points, broken, strict=True)
        ],
        "customdata": [point["window_id"] for point in points],
        "line": {"color": CALM, "width": 1},
        "marker": {"color": [ALARM if rule else CALM for rule in broken], "size": [9 if rule else 6 for rule in broken]},
    }
    limits: list[Trace] = [
        {"type": "scatter", "mode": "lines", "name": name, "x": x, "y": [p[column] for p in points], "line": line, "hoverinfo": "skip"}
        for name, column, line in (
            ("upper limit", "ucl", {"color": ALARM, "dash": "dash", "width": 1}),
            ("center", "center", {"color": GREY, "width": 1}),
            ("lower limit", "lcl", {"color": ALARM, "dash": "dash", "width": 1}),
            ("EWMA", "ewma", {"color": PALETTE[1], "width": 1.5}),
        )
    ]
    return figure([*limits, values], "window start (UTC)", _plain(sensor))


def overlay_chart(lines: Sequence[dict[str, Any]], names: dict[int, str], sensor: str, marked: set[int]) -> dict[str, Any]:
    """Return lines of windows on one clock; those in ``marked`` in colour, the others grey behind them, or all in colour without any."""
    traces: list[Trace] = []
    several = len({line["trace"] for line in lines}) > 1
    for i, line in enumerate(sorted(lines, key=lambda line: line["window"] in marked)):
        plain = bool(marked) and line["window"] not in marked
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": _plain(names[line["window"]] + (f" trace {line['trace']}" if several else "")),
                "x": line["x"],
                "y": line["y"],
                "customdata": line["seq"],
                "meta": {"trace": line["trace"], "start_us": line["start_us"]},
                "line": {"color": GREY if plain else PALETTE[i % len(PALETTE)], "width": 1 if plain else 1.8},
            }
        )
    return figure(traces, "seconds since the window's start", _plain(sensor), height=440)


def band_traces(x: list[float], center: list[float], half: list[float]) -> list[Trace]:
    """Return the golden band: median, and three robust sigmas to both sides."""
    low, high = ([c + sign * h for c, h in zip(center, half, strict=True)] for sign in (-1, 1))
    edge = {"type": "scatter", "mode": "lines", "x": x, "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    return [
        edge | {"y": low},
        edge | {"y": high, "fill": "tonexty", "fillcolor": BAND, "name": "golden band", "showlegend": True},
        {"type": "scatter", "mode": "lines", "name": "golden median", "x": x, "y": center, "line": {"color": "#2a9d74", "dash": "dot"}},
    ]


def gap_chart(gaps: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return gaps as bars on a time line, one row a stream."""
    traces: list[Trace] = []
    for stream in sorted({gap["stream"] for gap in gaps}):
        own = [gap for gap in gaps if gap["stream"] == stream]
        x: list[str | None] = []
        for gap in own:
            x += [_moment(gap["after_ts"]), _moment(gap["before_ts"]), None]
        label = _plain(stream if len(stream) <= 40 else f"{stream[:37]}...")
        text = [_plain(f"{gap['missing']:,} missing from {gap['first_missing']}") for gap in own for _ in range(3)]
        bar = {"color": ALARM, "width": 12}
        dots = {"symbol": "line-ns-open", "size": 14, "color": ALARM}
        traces.append(
            {"type": "scatter", "mode": "lines+markers", "x": x, "y": [label] * len(x), "text": text, "line": bar, "marker": dots}
        )
    return figure(traces, "time (UTC)", "", height=140 + 36 * len(traces), showlegend=False)


def bars(labels: Sequence[str], values: Sequence[float], x: str) -> dict[str, Any]:
    """Return horizontal bars."""
    bar: Trace = {"type": "bar", "orientation": "h", "y": [_plain(label) for label in labels], "x": list(values), "marker": {"color": CALM}}
    return figure([bar], x, "", height=120 + 34 * len(labels), showlegend=False)


def _moment(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()


def _plain(text: str) -> str:
    """Return ``text`` without what plotly takes for markup in its labels."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
