"""Analysts' queries on a large lake: the answer, the time and the bytes, at a tenth of the lake and at all of it.

Every query runs in a process of its own. Data bytes are the reads of ``*.parquet`` that DuckDB logs, footers included; catalog bytes
are all other read calls of the process between the open lake and the answer (``rchar`` less the logged data bytes). The row groups that
hold the answer are told from the footers: those whose statistics admit the query's tool, times, windows and sensor, and in them the
columns that the query names.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

import loadlock
from benchmarks.capture import START
from benchmarks.measure import Figure, io_bytes, rows_text, table, write_result
from benchmarks.plant import ASKED, DAY_HOURS, LOT_WAFERS, SENSOR, Plant, hours_for

RESULT = Path(__file__).resolve().parent / "results" / "queries.json"
BEGIN = START.astype(datetime)
END = BEGIN + timedelta(hours=DAY_HOURS)
LOT_END = BEGIN + timedelta(hours=LOT_WAFERS)
TIMES_THE_GROUPS_MOST = 3.0
GROWTH_MOST = 1.15
RUNS = 3

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


def held_bytes(lake: Path, query: Query) -> tuple[int, int, int]:
    """Return (compressed bytes of the needed columns in the row groups that hold the answer, those row groups, all row groups)."""
    size = groups = every = 0
    for path in (lake / "data" / "main" / query.table).glob("*.parquet"):
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


def measure(plant: Plant) -> list[dict[str, Any]]:
    """Ask every query of the lake as it stands; return a row each. Stops at a wrong answer."""
    rows = []
    files = sum(1 for _ in plant.lake.rglob("*.parquet"))
    for name, expected in plant.answers().items():
        found = [worker(plant.lake, name) for _ in range(RUNS)]
        if not all(same(run["answer"], expected) for run in found):
            raise SystemExit(f"bench: {name} answers {found[0]['answer']}, not {expected}")
        held, groups, every = held_bytes(plant.lake, QUERIES[name])
        first = found[0]
        rows.append(
            {
                "lake_rows": plant.rows,
                "lake_files": files,
                "query": name,
                "cpu_ms": min(run["cpu_ms"] for run in found),
                "wall_ms": min(run["wall_ms"] for run in found),
                "files_read": first["files"],
                "data_bytes": first["data_bytes"],
                "held_bytes": held,
                "held_groups": groups,
                "all_groups": every,
                "data_vs_held": first["data_bytes"] / held if held else None,
                "catalog_bytes": first["catalog_bytes"],
                "read_vs_held": (first["data_bytes"] + first["catalog_bytes"]) / held if held else None,
            }
        )
    return rows


def figures(rows: list[Mapping[str, Any]]) -> list[Figure]:
    """Return the largest lake's bytes read over held bytes, and the growth of bytes and CPU from the smallest lake to it."""
    sizes = sorted({row["lake_rows"] for row in rows})
    by = {(row["lake_rows"], row["query"]): row for row in rows}
    out = []
    for name in QUERIES:
        first, last = by[sizes[0], name], by[sizes[-1], name]
        if last["data_vs_held"] is not None:
            out.append(Figure(f"{name}_data_vs_held", last["data_vs_held"], "x", TIMES_THE_GROUPS_MOST, False))
            all_of_it = "the catalog's bytes included"
            out.append(Figure(f"{name}_read_vs_held", last["read_vs_held"], "x", TIMES_THE_GROUPS_MOST, False, all_of_it))
        note = f"{last['lake_rows'] / first['lake_rows']:.1f} times the rows"
        if len(sizes) > 1:
            if first["data_bytes"]:
                out.append(Figure(f"{name}_data_growth", last["data_bytes"] / first["data_bytes"], "x", GROWTH_MOST, False, note))
            catalog = last["catalog_bytes"] / max(1, first["catalog_bytes"])
            out.append(Figure(f"{name}_catalog_growth", catalog, "x", GROWTH_MOST, False, note))
            out.append(Figure(f"{name}_cpu_growth", last["cpu_ms"] / first["cpu_ms"], "x", GROWTH_MOST, False, note))
    return out


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="bench_queries", description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000_000, help="trace rows of the large lake; a tenth of them is measured too")
    parser.add_argument("--folder", type=Path, help="where the lake is built (2.5 bytes a row); default: a temporary folder")
    parser.add_argument("--ask", choices=list(QUERIES), help=argparse.SUPPRESS)
    parser.add_argument("--lake", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=RESULT)
    return parser.parse_args()


def main() -> None:
    """Build the lake to a tenth, measure, build it whole, measure again; print the tables and write the result file."""
    options = arguments()
    if options.ask:
        print(json.dumps(ask(options.lake, options.ask)))
        return
    rows: list[dict[str, Any]] = []
    built: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="loadlock-plant-", dir=options.folder) as folder:
        plant = Plant(Path(folder))
        for size in sorted({options.rows // 10, options.rows}, key=hours_for):
            begin, cpu = time.perf_counter(), time.process_time()
            plant.build(size)
            data = sum(path.stat().st_size for path in plant.lake.rglob("*") if path.is_file())
            spent = {"wall_s": time.perf_counter() - begin, "cpu_s": time.process_time() - cpu}
            built.append({"lake_rows": plant.rows, "commits": plant.hours, **spent, "lake_bytes": data})
            print(rows_text(built), file=sys.stderr)
            rows += measure(plant)
    found = figures(list(rows))
    print(rows_text(rows), table(found), sep="\n\n")
    write_result(options.output, found, built=built, rows=rows)


if __name__ == "__main__":
    main()
