"""Reading a delimited table, account included, against polars' CSV reader on the same bytes; all values and times are compared, too.

The table has the shape of a polisher's export: machine, time in seconds, wafer, stage and chamber, then 19 sensors of 1 to 9 digits.
Contestants run in turns in one process; CPU seconds of the best round count, those of all threads.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from benchmarks.bench_decode import cut
from benchmarks.goals import ratio
from benchmarks.measure import Figure, Found, check, race, timed
from ingest.config import Limits, TableSection
from ingest.formats.table import TableDecoder
from ingest.records import Decoded

MB = 1_000_000
SENSORS = 19
WAFER_ROWS = 300
START_S = 483_703_000.0
COLUMNS = ("MACHINE_ID", "TIMESTAMP", "WAFER_ID", "STAGE", "CHAMBER", *(f"SENSOR_{i:02d}" for i in range(SENSORS)))
TABLE = TableSection.model_validate(
    {
        "tool": {"column": "MACHINE_ID", "prefix": "CMP"},
        "chamber": "CHAMBER",
        "time": {"column": "TIMESTAMP", "unit": "s", "timezone": "UTC"},
        "context": {"wafer": "WAFER_ID", "step": "STAGE"},
        "sensors": list(COLUMNS[-SENSORS:]),
    }
)


def make(size_mb: float) -> bytes:
    """Return a file of about ``size_mb``: every value as short as it reads back."""
    random = np.random.default_rng(11)
    out, size = [(",".join(COLUMNS) + "\n").encode()], 0
    wafer = 0
    while size < size_mb * MB:
        levels = random.uniform(0, 10 ** random.uniform(0, 4, SENSORS))
        digits = np.arange(SENSORS) % 8
        noise = 1 + 0.01 * random.standard_normal((WAFER_ROWS, SENSORS))
        values = [[round(v, d) for v, d in zip(row, digits.tolist(), strict=True)] for row in (levels * noise).tolist()]
        begin = START_S + wafer * 400
        head = f"{wafer % 3 + 1},%.3f,{-4_000_000 + wafer},{'AB'[wafer % 2]},{wafer % 6 + 1}"
        lines = [head % (begin + 1.1 * i) + "," + ",".join(map(repr, row)) for i, row in enumerate(values)]
        out.append(("\n".join(lines) + "\n").encode())
        size += len(out[-1])
        wafer += 1
    return b"".join(out)


def decoded(chunks: Sequence[bytes]) -> Iterator[Decoded]:
    """Decode the ``chunks`` of one file."""
    decoder = TableDecoder("cmp", TABLE, "drop/cmp.csv", None, {}, lambda _tool: "UTC", Limits())
    for chunk in chunks:
        yield from decoder.feed(chunk)
    yield from decoder.finish()


def ours(chunks: Sequence[bytes]) -> int:
    """Decode ``chunks``; return the number of records, none of them kept."""
    return sum(len(part.records.seq) for part in decoded(chunks) if part.records is not None)


def same_answer(data: bytes) -> int:
    """Compare all that both read; return the number of rows."""
    frame = pl.read_csv(io.BytesIO(data))
    parts = [part.records for part in decoded(cut(data))]
    records = [part for part in parts if part is not None]
    values = np.concatenate([part.values for part in records]).reshape(-1, SENSORS)
    check(np.array_equal(values, frame.select(COLUMNS[-SENSORS:]).cast(pl.Float64).to_numpy()), "values differ from polars'")
    times = np.concatenate([part.time_us for part in records])
    check(np.array_equal(times, np.rint(frame["TIMESTAMP"].to_numpy() * 1e6).astype(np.int64)), "times differ from polars'")
    wafers = [part.contexts[code].wafer for part in records for code in part.context.tolist()]
    check(wafers == frame["WAFER_ID"].cast(pl.String).to_list(), "wafers differ from polars'")
    return len(frame)


def run(size_mb: float, rounds: int) -> Found:
    """Return ``table_vs_polars_csv`` for a file of ``size_mb``."""
    data = make(size_mb)
    rows = same_answer(data)
    chunks = cut(data)
    contestants = {"polars_csv": timed(lambda: pl.read_csv(io.BytesIO(data))), "table": timed(lambda: ours(chunks))}
    spreads = race(contestants, rounds)
    rate = f"{len(data) / spreads['table'].best / MB:.0f} MB/CPU s; polars {len(data) / spreads['polars_csv'].best / MB:.0f}"
    figures = [ratio("table_vs_polars_csv", spreads["polars_csv"], spreads["table"], rate)]
    return Found(figures, [Figure("table_rows", rows, "rows")], spreads)
