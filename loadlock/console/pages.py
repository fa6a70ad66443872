"""The console's pages: each takes an open lake and what was asked for, and returns the page's main part."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from ingest.errors import UsageError
from ingest.sml import hex_dump
from loadlock.console import figures, sqlbox
from loadlock.console.html import Html, chart, field, join, link, percent, shown, table, tag
from loadlock.console.parts import HEX_BYTES, Asked, cards, form_of, known_tool, number, rows
from loadlock.console.wafers import trace, wafer
from loadlock.lake import Lake
from loadlock.render import span

PAGE = 100
CELL = 2000
"""Characters or bytes of a cell of an answer that are shown."""
SQL_ASKED = "SELECT tool, sensor, count(*) AS n, avg(mean) AS mean FROM features GROUP BY ALL ORDER BY ALL"


def _alarming(text: object, alarming: bool) -> object:
    return tag("span", text, class_="alarm") if alarming else text


def fleet(lake: Lake, _asked: Asked) -> Html:
    """Return all tools at a glance."""
    status = lake.status()
    counts = {"tools": len(status["tools"]), "samples": status["rows"]["traces"], "windows": status["rows"]["windows"]}
    counts |= {
        "gaps": status["rows"]["gaps"],
        "open quarantine": status["quarantine"]["open"],
        "ledger entry": status["last_entry"]["seq"],
    }
    names = ("tool", "samples", "last sample", "arrived", "samples a second", "lag", "gaps", "conflicts", "quarantined", "circuit")
    tools = [
        [
            link(tool["tool"], "/tool", {"tool": tool["tool"]}),
            tool["rows"],
            (tool["last_ts"] or "")[:19].replace("T", " "),
            f"{span(tool['silent_s'])} ago" if tool["silent_s"] is not None else "",
            tool["samples_per_s"],
            span(tool["lag_s"]),
            *(tool[name] for name in names[6:-1]),
            _alarming(tool["circuit"], tool["circuit"] != "closed"),
        ]
        for tool in status["tools"]
    ]
    quality = rows(lake, "SELECT * FROM data_quality() ORDER BY day DESC, tool LIMIT 60")
    shares = {"duplicate_share", "conflict_share", "quarantined_share"}
    days = [[percent(value) if key in shares else value for key, value in row.items()] for row in quality]
    heads = (
        "tool",
        "day",
        "payloads",
        "bytes in",
        "records",
        "duplicates",
        "conflicts",
        "quarantined",
        "frames quarantined",
        "ambiguous times",
    )
    return join(
        [
            tag("h1", "Fleet"),
            cards(counts),
            table("Tools", names, tools) if tools else tag("p", "Nothing came in yet: loadlock ingest DIR brings it in.", class_="none"),
            table("Data quality by tool and day of commit", heads, days),
        ]
    )


def tool(lake: Lake, asked: Asked) -> Html:
    """Return one tool: a control chart, what drifts, wafers and gaps."""
    name, sensor = known_tool(lake, asked), asked.get("sensor", "")
    sensors = [row["sensor"] for row in rows(lake, "SELECT DISTINCT sensor FROM features WHERE tool = ? ORDER BY ALL", name)]
    steps = [row["step"] for row in rows(lake, "SELECT DISTINCT step FROM windows WHERE tool = ? AND step IS NOT NULL ORDER BY ALL", name)]
    drifting = rows(lake, "SELECT chamber, recipe, step, sensor, n, slope_per_day, change_sigmas FROM drift(?) LIMIT 50", name)
    sensor = sensor or (drifting[0]["sensor"] if drifting else sensors[0] if sensors else "")
    step = asked.get("step") or (drifting[0]["step"] if drifting and not asked.get("sensor") else None)
    hidden = tag("input", type="hidden", name="tool", value=name)
    parts = [
        tag("h1", f"Tool {name}"),
        form_of("/tool", hidden, field("sensor", "sensor", sensor, sensors), field("step", "step", step, ["", *steps])),
    ]
    points = rows(lake, "FROM spc(?, ?, step := ?)", name, sensor, step)[-2000:]
    groups: dict[str, list[dict[str, Any]]] = {}
    for point in points:
        groups.setdefault(" / ".join(str(point[key]) for key in ("chamber", "recipe", "step") if point[key]), []).append(point)
    for group, own in list(groups.items())[:4]:
        figure = figures.control_chart(own, sensor) | {"drill": {"path": "/window", "names": ["window"], "query": {"sensor": sensor}}}
        parts.append(chart(figure, f"Control chart of {sensor}, {group}: mean of each window. A click on a point opens its wafer."))
    moved = [
        [link(r["sensor"], "/tool", {"tool": name, "sensor": r["sensor"], "step": r["step"]}), *(v for k, v in r.items() if k != "sensor")]
        for r in drifting
    ]
    parts.append(
        table("What drifts, most first", ("sensor", "chamber", "recipe", "step", "windows", "slope a day", "change in sigmas"), moved)
    )
    wafers = rows(
        lake,
        "SELECT lot, wafer, min(started_at) AS since, count(*) AS windows FROM windows WHERE tool = ? GROUP BY ALL "
        "ORDER BY since DESC LIMIT 201",
        name,
    )
    linked = [
        [
            link(
                " ".join(filter(None, (r["lot"], r["wafer"]))) or "no name", "/wafer", {"tool": name, "lot": r["lot"], "wafer": r["wafer"]}
            ),
            r["since"],
            r["windows"],
        ]
        for r in wafers
    ]
    parts.append(table("Wafers, newest first", ("wafer", "since", "windows"), linked))
    gaps = [list(row.values()) for row in rows(lake, "FROM gap_report(tool := ?)", name)]
    parts.append(table("Gaps", ("tool", "chamber", "trace", "stream", "gaps", "missing", "longest", "first after", "last before"), gaps))
    return join(parts)


def quarantine(lake: Lake, asked: Asked) -> Html:
    """Return what could not be understood, or one span with its bytes."""
    if asked.get("id"):
        found = rows(lake, "SELECT * FROM quarantine WHERE quarantine_id = ?", asked["id"])
        if not found:
            raise UsageError(f"no quarantine entry '{asked['id']}'")
        data = bytes(found[0].pop("bytes") or b"")
        facts = table("Why it is here", ("what", "value"), [[key, shown(value)] for key, value in found[0].items()])
        dump = tag("pre", "\n".join(hex_dump(data[:HEX_BYTES], found[0]["start"])), tabindex="0", id="bytes")
        more = (
            tag("p", f"{len(data) - HEX_BYTES:,} more bytes: loadlock quarantine export.", class_="none") if len(data) > HEX_BYTES else None
        )
        return join([tag("h1", "Quarantined span"), facts, tag("h2", "Its bytes"), dump, more])
    tools = [r["tool"] for r in rows(lake, "SELECT DISTINCT tool FROM quarantine WHERE tool IS NOT NULL ORDER BY ALL")]
    reasons = [r["reason"] for r in rows(lake, "SELECT DISTINCT reason FROM quarantine ORDER BY ALL")]
    state, skip = asked.get("state", "open"), max(0, int(number(asked, "skip", 0) or 0))
    form = form_of(
        "/quarantine",
        field("tool", "tool", asked.get("tool"), ["", *tools]),
        field("reason", "reason", asked.get("reason"), ["", *reasons]),
        field("state", "state", state, ["", "open", "replayed", "discarded"]),
    )
    found = rows(
        lake,
        "SELECT quarantine_id, tool, reason, detail, start, stop, state FROM quarantine WHERE (?1 IS NULL OR tool = ?1) AND (?2 IS NULL OR "
        "reason = ?2) AND (?3 IS NULL OR state = ?3) ORDER BY payload_id, start LIMIT ?4 OFFSET ?5",
        asked.get("tool") or None,
        asked.get("reason") or None,
        state or None,
        PAGE + 1,
        skip,
    )
    spans = [[link(row["quarantine_id"], "/quarantine", {"id": row["quarantine_id"]}), *list(row.values())[1:]] for row in found[:PAGE]]
    more = tag("p", link("Next", "/quarantine", {**asked, "skip": skip + PAGE})) if len(found) > PAGE else None
    return join(
        [tag("h1", "Quarantine"), form, table("Spans", ("span", "tool", "reason", "detail", "start", "stop", "state"), spans), more]
    )


def ledger(lake: Lake, asked: Asked) -> Html:
    """Return the ledger, newest entry first."""
    actions = [r["action"] for r in rows(lake, "SELECT DISTINCT action FROM ledger ORDER BY ALL")]
    found = rows(
        lake,
        "SELECT seq, recorded_at, actor, action, batch_id, body::VARCHAR AS body, prev_hash, hash FROM ledger "
        "WHERE (?1 IS NULL OR action = ?1) AND seq < ?2 ORDER BY seq DESC LIMIT ?3",
        asked.get("action") or None,
        int(number(asked, "before") or 2**60),
        PAGE + 1,
    )
    entries = [
        [
            r["seq"],
            r["recorded_at"],
            r["actor"],
            r["action"],
            tag(
                "details",
                tag("summary", f"{r['hash'][:16]}..."),
                tag("pre", f"hash {r['hash']}\nbefore {r['prev_hash']}\nbatch {r['batch_id']}\n{r['body'][:20_000]}"),
            ),
        ]
        for r in found[:PAGE]
    ]
    older = (
        tag("p", link("Older", "/ledger", {"action": asked.get("action"), "before": found[PAGE - 1]["seq"]})) if len(found) > PAGE else None
    )
    form = form_of("/ledger", field("action", "action", asked.get("action"), ["", *actions]))
    return join(
        [tag("h1", "Ledger"), form, table("Entries, newest first", ("seq", "recorded at", "actor", "action", "entry"), entries), older]
    )


def circuits(lake: Lake, _asked: Asked) -> Html:
    """Return the breakers of tools and dependencies."""
    found = rows(lake, "SELECT kind, tool, state, reason, opened_at, retry_at, failures FROM circuits ORDER BY state DESC, tool")
    heads = ("kind", "circuit", "state", "reason", "opened at", "tries at", "failures")
    return join([tag("h1", "Circuits"), table("Circuits that were ever opened or counted", heads, [list(row.values()) for row in found])])


def sql(lake: Lake, asked: Asked) -> Html:
    """Return a box for SQL, and the answer."""
    query = asked.get("q", "")
    box = tag("textarea", query or SQL_ASKED, id="q", name="q", spellcheck="false")
    limits = f"One SELECT over the lake; at most {sqlbox.ROWS:,} rows and {sqlbox.SECONDS:g} seconds."
    form = form_of(
        "/sql",
        tag("div", tag("label", "SQL", for_="q"), box, tag("p", limits, class_="none"), class_="field wide"),
        button="Run",
        method="post",
    )
    if not query:
        return join([tag("h1", "SQL"), form])
    try:
        found = sqlbox.run(lake.store, query)
    except UsageError as error:
        return join([tag("h1", "SQL"), form, tag("p", str(error), class_="alarm text", role="alert")])
    text = f"{len(found.rows):,} rows" + (", and there are more" if found.more else "")
    shortened = [[_short(cell) for cell in row] for row in found.rows]
    return join([tag("h1", "SQL"), form, table(text, found.columns, shortened, most=sqlbox.ROWS)])


def _short(cell: object) -> object:
    """Return a cell of which a page can hold a thousand."""
    if cell is None or isinstance(cell, bool | int | float | datetime):
        return cell
    text = shown(cell[:CELL] if isinstance(cell, str | bytes) else cell)
    whole = len(cell) if isinstance(cell, str | bytes) else len(text)
    return text if whole <= CELL else f"{text[:CELL]}... ({whole:,} in all)"


PAGES: dict[str, tuple[str, Callable[[Lake, Asked], Html]]] = {
    "/": ("Fleet", fleet),
    "/tool": ("", tool),
    "/wafer": ("", wafer),
    "/trace": ("", trace),
    "/quarantine": ("Quarantine", quarantine),
    "/ledger": ("Ledger", ledger),
    "/circuits": ("Circuits", circuits),
    "/sql": ("SQL", sql),
}
"""Path -> (its name in the navigation, the page)."""
