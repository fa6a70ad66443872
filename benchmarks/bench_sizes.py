"""Bytes per sample: the lake's trace files beside CSV, JSON lines, Parquet, DuckDB's own file and pcodec, on the same rows.

Every peer holds the seven columns of :data:`NARROW`, rows in the lake's order (sorted by sensor and time, which suits them better
than arrival order), values as doubles. The lake's files hold :data:`OURS_ONLY` besides: where each value came from, byte for byte.
Every peer is read back: number of rows and sum of values must be those of the lake.
"""

from __future__ import annotations

import gzip
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from pcodec import ChunkConfig, standalone

import loadlock
from benchmarks import capture
from benchmarks.goals import GOALS, figure
from benchmarks.measure import Figure, Found
from ingest.config import Config, load

ROOT = Path(__file__).resolve().parents[1]
LAM_CONFIG = ROOT / "docs" / "how-to" / "lam.toml"
CMP_CONFIG = """\
[[sources]]
match = "cmp_phm2016/CMP-training-*.csv"
format = "table"
table = "cmp"

[tables.cmp]
tool = { column = "MACHINE_ID", prefix = "CMP" }
chamber = "CHAMBER"
time = { column = "TIMESTAMP", unit = "s", origin = "1970-01-01" }
key = ["CHAMBER", "WAFER_ID", "STAGE"]
context = { wafer = "WAFER_ID", step = "STAGE" }
sensors = "*"
missing = ["", "NaN"]
"""

NARROW = ("tool", "chamber", "trace", "sensor", "seq", "ts", "value")
OURS_ONLY = ("stream", "position", "window_id", "payload_id", "byte_start")
GZIP_LEVEL = 6
"""What gzip(1) takes by itself."""

PCO_CHUNK_VALUES = 1 << 18
BATCH_ROWS = 131_072

RATIOS = {"default_parquet": "bytes_vs_default_parquet", "csv_gz": "bytes_vs_csv_gz", "pcodec_values": "bytes_vs_pcodec"}
"""Peer to the name of our bytes over its bytes."""

EVERYWHERE = "mix"
"""The data set that needs no real data. The worst ratio of the data sets that are there is judged; those of all stand beside it."""


# --- the lakes


def _unhurried(config: Path) -> Config:
    """Return a configuration with batches that end by their size alone: kernels that have to be compiled first would end one early."""
    read = load(config)
    return read.model_copy(update={"lake": read.lake.model_copy(update={"batch_seconds": 600.0})})


def cmp_lake(folder: Path, data: Path, _size_mb: float) -> Path:
    """Ingest the 30 files of the real CMP polisher."""
    config = folder / "cmp.toml"
    config.write_text(CMP_CONFIG, encoding="utf-8")
    files = sorted((data / "cmp_phm2016").glob("CMP-training-0*.csv"))
    with loadlock.open(folder / "cmp.lake") as lake:
        lake.ingest(files, config=_unhurried(config))
    return folder / "cmp.lake"


def lam_lake(folder: Path, data: Path, _size_mb: float) -> Path:
    """Ingest the 81 wafers of the real LAM etcher."""
    with loadlock.open(folder / "lam.lake") as lake:
        lake.ingest(data / "lam9600_etch", config=_unhurried(LAM_CONFIG))
    return folder / "lam.lake"


def mix_lake(folder: Path, _data: Path, size_mb: float) -> Path:
    """Ingest a generated capture of two tools, a payload each: how payloads share commits depends on the hour, and files on that."""
    capture.write(folder / "mix", int(size_mb * 1e6), tools=("ETCH01", "ETCH02"), payloads=1)
    with loadlock.open(folder / "mix.lake") as lake:
        lake.ingest(folder / "mix", config=folder / "mix" / "loadlock.toml")
    shutil.rmtree(folder / "mix")
    return folder / "mix.lake"


LAKES: dict[str, Callable[[Path, Path, float], Path]] = {"cmp": cmp_lake, "lam": lam_lake, "mix": mix_lake}
"""Data set to the function (folder, real data, MB of the generated mix) that ingests it."""


def trace_files(lake: Path) -> list[Path]:
    """Return the files of the table ``traces``, those of conflicts left out."""
    return sorted((lake / "data" / "main" / "traces").glob("*.parquet"))


def narrow_rows(lake: Path) -> pa.Table:
    """Return the rows that all peers hold, in the order of the lake's files."""
    parts = [pq.read_table(path, columns=list(NARROW)) for path in trace_files(lake)]
    return pa.concat_tables(parts).combine_chunks()


# --- the peers


def csv(rows: pa.Table, path: Path) -> str:
    """Write CSV."""
    pyarrow.csv.write_csv(rows, path)
    return f"read_csv('{path}')"


def csv_gz(rows: pa.Table, path: Path) -> str:
    """Write CSV through gzip."""
    with gzip.open(path, "wb", compresslevel=GZIP_LEVEL) as file:
        pyarrow.csv.write_csv(rows, file)
    return f"read_csv('{path}', compression = 'gzip')"


def json_lines(rows: pa.Table, path: Path) -> str:
    """Write one JSON object a row."""
    frame = pl.from_arrow(rows)
    assert isinstance(frame, pl.DataFrame)
    frame.write_ndjson(path)
    return f"read_json('{path}', format = 'newline_delimited')"


def default_parquet(rows: pa.Table, path: Path) -> str:
    """Write Parquet as pyarrow does by itself: dictionaries and snappy."""
    pq.write_table(rows, path)
    return f"read_parquet('{path}')"


def polars_parquet(rows: pa.Table, path: Path) -> str:
    """Write Parquet as polars does by itself: zstd."""
    frame = pl.from_arrow(rows)
    assert isinstance(frame, pl.DataFrame)
    frame.write_parquet(path)
    return f"read_parquet('{path}')"


def duckdb_file(rows: pa.Table, path: Path) -> str:
    """Write a table in DuckDB's own format; its file grows in blocks of 256 KiB."""
    with duckdb.connect(str(path)) as connection:
        connection.register("incoming", rows)
        connection.execute("CREATE TABLE traces AS FROM incoming")
        connection.unregister("incoming")
        connection.execute("CHECKPOINT")
    return f"'{path}'"


PEERS: dict[str, Callable[[pa.Table, Path], str]] = {
    "csv": csv,
    "csv_gz": csv_gz,
    "json_lines": json_lines,
    "default_parquet": default_parquet,
    "polars_parquet": polars_parquet,
    "duckdb_file": duckdb_file,
}
"""Peer to its writer (rows, path), which returns how DuckDB reads it back."""


def read_back(source: str, native: bool) -> tuple[int, float]:
    """Return (rows with a value, sum of values) of a peer's file."""
    query = "SELECT count(value), sum(value) FROM "
    with duckdb.connect() as connection:
        if native:
            connection.execute(f"ATTACH {source} AS native (READ_ONLY)")
        count, total = connection.execute(query + ("native.traces" if native else source)).fetchall()[0]
    return int(count), float(total)


def series(rows: pa.Table) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
    """Return the values of each run of equal (tool, chamber, trace, sensor), NULLs left out."""
    values = rows.column("value")
    texts = [np.asarray(rows.column(name).fill_null("").to_pylist()) for name in NARROW[:4]]
    keys = [np.unique(text, return_inverse=True)[1] for text in texts]
    changed = np.any([np.diff(key) != 0 for key in keys], axis=0)
    edges = [0, *(np.flatnonzero(changed) + 1).tolist(), rows.num_rows]
    pieces = (values.slice(a, b - a).drop_null().to_numpy() for a, b in pairwise(edges))
    return [piece for piece in pieces if len(piece)]


def pcodec_bytes(parts: list[np.ndarray[Any, Any]]) -> int:
    """Return the bytes that pcodec needs for ``parts`` (values only, a chunk for every series); each must come back bit for bit."""
    size = 0
    for part in parts:
        for at in range(0, len(part), PCO_CHUNK_VALUES):
            piece = np.ascontiguousarray(part[at : at + PCO_CHUNK_VALUES])
            packed = standalone.simple_compress(piece, ChunkConfig())
            again = standalone.simple_decompress(packed)
            if again is None or again.tobytes() != piece.tobytes():
                raise SystemExit("bench: pcodec gave other values back")
            size += len(packed)
    return size


# --- ours


def our_bytes(lake: Path) -> dict[str, int]:
    """Return the bytes of the trace files, of their value and narrow columns, of the feature files, and of everything."""
    columns: dict[str, int] = {}
    files = trace_files(lake)
    for path in files:
        metadata = pq.read_metadata(path)
        for group in range(metadata.num_row_groups):
            for i in range(metadata.num_columns):
                chunk = metadata.row_group(group).column(i)
                columns[chunk.path_in_schema] = columns.get(chunk.path_in_schema, 0) + chunk.total_compressed_size
    everything = {path: path.stat().st_size for path in lake.rglob("*") if path.is_file()}
    named = {f"our column {name}": size for name, size in sorted(columns.items(), key=lambda item: -item[1])}
    return {
        "ours": sum(everything[path] for path in files),
        "ours_narrow_columns": sum(columns[name] for name in NARROW),
        "ours_whole_lake": sum(everything.values()),
        "ours_catalog_and_index": sum(size for path, size in everything.items() if path.suffix != ".parquet"),
        "ours_other_data_files": sum(size for path, size in everything.items() if path.suffix == ".parquet" and path not in files),
    } | named


def measure(name: str, folder: Path, data: Path, size_mb: float) -> list[dict[str, Any]]:
    """Return one row a format for the data set ``name``: bytes, bytes per sample, and our bytes over its bytes."""
    lake = LAKES[name](folder, data, size_mb)
    rows = narrow_rows(lake)
    with loadlock.open(lake, read_only=True) as opened:
        ((count, total),) = opened.sql("select count(value), sum(value) from traces").fetchall()
    sizes = our_bytes(lake)
    for peer, write in PEERS.items():
        path = folder / f"{name}.{peer}"
        found = read_back(write(rows, path), peer == "duckdb_file")
        if found[0] != count or not math.isclose(found[1], total, rel_tol=1e-9):
            raise SystemExit(f"bench: {peer} holds {found}, the lake {(count, total)}")
        sizes[peer] = path.stat().st_size
        path.unlink()
    parts = series(rows)
    sizes["pcodec_values"] = pcodec_bytes(parts)
    if all((part.astype(np.float32) == part).all() for part in parts):
        single = rows.set_column(rows.schema.get_field_index("value"), "value", rows.column("value").cast(pa.float32()))
        default_parquet(single, folder / "single.parquet")
        sizes["default_parquet_f32"] = (folder / "single.parquet").stat().st_size
        sizes["pcodec_values_f32"] = pcodec_bytes([part.astype(np.float32) for part in parts])
    shutil.rmtree(lake)
    return [
        {"data": name, "format": kind, "bytes": size, "bytes_per_sample": size / rows.num_rows, "ours_vs_it": sizes["ours"] / size}
        for kind, size in sizes.items()
        if size  # a tiny lake keeps its features in the catalog
    ]


def figures(rows: list[Mapping[str, Any]]) -> list[Figure]:
    """Return the ratios that have goals, one for every data set."""
    out = []
    for row in rows:
        if row["format"] in RATIOS:
            name = RATIOS[row["format"]]
            goal = GOALS[name]
            out.append(Figure(f"{name}_{row['data']}", row["ours_vs_it"], "x", goal.goal, at_least=False, floor=goal.floor))
    return out


def run(names: Sequence[str], data: Path, size_mb: float) -> Found:
    """Measure the data sets ``names``; those that are not in ``data`` are left out."""
    rows: list[dict[str, Any]] = []
    for name in names:
        if name != EVERYWHERE and not data.is_dir():
            print(f"  {name}: the real data are not here; left out", file=sys.stderr)
            continue
        with tempfile.TemporaryDirectory(prefix="loadlock-sizes-") as folder:
            rows += measure(name, Path(folder), data, size_mb)
    found = Found(further=figures(list(rows)), tables={"sizes": rows})
    for name in RATIOS.values():
        of = {one.name.removeprefix(f"{name}_"): one.value or 0.0 for one in found.further if one.name.startswith(f"{name}_")}
        if of:
            note = "worst of " + ", ".join(f"{kind} {value:.3g}" for kind, value in of.items())
            found.figures.append(figure(name, max(of.values()), note, min(of.values()), max(of.values())))
    return found


def real_data() -> Path:
    """Return where the real data would be."""
    return Path(os.environ.get("LOADLOCK_REAL_DATA") or ROOT.parent / "shared" / "data")
