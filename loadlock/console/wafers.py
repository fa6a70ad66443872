"""The pages of one wafer and of one record: from the lines of a sensor to the bytes of a message."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from ingest.errors import UsageError
from ingest.sml import hex_dump
from loadlock.console import figures
from loadlock.console.html import Html, address, chart, field, join, link, shown, table, tag
from loadlock.console.parts import HEX_BYTES, Asked, form_of, known_tool, number, rows
from loadlock.console.series import WINDOWS, overlay
from loadlock.console.shelf import Shelf
from loadlock.lake import Lake


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
    name = known_tool(lake, asked)
    if not rows(
        lake,
        "SELECT 1 FROM windows WHERE tool = ? AND lot IS NOT DISTINCT FROM ? AND wafer IS NOT DISTINCT FROM ? LIMIT 1",
        name,
        asked.get("lot"),
        asked.get("wafer"),
    ):
        raise UsageError(f"no such wafer on {name}")
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
    form = form_of(
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
