"""Write the sample deliveries, their configuration and the manifest of what must come out: ``python sample_data/generate.py [FOLDER]``.

Seeded: the same bytes on every run. What is in it, and why, is told in README.md beside this file.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from sample_data import etch01, etch02, polisher  # noqa: E402
from sample_data.etcher import EVENT_VALUES, ROLES  # noqa: E402
from sample_data.expected import TABLE, Outcome, Payload, features, readable  # noqa: E402
from sample_data.sensors import ETCH01_SENSORS, ETCH02_SENSORS, Sensor  # noqa: E402

NAMES: dict[str, list[str]] = {
    "7": [sensor.name for sensor in ETCH01_SENSORS],
    "8": [sensor.name for sensor in ETCH01_SENSORS],
    "21": [sensor.name for sensor in ETCH02_SENSORS],
    TABLE: list(polisher.SENSORS),
}
"""Trace to sensor names by position."""

NAMED_WINDOWS = (
    ("ETCH01", "A", "W02", "main", 1, (1, 4, 11, 12)),
    ("ETCH01", "A", "W02", "overetch", 1, (1, 16)),
    ("ETCH01", "A", "W03", "main", 1, (1, 3, 4, 11)),
    ("ETCH01", "A", "W03", "stabilise", 1, (4, 15, 16)),
    ("ETCH01", "B", "W13", "main", 2, (1, 12, 16)),
    ("ETCH02", "A", "P2", "2", 1, (1, 3, 7, 12)),
    ("ETCH02", "A", "P3", "1", 1, (2, 4)),
    ("CMP1", "4", "K02", "P1", 1, (1, 3, 8)),
    ("CMP1", "5", "K03", "P2", 1, (1, 8)),
)
"""(tool, chamber, wafer, step, occurrence, positions): the windows whose features the manifest holds."""

EVENT_NAMES = {1000: "LotStarted", 1001: "StepStarted", 1002: "StepEnded"}


def events_toml(model: str) -> list[str]:
    """Return the event sections of ``model``."""
    lines = []
    for ceid, values in EVENT_VALUES.items():
        lines += ["", f"[models.{model}.events.{ceid}]", f'name = "{EVENT_NAMES[ceid]}"', f"values = {json.dumps(values)}"]
        lines += [f'window = "{ROLES[ceid]}"'] if ceid in ROLES else []
    return lines


def sensors_toml(sensors: Sequence[Sensor]) -> list[str]:
    """Return the ``sensors`` key, one sensor a line."""
    rows = [f'  {{ name = "{s.name}", unit = "{s.unit}" }},' if s.unit else f'  "{s.name}",' for s in sensors]
    return ["sensors = [", *rows, "]"]


def configuration() -> str:
    """Return loadlock.toml."""
    lines = ["# Written by generate.py.", "[[sources]]", 'match = "{tool}/*.hsms"', 'format = "hsms"', ""]
    lines += ["[[sources]]", 'match = "polisher/*.csv"', 'format = "table"', f'table = "{TABLE}"', ""]
    lines += ["# Oxide etchers: everything is configured.", "[models.oxide_etcher]", 'timezone = "UTC"']
    for trace in (etch01.TRACE_A, etch01.TRACE_B):
        lines += ["", f"[models.oxide_etcher.traces.{trace.trid}]", f'chamber = "{trace.chamber}"', "period = 0.1"]
        lines += sensors_toml(trace.sensors)
    lines += events_toml("oxide_etcher")
    trace = etch02.TRACE
    lines += [
        "",
        "# Poly etchers: sensor names are learned from S1F12 and S2F23 in the capture.",
        "[models.poly_etcher]",
        'timezone = "UTC"',
    ]
    lines += ["", f"[models.poly_etcher.traces.{trace.trid}]", f'chamber = "{trace.chamber}"', "period = 0.2", f"group = {trace.group}"]
    lines += events_toml("poly_etcher")
    lines += ["", "[tools.ETCH01]", 'model = "oxide_etcher"', "", '[tools."ETCH*"]', 'model = "poly_etcher"']
    lines += ["", f"[tables.{TABLE}]", 'tool = { column = "MACHINE_ID", prefix = "CMP" }', 'chamber = "CHAMBER"']
    lines += [f'time = {{ column = "TIMESTAMP", format = "%Y-%m-%d %H:%M:%S.%f", timezone = "{polisher.ZONE}" }}']
    context = dict(zip(("lot", "wafer", "recipe", "step"), polisher.CONTEXT_COLUMNS, strict=True))
    lines += ["context = { " + ", ".join(f'{name} = "{column}"' for name, column in context.items()) + " }", 'sensors = "*"']
    return "\n".join(lines) + "\n"


def manifest(payloads: Sequence[Payload]) -> dict[str, Any]:
    """Return what must come out of ``payloads``, taken in the order of their file names."""
    outcome = Outcome()
    for payload in payloads:
        outcome.take(payload)
    windows = outcome.windows()
    members = {id(window): outcome.members(window) for window in windows}
    counted = {name: account.rows() for name, account in outcome.accounts.items()}
    gaps = outcome.gaps()
    for tool in sorted({payload.tool for payload in payloads}):
        mine = [window for window in windows if window["tool"] == tool]
        counted[tool]["windows"] = len(mine)
        counted[tool]["features"] = sum(len(NAMES[trace]) for window in mine for trace in members[id(window)])
        counted[tool]["gaps"] = sum(gap["tool"] == tool for gap in gaps)
    tools = {tool: counted[tool] for tool in sorted({payload.tool for payload in payloads})}
    total = counted[""] | {name: sum(row[name] for row in tools.values()) for name in ("windows", "features", "gaps")}
    rows = []
    for window in windows:
        row = {name: value for name, value in window.items() if not name.endswith("_us")}
        rows.append(row | {"started_at": readable(window["started_us"]), "ended_at": readable(window["ended_us"])})
    return {
        "about": "What must come out when sample_data/deliveries is ingested into an empty lake, file by file in the order of their names.",
        "total": total,
        "tools": tools,
        "payloads": [{"file": p.file, "tool": p.tool, "sha256": hashlib.sha256(p.data()).hexdigest(), **counted[p.file]} for p in payloads],
        "windows": rows,
        "gaps": gaps,
        "quarantine": outcome.quarantine,
        "features": named_features(windows, members),
    }


def named_features(windows: Sequence[dict[str, Any]], members: dict[int, Any]) -> list[dict[str, Any]]:
    """Return the feature rows of NAMED_WINDOWS."""
    rows = []
    for tool, chamber, wafer, step, occurrence, positions in NAMED_WINDOWS:
        sought = {"tool": tool, "chamber": chamber, "wafer": wafer, "step": step, "occurrence": occurrence}
        window = next(w for w in windows if sought.items() <= w.items())
        ((trace, records),) = members[id(window)].items()
        for position in positions:
            name = {"trace": trace, "sensor": NAMES[trace][position - 1], "position": position}
            rows.append(sought | name | features(records, position, window["started_us"]))
    return rows


def compact(value: Any, depth: int = 2) -> str:
    """Return ``value`` as JSON: one line a row, below ``depth`` levels."""
    if depth == 0 or not isinstance(value, dict | list) or not value:
        return json.dumps(value)
    pad = " " * (3 - depth)
    if isinstance(value, dict):
        inner = [f"{json.dumps(key)}: {compact(item, depth - 1)}" for key, item in value.items()]
        return "{\n" + ",\n".join(pad + line for line in inner) + "\n" + pad[1:] + "}"
    return "[\n" + ",\n".join(pad + compact(item, depth - 1) for item in value) + "\n" + pad[1:] + "]"


def write(folder: Path) -> None:
    """Write deliveries/, loadlock.toml and manifest.json into ``folder``; earlier deliveries are removed."""
    payloads = sorted([*etch01.payloads(), *etch02.payloads(), *polisher.payloads()], key=lambda payload: payload.file)
    deliveries = folder / "deliveries"
    if deliveries.exists():
        shutil.rmtree(deliveries)
    for payload in payloads:
        path = deliveries / payload.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(payload.data(), 9, mtime=0) if path.suffix == ".gz" else payload.data())
    (folder / "loadlock.toml").write_text(configuration(), encoding="utf-8", newline="\n")
    (folder / "manifest.json").write_text(compact(manifest(payloads)) + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
