"""Four ways from the same delivery to rows and features that can be queried; each runs in a process of its own.

``python -m benchmarks.chains load CHAIN SOURCE TARGET`` and ``... query CHAIN TARGET NAME`` print one JSON object.
SOURCE holds ``{tool}/NNNN.hsms``; TARGET is a folder, for PostgreSQL the folder of its socket.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import shop
from benchmarks.capture import TRID
from benchmarks.measure import io_bytes

CHAMBER = "A"
SENSOR = "sensor_042"
SERIES_TOOL, WINDOW_TOOL = "ETCH02", "ETCH01"
SPAN = ("2026-03-17 00:01:00", "2026-03-17 00:02:00")
WAFER, STEPS = "W00000", ("strike", "main")
SERIES = f"tool = '{SERIES_TOOL}' AND sensor = '{SENSOR}' AND ts >= '{SPAN[0]}' AND ts < '{SPAN[1]}'"
OVERLAID = f"tool = '{WINDOW_TOOL}' AND wafer = '{WAFER}' AND step IN {STEPS}"

QUERIES = ("series", "overlay", "trend")
"""One sensor of one tool over a minute; the same sensor in two steps of a wafer; its mean by window, both tools.

Each answers (number of rows, sum)."""

Answer = tuple[int, float]


def deliveries(source: Path) -> Iterator[tuple[str, str, bytes]]:
    """Yield (tool, name, bytes) of every payload."""
    for path in sorted(source.glob("*/*.hsms")):
        yield path.parent.name, path.stem, path.read_bytes()


def during(windows: Iterable[tuple[int, int]]) -> str:
    """Return a condition on ``ts`` that holds in any of ``windows`` (started, ended in microseconds)."""
    return "(" + " OR ".join(f"(ts >= make_timestamp({a}) AND ts < make_timestamp({b}))" for a, b in windows) + ")"


# --- (a) secsgem, pandas, CSV.gz


def load_secsgem(source: Path, target: Path) -> None:
    """Decode with secsgem, drop repeated messages with pandas, write one CSV.gz a payload and one of features."""
    import pandas as pd

    features = []
    for tool, name, data in deliveries(source):
        traces, reports = shop.secsgem_messages(data)
        wide = pd.DataFrame(traces, columns=["seq", "stime", *shop.SENSORS]).drop_duplicates(["seq", "stime"])
        wide["ts"] = pd.to_datetime(wide.pop("stime").str.pad(18, "right", "0"), format="%Y%m%d%H%M%S%f")
        rows = wide.melt(["seq", "ts"], var_name="sensor")
        for column, text in (("tool", tool), ("chamber", CHAMBER), ("trace", TRID)):
            rows.insert(0, column, text)
        folder = target / tool
        folder.mkdir(parents=True, exist_ok=True)
        rows.to_csv(folder / f"{name}.csv.gz", index=False, compression={"method": "gzip", "compresslevel": 6})
        windows = pd.DataFrame([astuple(w) for w in shop.windows_of(tool, reports)], columns=["tool", "wafer", "step", "started", "ended"])
        windows["ts"] = pd.to_datetime(windows["started"], unit="us")
        rows["ts"], windows["ts"] = rows["ts"].astype("datetime64[us]"), windows["ts"].astype("datetime64[us]")
        joined = pd.merge_asof(rows.sort_values("ts"), windows.drop(columns="tool"), on="ts")
        keys = ["tool", "wafer", "step", "started", "ended", "sensor"]
        features.append(joined.groupby(keys)["value"].agg(["count", "mean", "std", "min", "max"]).reset_index())
    pd.concat(features).to_csv(target / "features.csv.gz", index=False)


def query_secsgem(target: Path, name: str) -> Answer:
    """Read the tool's files whole: text has no index."""
    import pandas as pd

    def rows(tool: str) -> pd.DataFrame:
        frame = pd.concat([pd.read_csv(path, parse_dates=["ts"]) for path in sorted((target / tool).glob("*.csv.gz"))])
        return frame[frame["sensor"] == SENSOR]

    features = pd.read_csv(target / "features.csv.gz") if name != "series" else pd.DataFrame()
    if name == "trend":
        means = features[features["sensor"] == SENSOR]["mean"]
        return len(means), float(means.sum())
    if name == "series":
        found = rows(SERIES_TOOL)
        values = found[(found["ts"] >= SPAN[0]) & (found["ts"] < SPAN[1])]["value"]
        return len(values), float(values.sum())
    chosen = features[(features["tool"] == WINDOW_TOOL) & (features["wafer"] == WAFER) & features["step"].isin(STEPS)]
    bounds = chosen[["started", "ended"]].drop_duplicates().to_numpy()
    found = rows(WINDOW_TOOL)
    us = found["ts"].astype("datetime64[us]").astype("int64")
    count, total = 0, 0.0
    for a, b in bounds:
        values = found[(us >= a) & (us < b)]["value"]
        count, total = count + len(values), total + float(values.sum())
    return count, total


# --- (b) struct, PostgreSQL

TABLES = """
CREATE TABLE traces (tool text, chamber text, trace text, sensor text, seq bigint, ts timestamp, value double precision,
                     UNIQUE (tool, trace, sensor, ts, seq));
CREATE UNLOGGED TABLE staging (tool text, chamber text, trace text, sensor text, seq bigint, ts timestamp, value double precision);
CREATE TABLE windows (tool text, wafer text, step text, started_us bigint, ended_us bigint);
CREATE TABLE features (tool text, wafer text, step text, started_us bigint, sensor text,
                       n bigint, mean double precision, std double precision, min double precision, max double precision);
CREATE INDEX ON features (sensor, tool);
"""
DEDUPE = "INSERT INTO traces SELECT * FROM staging ON CONFLICT DO NOTHING; DROP TABLE staging;"
REDUCE = """
INSERT INTO features SELECT w.tool, w.wafer, w.step, w.started_us, t.sensor, count(*), avg(t.value), stddev(t.value), min(t.value),
  max(t.value)
FROM windows w JOIN traces t ON t.tool = w.tool AND t.ts >= timestamp 'epoch' + w.started_us * interval '1 microsecond'
  AND t.ts < timestamp 'epoch' + w.ended_us * interval '1 microsecond'
GROUP BY 1, 2, 3, 4, 5;
ANALYZE;
"""
CLOSED_US = 4_000_000_000_000_000
"""An open window's end, as late as a timestamp may be written (2096)."""


def psql(socket: Path) -> list[str]:
    """Return psql's command line for the server whose socket is in ``socket``."""
    return ["psql", "-h", str(socket), "-U", "postgres", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", "postgres"]


def load_postgres(source: Path, target: Path) -> None:
    """Decode with one fixed struct, COPY into a staging table, insert what is new, reduce in SQL."""
    subprocess.run([*psql(target), "-c", TABLES], check=True, cwd="/")
    copy = subprocess.Popen([*psql(target), "-c", "COPY staging FROM STDIN"], stdin=subprocess.PIPE, text=True, cwd="/")
    assert copy.stdin is not None
    windows = []
    for tool, _, data in deliveries(source):
        heads = [f"{tool}\t{CHAMBER}\t{TRID}\t{sensor}\t" for sensor in shop.SENSORS]
        for seq, stime, *values in shop.struct_messages(data):
            s = stime.decode()
            middle = f"{seq}\t{s[:4]}-{s[4:6]}-{s[6:8]} {s[8:10]}:{s[10:12]}:{s[12:14]}.{s[14:]}\t"
            copy.stdin.write("".join(f"{head}{middle}{value!r}\n" for head, value in zip(heads, values, strict=True)))
        windows += shop.windows_of(tool, shop.event_reports(data))
    copy.stdin.close()
    if copy.wait():
        raise SystemExit("bench: COPY failed")
    rows = ", ".join(f"('{w.tool}', '{w.wafer}', '{w.step}', {w.started_us}, {min(w.ended_us, CLOSED_US)})" for w in windows)
    subprocess.run([*psql(target), "-c", DEDUPE, "-c", f"INSERT INTO windows VALUES {rows};", "-c", REDUCE], check=True, cwd="/")


POSTGRES_QUERIES = {
    "series": f"SELECT count(*), sum(value) FROM traces WHERE trace = '{TRID}' AND {SERIES}",
    "overlay": f"""SELECT count(*), sum(t.value) FROM windows w JOIN traces t ON t.tool = w.tool AND t.trace = '{TRID}'
  AND t.sensor = '{SENSOR}' AND t.ts >= timestamp 'epoch' + w.started_us * interval '1 microsecond'
  AND t.ts < timestamp 'epoch' + w.ended_us * interval '1 microsecond' WHERE w.{OVERLAID}""",
    "trend": f"SELECT count(*), sum(mean) FROM features WHERE sensor = '{SENSOR}'",
}


def query_postgres(target: Path, name: str) -> Answer:
    """Ask the server."""
    command = [*psql(target), "-c", POSTGRES_QUERIES[name]]
    count, total = subprocess.run(command, check=True, capture_output=True, text=True, cwd="/").stdout.split("|")
    return int(count), float(total)


# --- (c) numpy views, polars, default Parquet


def load_polars(source: Path, target: Path) -> None:
    """Decode with unchecked numpy views, write one Parquet a payload in order of arrival, re-sent messages and all."""
    import numpy as np
    import polars as pl

    target.mkdir(parents=True, exist_ok=True)
    features = []
    names = pl.Series(shop.SENSORS, dtype=pl.Categorical)
    for tool, name, data in deliveries(source):
        found = shop.numpy_columns(tool, data)
        n, k = found.values.shape
        rows = pl.DataFrame(
            {
                "sensor": names.gather(np.tile(np.arange(k, dtype=np.uint32), n)),
                "seq": np.repeat(found.seq, k),
                "ts": pl.Series(np.repeat(found.ts_us, k)).cast(pl.Datetime("us")),
                "value": found.values.reshape(-1),
            }
        ).select(pl.lit(tool).alias("tool"), pl.lit(CHAMBER).alias("chamber"), pl.lit(str(TRID)).alias("trace"), pl.all())
        (target / tool).mkdir(exist_ok=True)
        rows.write_parquet(target / tool / f"{name}.parquet")
        windows = pl.DataFrame([astuple(w) for w in found.windows], schema=["tool", "wafer", "step", "started", "ended"], orient="row")
        starts = windows.with_columns(pl.col("started").cast(pl.Datetime("us")).alias("ts")).drop("tool")
        value = pl.col("value")
        by_name = {"n": value.len(), "mean": value.mean(), "std": value.std(), "min": value.min(), "max": value.max()}
        joined = rows.sort("ts").join_asof(starts.sort("ts"), on="ts").drop_nulls("started")
        features.append(joined.group_by("tool", "wafer", "step", "started", "ended", "sensor").agg(**by_name))
    pl.concat(features).write_parquet(target / "features.parquet")


def query_polars(target: Path, name: str) -> Answer:
    """Ask with DuckDB; re-sent messages were stored twice, so an analyst has to name the distinct rows."""
    import duckdb

    features = f"read_parquet('{target}/features.parquet')"
    with duckdb.connect() as connection:
        if name == "trend":
            query = f"SELECT count(*), sum(mean) FROM {features} WHERE sensor = '{SENSOR}'"
        else:
            tool, where = SERIES_TOOL, SERIES
            if name == "overlay":
                bounds = connection.execute(f"SELECT DISTINCT started, ended FROM {features} WHERE {OVERLAID}").fetchall()
                tool = WINDOW_TOOL
                where = f"sensor = '{SENSOR}' AND {during(bounds)}"
            rows = f"SELECT DISTINCT seq, ts, value FROM read_parquet('{target}/{tool}/*.parquet') WHERE {where}"
            query = f"SELECT count(*), sum(value) FROM ({rows})"
        count, total = connection.execute(query).fetchall()[0]
    return int(count), float(total)


# --- loadlock


def load_loadlock(source: Path, target: Path) -> None:
    """Ingest."""
    import loadlock

    with loadlock.open(target) as lake:
        lake.ingest(source, config=source / "loadlock.toml")


LOADLOCK_QUERIES = {
    "series": f"SELECT count(*), sum(value) FROM traces WHERE {SERIES}",
    "overlay": f"SELECT count(*), sum(value) FROM samples WHERE sensor = '{SENSOR}' AND {OVERLAID}",
    "trend": f"SELECT count(*), sum(mean) FROM features WHERE sensor = '{SENSOR}'",
}


def session_loadlock(target: Path) -> Callable[[str], Answer]:
    """Open the lake; the session asks through the views."""
    import loadlock

    lake = loadlock.open(target, read_only=True)

    def ask(name: str) -> Answer:
        count, total = lake.sql(LOADLOCK_QUERIES[name]).fetchall()[0]
        return int(count), float(total)

    return ask


# --- the processes

CHAINS: dict[str, tuple[Callable[[Path, Path], None], Callable[[Path], Callable[[str], Answer]]]] = {
    "secsgem_csv_gz": (load_secsgem, lambda target: partial(query_secsgem, target)),
    "struct_postgres": (load_postgres, lambda target: partial(query_postgres, target)),
    "numpy_polars": (load_polars, lambda target: partial(query_polars, target)),
    "loadlock": (load_loadlock, session_loadlock),
}
"""Chain to (load, session that answers queries by name)."""

IMPORTS = {
    "secsgem_csv_gz": "import pandas, secsgem.secs.functions",
    "struct_postgres": "pass",
    "numpy_polars": "import numpy, polars, duckdb; duckdb.connect().sql('select 1').fetchall()",
    "loadlock": "import loadlock, ingest.pipeline, storage.store",
}
"""Chain to what a process of it has to import: its start-up, and what a query's process does before its reading counts."""


def main() -> None:
    """Do one step of one chain and print what it cost."""
    action, chain, *rest = sys.argv[1:]
    load, session = CHAINS[chain]
    result: dict[str, Any] = {}
    if action == "load":
        source, target = map(Path, rest)
        load(source, target)
    else:
        exec(IMPORTS[chain])  # a constant above
        target, name = Path(rest[0]), rest[1]
        before = io_bytes()
        ask = session(target)
        opened, begin = io_bytes(), time.process_time()
        result["answer"] = ask(name)
        result |= {"open_bytes": opened - before, "bytes_read": io_bytes() - opened, "query_cpu_s": time.process_time() - begin}
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    result["cpu_s"] = sum(usage.ru_utime + usage.ru_stime for usage in both)
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    result["peak_mb"] = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
    print(json.dumps(result))


if __name__ == "__main__":
    main()
