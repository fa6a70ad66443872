"""Fill ``docs/capacity.md`` from the measured results: ``python -m benchmarks.capacity``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.bench_commit import DURABLE

RESULT = Path(__file__).resolve().parent / "results" / "bench.json"
TEMPLATE = Path(__file__).resolve().with_name("capacity.template.md")
PAGE = Path(__file__).resolve().parents[1] / "docs" / "capacity.md"

SENSORS, HZ, LOAD = 200, 10, 0.7
SERVER_CORES, SERVERS = 16, 10
DISK_TB = 10
GROUP_BYTES = 64 << 20
DAY_S = 86_400
FILES_MEASURED = 10_000

PLANTS = ((20, 60), (100, 60), (100, 1440), (1000, 60), (1000, 1440), (100, 1))
"""(tools, minutes between a tool's deliveries) of the catalog table; every delivery adds a trace file of its tool."""


def variables(result: dict[str, Any]) -> dict[str, Any]:
    """Return every figure of the page by name; units as the template says them."""
    infrastructure = result["infrastructure"]
    ours = next(row for row in infrastructure["large"] if row["chain"] == "loadlock")
    notes = infrastructure["large_notes"]
    levels = sorted(result["commits"], key=lambda row: row["files"])
    first, middle, last = levels[0], levels[len(levels) // 2], levels[-1]
    durable = next(one["value"] for one in result["further"] if one["name"] == DURABLE)
    c, b, r, s = ours["less_start_up"], ours["bytes_per_sample"], notes["bytes_in"] / notes["samples"], SENSORS * HZ
    planned, group, k = LOAD / c, GROUP_BYTES / r / 1e6, last["commit_ms"]
    server = planned * SERVER_CORES
    lock, minute = group / (k / 1000), 60 * s
    small = minute / (last["commit_ms"] / 1000) / 1e6
    found = {
        **{"cpus": result["machine"]["cpus"], "architecture": result["machine"]["architecture"]},
        **{"c": c, "r": r, "b": b, "m": ours["peak_mb"], "large_samples": notes["samples"] / 1e6, "f": durable},
        **{"l10": first["ingest_ms"], "l1k": middle["ingest_ms"], "l10k": last["ingest_ms"], "k10k": k},
        **{"sensors": SENSORS, "hz": HZ, "s": s, "load": LOAD, "rate": 1 / c, "planned": planned},
        **{"core_tools": planned * 1e6 / s, "core_tools_1hz": planned * 1e6 / SENSORS, "core_tools_100hz": planned * 1e4 / SENSORS},
        **{"core_in": planned * r, "core_out": planned * b, "core_day": planned * b * DAY_S / 1000},
        **{"server_cores": SERVER_CORES, "server_rate": server, "server_tools": server * 1e6 / s},
        **{"server_memory": SERVER_CORES * ours["peak_mb"] / 1000, "group": group, "lock_rate": lock, "minute": minute},
        **{"lock_word": "more" if lock > server else "less", "lock_small": small, "lock_small_tools": small * 1e6 / s},
        **{"server_out": server * b, "server_day": server * b * DAY_S / 1e6, "server_days": DISK_TB / (server * b * DAY_S / 1e6)},
        **{"group_tools": 20, "group_fsync": 21 * durable, "group_cpu": c * group * 1000},
        **{"growth": last["ingest_ms"] / first["ingest_ms"]},
        **{"ten_tools": SERVERS * server * 1e6 / s, "ten_day": SERVERS * server * b * DAY_S / 1e6},
    }
    found["catalog_rows"] = "\n".join(catalog_row(tools, minutes, c, b) for tools, minutes in PLANTS)
    found["binds"] = binds(found)
    return found | building(result["queries_built"], c, s) | beside(infrastructure)


def building(built: list[dict[str, Any]], c: float, s: float) -> dict[str, Any]:
    """Return what a million rows cost while the query benchmark's lake was small, and when it was large."""
    first, last = built[0], built[-1]
    rows = (last["lake_rows"] - first["lake_rows"]) / 1e6
    begin, rest = first["cpu_s"] / first["lake_rows"] * 1e6, last["cpu_s"] / rows
    return {
        **{"build_first": begin, "build_first_rows": first["lake_rows"] / 1e6, "build_rest": rest, "build_rest_rows": rows},
        **{"build_times": rest / c, "build_tools": LOAD / rest * 1e6 / s},
    }


def beside(infrastructure: dict[str, Any]) -> dict[str, Any]:
    """Return the tables of the other chains, and what is said about them."""
    small = {row["chain"]: row for row in infrastructure["small"]}
    kinds = {"reduction_small": "small", "reduction_per_sample": "per sample", "reduction_large": "large"}
    axes = ("cpu", "stored", "read", "memory", "processes", "composite")
    reductions = [
        f"| {row['against']} | {said} | " + " | ".join(f"{row[f'{axis}_percent']:.1f}" for axis in axes) + " |"
        for kind, said in kinds.items()
        for row in infrastructure[kind]
    ]
    reasons = [f"| {name} | not measured: {reason} |" for name, reason in infrastructure["small_notes"]["absent"].items()]
    return {
        "small_samples": infrastructure["small_notes"]["samples"] / 1e6,
        "chain_rows": "\n".join([*map(chain_row, infrastructure["small"]), *reasons]),
        "large_rows": "\n".join(map(chain_row, infrastructure["large"])),
        "reduction_rows": "\n".join(reductions),
        "composite": infrastructure["composite"],
        "pg_ms": small["struct_postgres"]["ms_series"] if "struct_postgres" in small else float("nan"),
        "our_ms": small["loadlock"]["ms_series"],
        "open_mb": infrastructure["small_notes"]["open_bytes"]["loadlock"] / 1e6,
        "polars_off": infrastructure["small_notes"]["answers_off"]["numpy_polars"],
    }


def chain_row(row: dict[str, Any]) -> str:
    """Return one line of the infrastructure table."""
    queries = ("series", "overlay", "trend")
    read = " / ".join(f"{row[f'read_{query}'] / 1000:,.0f}" for query in queries)
    took = " / ".join(f"{row[f'ms_{query}']:.1f}" for query in queries)
    cpu = f"{row['cpu_s_per_M']:.2f} | {row['less_start_up']:.2f}"
    return f"| {row['chain']} | {cpu} | {row['bytes_per_sample']:.2f} | {read} | {took} | {row['peak_mb']:,.0f} | {row['processes']} |"


def catalog_row(tools: int, minutes: int, c: float, b: float) -> str:
    """Return one line of the catalog table."""
    files = tools * 1440 / minutes
    rate = tools * SENSORS * HZ / 1e6
    every = {1: "minute", 60: "hour", 1440: "day"}[minutes]
    days = FILES_MEASURED / files
    stored = rate * b * DAY_S / 1000
    return f"| {tools:,} | {every} | {files:,.0f} | {days:,.1f} | {rate * c / LOAD:.2f} | {stored:,.0f} GB |"


def binds(found: dict[str, Any]) -> str:
    """Return the limits in the order in which a growing plant of usual tools meets them."""
    limits = {
        f"one commit for every delivery of a minute, in a lake of 10,000 files (the lock, {found['k10k']:.0f} ms each)": found[
            "lock_small_tools"
        ],
        f"one core at {found['load']:.0%}": found["core_tools"],
        f"{found['server_cores']} cores at {found['load']:.0%}": found["server_tools"],
        "the lock, with full groups": found["lock_rate"] * 1e6 / found["s"],
        f"{DISK_TB} TB that must hold 30 days": DISK_TB * 1e12 / 30 / DAY_S / found["b"] / found["s"],
        "10,000 files in 30 days, a file a tool and hour": FILES_MEASURED / 30 / 24,
        "10,000 files in 30 days, a file a tool and day": FILES_MEASURED / 30,
    }
    lines = [f"| {limit} | {tools:,.0f} |" for limit, tools in sorted(limits.items(), key=lambda item: item[1])]
    return "\n".join(["| limit | usual tools |", "|---|---|", *lines])


def page(result: Path = RESULT) -> str:
    """Return the page, filled from a result file of ``make bench``."""
    return TEMPLATE.read_text(encoding="utf-8").format(**variables(json.loads(result.read_text(encoding="utf-8"))))


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
