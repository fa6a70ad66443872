"""Analysts' queries on a large lake: the answer, the time and the bytes, at a tenth of the lake and at all of it.

Each is asked twice of both: with the files as they were delivered, and as ``compact`` and ``expire`` leave closed days.

Every query runs in a process of its own. Data bytes are the reads of ``*.parquet`` that DuckDB logs, footers included; catalog bytes
are all other read calls of the process between the open lake and the answer (``rchar`` less the logged data bytes). The row groups that
hold the answer are told from the footers: those whose statistics admit the query's tool, times, windows and sensor, and in them the
columns that the query names.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

import loadlock
from benchmarks.capture import START
from benchmarks.measure import Figure, Found, check, io_bytes, rows_text
from benchmarks.plant import ASKED, DAY_HOURS, LOT_WAFERS, SENSOR, Plant, hours_for

BEGIN = START.astype(datetime)
END = BEGIN + timedelta(hours=DAY_HOURS)
LOT_END = BEGIN + timedelta(hours=LOT_WAFERS)
TIMES_THE_GROUPS_MOST = 3.0
GROWTH_MOST = 1.15
RUNS = 5
AS_DELIVERED, COMPACTED = "delivered", "compacted"

WAFERS = ", ".join(f"'W{i:05d}'" for i in range(LOT_WAFERS))
TOOL_SENSOR = f"tool = '{ASKED}' AND sensor = '{SENSOR}'"
SPREAD = "nullif(stddev(mean) OVER w, 0)"


@dataclass(frozen=True)
class Query:
    """SQL, and what holds its answer: the table, the columns it needs, and the ranges by column that the rows lie in."""

    sql: str
    table: str
    columns: tuple[str, ...]
    ranges: dict[str, tuple[Any, Any]]


QUERIES: dict[str, Query] = {
    "day": Query(
        f"SELECT count(*), sum(value) FROM traces WHERE {TOOL_SENSOR} AND ts >= '{BEGIN}' AND ts < '{END}'",
        "traces",
        ("tool", "sensor", "ts", "value"),
        {"tool": (ASKED, ASKED), "sensor": (SENSOR, SENSOR), "ts": (BEGIN, END - timedelta(microseconds=1))},
    ),
    "overlay": Query(
        "SELECT count(DISTINCT wafer), count(*), sum(value) FROM samples "
        f"WHERE {TOOL_SENSOR} AND lot = 'L0000' AND wafer IN ({WAFERS}) AND step = 'main'",
        "traces",
        ("tool", "sensor", "value", "window_id"),
        {"tool": (ASKED, ASKED), "sensor": (SENSOR, SENSOR), "ts": (BEGIN, LOT_END - timedelta(microseconds=1))},
    ),
    "trend": Query(
        f"SELECT chamber, count(*), sum(mean) FROM features WHERE {TOOL_SENSOR} AND step = 'main' AND started_at < '{END}' "
        "GROUP BY chamber",
        "features_log",
        ("tool", "sensor", "step", "started_at", "chamber", "mean", "window_id", "revision"),
        {"tool": (ASKED, ASKED), "sensor": (SENSOR, SENSOR), "started_at": (BEGIN, END - timedelta(microseconds=1))},
    ),
    "lot_z": Query(
        f"SELECT wafer, step, sensor, abs(mean - avg(mean) OVER w) / {SPREAD} AS z FROM features WHERE tool = '{ASKED}' AND lot = 'L0000' "
        "WINDOW w AS (PARTITION BY step, sensor) "
        f"QUALIFY coalesce({SPREAD} > 1e-9 * max(abs(mean)) OVER w, false) ORDER BY z DESC LIMIT 1",
        "features_log",
        ("tool", "lot", "wafer", "step", "sensor", "mean", "window_id", "revision"),
        {"tool": (ASKED, ASKED), "started_at": (BEGIN, LOT_END - timedelta(microseconds=1))},
    ),
    "gaps": Query(
        f"SELECT count(*), sum(missing) FROM gaps WHERE tool = '{ASKED}' AND after_ts < '{END}'",
        "gaps_log",
        ("tool", "missing", "after_ts", "gap_id", "revision"),
        {"tool": (ASKED, ASKED), "after_ts": (BEGIN, END)},
    ),
}


# --- one query, in a process of its own

LOGGED = (
    "SELECT coalesce(sum(bytes), 0), count(DISTINCT path) FROM duckdb_logs_parsed('FileSystem') WHERE op = 'READ' AND path LIKE '%.parquet'"
)


def ask(lake: Path, name: str) -> dict[str, Any]:
    """Answer a query in this process; return the answer, CPU and wall time of the first asking, and the bytes."""
    with loadlock.open(lake, read_only=True) as opened:
        connection = opened.store.connection
        connection.execute("CALL enable_logging('FileSystem')")
        read, cpu, wall = io_bytes(), time.process_time(), time.perf_counter()
        answer = connection.execute(QUERIES[name].sql).fetchall()[0]
        cost = {"cpu_ms": 1000 * (time.process_time() - cpu), "wall_ms": 1000 * (time.perf_counter() - wall)}
        total = io_bytes() - read
        ((data, files),) = connection.execute(LOGGED).fetchall()
    return {"answer": answer, **cost, "data_bytes": int(data), "files": int(files), "catalog_bytes": max(0, total - int(data))}


def worker(lake: Path, name: str) -> dict[str, Any]:
    """Run :func:`ask` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.bench_queries", "--ask", name, "--lake", str(lake)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"bench: the query {name} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


# --- what holds the answer


def live_files(lake: Path, name: str) -> list[str]:
    """Return the paths of the data files that the lake's table ``name`` has today."""
    with loadlock.open(lake, read_only=True) as opened:
        return [path for (path,) in opened.store.rows(f"SELECT data_file FROM ducklake_list_files('lake', '{name}')")]


def held_bytes(lake: Path, query: Query) -> tuple[int, int, int]:
    """Return (compressed bytes of the needed columns in the row groups that hold the answer, those row groups, all row groups)."""
    size = groups = every = 0
    for path in live_files(lake, query.table):
        metadata = pq.read_metadata(path)
        for number in range(metadata.num_row_groups):
            every += 1
            group = metadata.row_group(number)
            columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
            if all(_admits(columns[name], *bounds) for name, bounds in query.ranges.items()):
                groups += 1
                size += sum(columns[name].total_compressed_size for name in query.columns)
    return size, groups, every


def _admits(column: Any, low: Any, high: Any) -> bool:
    statistics = column.statistics
    if statistics is None or not statistics.has_min_max:
        return True
    return bool(statistics.min <= high and statistics.max >= low)


# --- the measurement


def same(found: Any, expected: Any) -> bool:
    """Tell whether an answer is what it must be, sums to one part in 10^9."""
    pairs = list(zip(found, expected, strict=True))
    return all(math.isclose(a, b, rel_tol=1e-9) if isinstance(b, float) else a == b for a, b in pairs)


def measure(plant: Plant, lake: Path, state: str) -> list[dict[str, Any]]:
    """Ask every query of the ``lake`` of ``plant`` as it stands, called ``state``; return a row each. Stops at a wrong answer."""
    rows = []
    files = sum(len(live_files(lake, name)) for name in sorted({query.table for query in QUERIES.values()}))
    for name, expected in plant.answers().items():
        found = [worker(lake, name) for _ in range(RUNS)]
        check(all(same(run["answer"], expected) for run in found), f"{name} answers {found[0]['answer']}, not {expected}")
        held, groups, every = held_bytes(lake, QUERIES[name])
        first = found[0]
        rows.append(
            {
                "query": name,
                "files": state,
                "lake_rows": plant.rows,
                "lake_files": files,
                "cpu_ms": min(run["cpu_ms"] for run in found),
                "wall_ms": min(run["wall_ms"] for run in found),
                "files_read": first["files"],
                "data_bytes": first["data_bytes"],
                "held_bytes": held,
                "held_groups": groups,
                "all_groups": every,
                "data_vs_held": first["data_bytes"] / held if held else None,
                "catalog_bytes": first["catalog_bytes"],
            }
        )
    print(rows_text(rows), file=sys.stderr)
    return rows


def figures(rows: list[Mapping[str, Any]]) -> list[Figure]:
    """Return for each state of the files the largest lake's data bytes over held bytes, and the growth of all costs up to that lake."""
    sizes = sorted({row["lake_rows"] for row in rows})
    by = {(row["files"], row["lake_rows"], row["query"]): row for row in rows}
    out = []
    for state, name in sorted({(row["files"], row["query"]) for row in rows}):
        first, last = by[state, sizes[0], name], by[state, sizes[-1], name]
        start = f"{name}_{state}"
        if last["data_vs_held"] is not None:
            out.append(Figure(f"{start}_data_vs_held", last["data_vs_held"], "x", TIMES_THE_GROUPS_MOST, False))
        if len(sizes) == 1:
            continue
        note = f"{last['lake_rows'] / first['lake_rows']:.1f} times the rows"
        for cost, column in (("data", "data_bytes"), ("catalog", "catalog_bytes"), ("cpu", "cpu_ms")):
            if first[column]:
                out.append(Figure(f"{start}_{cost}_growth", last[column] / first[column], "x", GROWTH_MOST, False, note))
    return out


def compacted(lake: Path) -> Path:
    """Return a copy of ``lake`` as maintenance leaves closed days: one file a tool and day, the snapshots of before forgotten."""
    copy = lake.with_name("compacted.lake")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(lake, copy)
    with loadlock.open(copy) as opened:
        opened.compact(everything=True)
        opened.expire(keep_days=0)
    return copy


def run(folder: Path, most: int) -> Found:
    """Build a lake of ``most`` trace rows in ``folder`` (2.5 bytes a row), and measure at a tenth of it and at all."""
    rows: list[dict[str, Any]] = []
    built: list[dict[str, Any]] = []
    plant = Plant(folder)
    for size in sorted({most // 10, most}, key=hours_for):
        begin, cpu = time.perf_counter(), time.process_time()
        plant.build(size)
        spent = {"wall_s": time.perf_counter() - begin, "cpu_s": time.process_time() - cpu}
        built.append({"lake_rows": plant.rows, "commits": plant.hours, **spent})
        print(rows_text(built), file=sys.stderr)
        rows += measure(plant, plant.lake, AS_DELIVERED)
        rows += measure(plant, compacted(plant.lake), COMPACTED)
    return Found(further=figures(list(rows)), tables={"queries": rows, "queries_built": built})


def main() -> None:
    """Answer one query for :func:`worker`."""
    parser = argparse.ArgumentParser(prog="bench_queries", description=ask.__doc__)
    parser.add_argument("--ask", choices=list(QUERIES), required=True)
    parser.add_argument("--lake", type=Path, required=True)
    options = parser.parse_args()
    print(json.dumps(ask(options.lake, options.ask)))


if __name__ == "__main__":
    main()
