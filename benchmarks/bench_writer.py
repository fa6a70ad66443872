"""Writing traces: our pages against pyarrow's writer, and against splitting and compressing the values alone.

Contestants run in turns in one process; CPU seconds of the best round count, and the spread stands beside them. Nothing is written to disk.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from benchmarks import capture
from benchmarks.goals import ratio
from benchmarks.measure import Figure, Found, race, table, timed
from kernels.pages import byte_streams
from storage.files import encode, value_encoding
from storage.pieces import Piece, SharedColumns, tables, traces_schema
from storage.tracepages import encode_traces
from storage.zstd import zstd

LEVEL = 1
ROW_GROUP_ROWS = 131_072
FRAME_BYTES = 878


def doubles(steps: int) -> np.ndarray:
    """Return the mix of :mod:`benchmarks.capture` (sensors, records) in double precision: decimals and ADC steps use all 52 bits."""
    random = np.random.default_rng(1)
    levels = random.uniform(5, 500, (len(capture.STEPS), capture.SVS))
    scales = levels.max(axis=0) * 1.25
    out = np.empty((capture.SVS, steps * capture.STEP_MESSAGES))
    for step in range(steps):
        level = levels[step % len(levels)]
        block = out[:, step * capture.STEP_MESSAGES : (step + 1) * capture.STEP_MESSAGES]
        block[:] = level[:, None] * (1 + capture.NOISE * random.standard_normal(block.shape))
        for i, row in enumerate(block):
            kind = capture.KINDS[i % len(capture.KINDS)]
            if kind == "adc":
                row[:] = np.round(row / scales[i] * capture.ADC_STEPS) * (scales[i] / capture.ADC_STEPS)
            elif kind == "decimals":
                row[:] = np.round(row, 2 + i % 3)
            elif kind == "raw":
                row[:] = row.astype(np.float32)
            else:
                row[:] = np.floor(level[i] / 50)
    return out


def widened(steps: int) -> np.ndarray:
    """Return the same mix as it comes from F4 items: float32 in doubles."""
    return doubles(steps).astype(np.float32).astype(np.float64)


DATA = {"widened": widened, "doubles": doubles}
JUDGED = "widened"
"""What the pipeline writes from runs of F4; the figures of all other data stand beside it under names of their own."""


def pieces_of(values: np.ndarray) -> list[Piece]:
    """Return ``values`` (sensors, records) as the ingest cuts them."""
    n = values.shape[1]
    shared = SharedColumns(
        tool="ETCH01",
        chamber="A",
        trace=str(capture.TRID),
        streams=(str(capture.TRID),),
        stream=np.zeros(n, np.int32),
        payloads=("0" * 64,),
        payload=np.zeros(n, np.int32),
        seq=np.arange(1, n + 1),
        ts=np.arange(n) * (capture.PERIOD_CS * 10_000),
        window_id=1 + np.arange(n) // capture.STEP_MESSAGES,
        byte_start=np.arange(n) * FRAME_BYTES,
    )
    together = max(1, ROW_GROUP_ROWS // n)
    names = [f"sensor_{i:03d}" for i in range(1, len(values) + 1)]
    positions = np.arange(1, len(values) + 1, dtype=np.int32)
    cuts = [slice(j, j + together) for j in range(0, len(values), together)]
    return [Piece(shared, names[cut], positions[cut], values[cut]) for cut in cuts]


def compress_values(pieces: Sequence[Piece]) -> int:
    """Split and compress the values of each sensor, and nothing else; return the bytes."""
    compressor = zstd.ZstdCompressor(level=LEVEL)
    size = 0
    for piece in pieces:
        for row in piece.values:
            size += len(compressor.compress(byte_streams(row.view(np.uint64)), compressor.FLUSH_FRAME))
    return size


def measure(name: str, values: np.ndarray, rounds: int) -> Found:
    """Race the writers on ``values``."""
    pieces = pieces_of(values)
    schema = traces_schema(set())
    arrow = list(tables(pieces, schema))
    sizes: dict[str, int] = {}

    def ours() -> None:
        sizes["ours"] = encode_traces(pieces, level=LEVEL, row_group_rows=ROW_GROUP_ROWS, optional=set()).size

    def pyarrow() -> None:
        value = value_encoding(values.reshape(-1))
        sizes["pyarrow"] = encode(arrow, schema, "traces", value=value, level=LEVEL, row_group_rows=ROW_GROUP_ROWS)[0].size

    contestants = {"ours": timed(ours), "pyarrow": timed(pyarrow), "values alone": timed(lambda: compress_values(pieces))}
    spreads = race(contestants, rounds)
    mine, theirs = spreads["ours"], spreads["pyarrow"]
    rate = f"{values.size / mine.best / 1e6:.1f} against {values.size / theirs.best / 1e6:.1f} M samples/CPU s"
    stored = {who: size / values.size for who, size in sizes.items()}
    figures = [ratio("write_vs_pyarrow", theirs, mine, rate), ratio("write_vs_value_limit", spreads["values alone"], mine)]
    size = Figure(
        f"size_vs_pyarrow {name}", stored["ours"] / stored["pyarrow"], "x", 1.0, at_least=False, note=f"{stored['ours']:.2f} B a sample"
    )
    return Found(figures, [size], {f"write {name} {who}": spread for who, spread in spreads.items()})


def run(steps: int = 80, rounds: int = 5) -> Found:
    """Measure long groups (``steps`` recipe steps) and short ones (one step)."""
    whole = Found()
    for name, make in DATA.items():
        for label, length in ((name, steps), (f"{name} short", 1)):
            found = measure(label, make(length), rounds)
            if label != JUDGED:
                found.further += [replace(one, name=f"{one.name} {label}") for one in found.figures]
                found.figures.clear()
            whole.add(found)
    return whole


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="bench_writer", description=__doc__)
    parser.add_argument("--steps", type=int, default=80, help="recipe steps of 500 records of 200 sensors")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    found = run(options.steps, options.rounds)
    print(table(found.figures + found.further))
    print(f"\n{'CPU seconds':<34}{'best':>10}{'median':>10}{'worst':>10}")
    for name, spread in found.spreads.items():
        print(f"{name:<34}{spread.best:>10.4f}{spread.median:>10.4f}{spread.worst:>10.4f}")


if __name__ == "__main__":
    main()
