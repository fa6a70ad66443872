"""The console's pages: each takes an open lake and what was asked for, and returns the page's main part."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from ingest.errors import UsageError
from ingest.sml import hex_dump
from loadlock.console import figures, sqlbox
from loadlock.console.html import Html, address, chart, field, join, link, shown, table, tag
from loadlock.console.series import WINDOWS, dictionaries, overlay
from loadlock.console.shelf import Shelf
from loadlock.lake import Lake

Asked = Mapping[str, str]
PAGE = 100
HEX_BYTES = 4096
SQL_ASKED = "SELECT tool, sensor, count(*) AS n, avg(mean) AS mean FROM features GROUP BY ALL ORDER BY ALL"


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


def _form(path: str, *fields: Html, button: str = "Show", method: str = "get") -> Html:
    return tag("form", *fields, tag("button", button, type="submit"), action=path, method=method)


def _cards(values: Mapping[str, object]) -> Html:
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in values.items()), class_="cards")


def fleet(lake: Lake, _asked: Asked) -> Html:
    """Return all tools at a glance."""
    status = lake.status()
    cards = {"tools": len(status["tools"]), "samples": status["rows"]["traces"], "windows": status["rows"]["windows"]}
    cards |= {"gaps": status["rows"]["gaps"], "open quarantine": status["quarantine"]["open"], "ledger entry": status["last_entry"]["seq"]}
    names = ("tool", "rows", "last_ts", "samples_per_s", "lag_s", "gaps", "conflicts", "quarantined", "circuit")
    tools = [[link(tool["tool"], "/tool", {"tool": tool["tool"]}), *(tool[name] for name in names[1:])] for tool in status["tools"]]
    quality = rows(lake, "SELECT * FROM data_quality() ORDER BY day DESC, tool LIMIT 60")
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
            _cards(cards),
            table("Tools", [name.replace("_", " ") for name in names], tools),
            table("Data quality by tool and day of commit", heads, [list(row.values()) for row in quality]),
        ]
    )


def tool(lake: Lake, asked: Asked) -> Html:
    """Return one tool: a control chart, what drifts, wafers and gaps."""
    name, sensor = asked.get("tool", ""), asked.get("sensor", "")
    sensors = [row["sensor"] for row in rows(lake, "SELECT DISTINCT sensor FROM features WHERE tool = ? ORDER BY ALL", name)]
    steps = [row["step"] for row in rows(lake, "SELECT DISTINCT step FROM windows WHERE tool = ? AND step IS NOT NULL ORDER BY ALL", name)]
    drifting = rows(lake, "SELECT chamber, recipe, step, sensor, n, slope_per_day, change_sigmas FROM drift(?) LIMIT 50", name)
    sensor = sensor or (drifting[0]["sensor"] if drifting else sensors[0] if sensors else "")
    step = asked.get("step") or (drifting[0]["step"] if drifting and not asked.get("sensor") else None)
    hidden = tag("input", type="hidden", name="tool", value=name)
    parts = [
        tag("h1", f"Tool {name}"),
        _form("/tool", hidden, field("sensor", "sensor", sensor, sensors), field("step", "step", step, ["", *steps])),
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


def wafer_of(lake: Lake, asked: Asked) -> str:
    """Return the address of the wafer's page that holds a window."""
    found = rows(lake, "SELECT tool, lot, wafer, step FROM windows WHERE window_id = ?", int(number(asked, "window", 0) or 0))
    if not found:
        raise UsageError("no such window")
    return address("/wafer", found[0] | {"sensor": asked.get("sensor")})


def _windows(lake: Lake, asked: Asked) -> list[dict[str, Any]]:
    """Return the windows of the wafer, then others of the same step, newest first."""
    return rows(
        lake,
        "SELECT *, lot IS NOT DISTINCT FROM ?2 AND wafer IS NOT DISTINCT FROM ?3 AS own FROM windows WHERE tool = ?1 AND (?4 IS NULL "
        "OR step = ?4) AND (own OR ?5) ORDER BY own DESC, started_at DESC LIMIT ?6",
        asked.get("tool", ""),
        asked.get("lot"),
        asked.get("wafer"),
        asked.get("step") or None,
        bool(asked.get("step")) and asked.get("others") != "no",
        WINDOWS,
    )


def overlay_document(lake: Lake, asked: Asked, shelf: Shelf | None = None) -> dict[str, Any]:
    """Return the overlay as plotly's JSON, of the stretch that was asked for; ``shelf`` holds what was read before."""
    low, high = number(asked, "from"), number(asked, "to")
    windows = _windows(lake, asked)
    span = None if low is None or high is None else (max(low, -1e12), min(high, 1e12))
    sensor = asked.get("sensor", "")
    own = {row["window_id"] for row in windows if row["own"]}
    ids = [row["window_id"] for row in windows]
    found = overlay(lake.store.connection, asked.get("tool", ""), sensor, ids, span, marked=own, shelf=shelf)
    names = {row["window_id"]: " ".join(str(row[key]) for key in ("lot", "wafer", "step", "chamber") if row[key]) for row in windows}
    figure = figures.overlay_chart(found["lines"], names, sensor, own)
    drill = {"path": "/trace", "names": ["seq"], "clock": "at_us", "query": {"tool": asked.get("tool", "")}}
    return figure | {"drill": drill, **{key: found[key] for key in ("shown", "samples", "counted")}}


def wafer(lake: Lake, asked: Asked) -> Html:
    """Return one wafer: the traces of a sensor over those of others, and which sensors moved."""
    name = asked.get("tool", "")
    moved = rows(
        lake,
        "SELECT sensor, step, chamber, value, center, z FROM wafer_z(?, lot := ?, wafer := ?) LIMIT 60",
        name,
        asked.get("lot"),
        asked.get("wafer"),
    )
    sensors = sorted(
        {row["sensor"] for row in moved} | {r["sensor"] for r in rows(lake, "SELECT DISTINCT sensor FROM features WHERE tool = ?", name)}
    )
    chosen = {key: asked[key] for key in ("tool", "lot", "wafer", "step", "others") if asked.get(key)}
    chosen["sensor"] = asked.get("sensor") or (moved[0]["sensor"] if moved else "")
    steps = [r["step"] for r in rows(lake, "SELECT DISTINCT step FROM windows WHERE tool = ? AND step IS NOT NULL ORDER BY ALL", name)]
    hidden = [tag("input", type="hidden", name=key, value=chosen[key]) for key in ("tool", "lot", "wafer") if key in chosen]
    form = _form(
        "/wafer",
        *hidden,
        field("sensor", "sensor", chosen["sensor"], sensors),
        field("step", "step", chosen.get("step"), ["", *steps]),
        field("other wafers", "others", chosen.get("others", "yes"), ["yes", "no"]),
    )
    text = f"{chosen['sensor']}: each window from its start. Drag to zoom in on finer points; "
    drawn = chart(
        figures.figure([], "seconds since the window's start", chosen["sensor"], height=440),
        text + "a double click goes back, a click on a point opens its message.",
        live=address("/overlay", chosen),
    )
    first = rows(
        lake,
        "SELECT m.trace, m.seq, epoch_us(m.ts) AS at_us, m.ts, m.value, w.step, w.chamber FROM (SELECT window_id, "
        "min({'ts': ts, 'seq': seq, 'trace': trace, 'value': value}) AS m FROM traces WHERE tool = ?1 AND sensor = ?2 AND window_id IN "
        "(SELECT window_id FROM windows WHERE tool = ?1 AND lot IS NOT DISTINCT FROM ?3 AND wafer IS NOT DISTINCT FROM ?4) "
        "GROUP BY window_id) t JOIN windows w ON t.window_id = w.window_id AND w.tool = ?1 ORDER BY m.ts LIMIT 50",
        name,
        chosen["sensor"],
        asked.get("lot"),
        asked.get("wafer"),
    )
    reached = [
        [
            link(f"message {r['seq']}", "/trace", {"tool": name, "trace": r["trace"], "seq": r["seq"], "at_us": r["at_us"]}),
            r["ts"],
            r["step"],
            r["chamber"],
            r["value"],
        ]
        for r in first
    ]
    z = [
        [link(r["sensor"], "/wafer", chosen | {"sensor": r["sensor"], "step": r["step"]}), *(v for k, v in r.items() if k != "sensor")]
        for r in moved
    ]
    title = " ".join(filter(None, ("Wafer", asked.get("lot"), asked.get("wafer"), "on", name)))
    return join(
        [
            tag("h1", title),
            form,
            drawn,
            table("Sensors that moved, in robust sigmas", ("sensor", "step", "chamber", "value", "center", "z"), z),
            table("First message of each window", ("message", "time", "step", "chamber", "value"), reached),
        ]
    )


def trace(lake: Lake, asked: Asked) -> Html:
    """Lead from a sample to its bytes: values, payload, ledger entry, the message as text and hex."""
    at_us, seq = number(asked, "at_us"), number(asked, "seq", 0)
    try:
        at = None if at_us is None else datetime(1970, 1, 1) + timedelta(microseconds=int(at_us))
        found = lake.trace(asked.get("tool", ""), asked.get("trace", ""), int(seq or 0), at=at)
    except OverflowError:
        raise UsageError("no such time or sequence number") from None
    parts = [tag("h1", f"Record {int(seq or 0)} of {asked.get('tool', '')}, trace {asked.get('trace', '')}")]
    for record in found[:20]:
        payload, entry = record["payload"], record["ledger"]
        facts = {
            "outcome": record["outcome"],
            "time": record["ts"],
            "chamber": record["chamber"],
            "stream": record["stream"],
            "payload": payload["payload_id"],
            "source": payload.get("source"),
            "SHA-256": payload.get("sha256"),
            "bytes": f"{record['byte_start']} to {record.get('byte_stop', '?')}",
            "ledger entry": entry.get("seq"),
            "entry's hash": entry.get("hash"),
        }
        parts.append(
            table(
                "Where it came from",
                ("what", "value"),
                [
                    [key, shown(value) if key != "ledger entry" else link(f"{value}", "/ledger", {"before": (value or 0) + 1})]
                    for key, value in facts.items()
                ],
            )
        )
        if record.get("hex"):
            parts.append(tag("h2", "The message"))
            parts.append(tag("pre", record["message"][:200_000], tabindex="0"))
            parts.append(tag("h2", "Its bytes"))
            parts.append(
                tag("pre", "\n".join(hex_dump(bytes.fromhex(record["hex"])[:HEX_BYTES], record["byte_start"])), tabindex="0", id="bytes")
            )
        else:
            parts.append(
                tag("p", "Its bytes are not at hand: the delivered file is not where it was, and the lake keeps no copy.", class_="none")
            )
        values = [[sample["position"], sample["sensor"], sample["value"]] for sample in record["samples"]]
        parts.append(table("Values", ("position", "sensor", "value"), values))
    return join(parts if found else [*parts, tag("p", "No such record: neither kept nor conflicting.", class_="none")])


def quarantine(lake: Lake, asked: Asked) -> Html:
    """Return what could not be understood, or one span with its bytes."""
    if asked.get("id"):
        found = rows(lake, "SELECT * FROM quarantine WHERE quarantine_id = ?", asked["id"])
        if not found:
            raise UsageError(f"no quarantine entry '{asked['id']}'")
        data = bytes(found[0].pop("bytes"))
        facts = table("Why it is here", ("what", "value"), [[key, shown(value)] for key, value in found[0].items()])
        dump = tag("pre", "\n".join(hex_dump(data[:HEX_BYTES], found[0]["start"])), tabindex="0", id="bytes")
        more = (
            tag("p", f"{len(data) - HEX_BYTES:,} more bytes: loadlock quarantine export.", class_="none") if len(data) > HEX_BYTES else None
        )
        return join([tag("h1", "Quarantined span"), facts, tag("h2", "Its bytes"), dump, more])
    tools = [r["tool"] for r in rows(lake, "SELECT DISTINCT tool FROM quarantine WHERE tool IS NOT NULL ORDER BY ALL")]
    reasons = [r["reason"] for r in rows(lake, "SELECT DISTINCT reason FROM quarantine ORDER BY ALL")]
    state, skip = asked.get("state", "open"), max(0, int(number(asked, "skip", 0) or 0))
    form = _form(
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
    form = _form("/ledger", field("action", "action", asked.get("action"), ["", *actions]))
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
    form = _form(
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
        return join([tag("h1", "SQL"), form, tag("p", str(error), class_="alarm", role="alert")])
    text = f"{len(found.rows):,} rows" + (", and there are more" if found.more else "")
    return join([tag("h1", "SQL"), form, table(text, found.columns, found.rows, most=sqlbox.ROWS)])


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
