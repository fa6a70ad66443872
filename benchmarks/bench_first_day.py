"""The first day's figures in one run: decoding, the whole ingest, memory, start-up. ``make bench``; not a timed test.

Contestants of one figure run in turns; CPU seconds of the best round count, and the spread stands beside them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import capture
from benchmarks.measure import Figure, Spread, child, machine, peak_mb, race, table, timed
from ingest.config import Config, parse
from ingest.unpack import CHUNK_BYTES

RESULT = Path(__file__).resolve().parent / "results" / "first_day.json"
MB = 1_000_000
SECSGEM_MESSAGES = 100
TOOL = "ETCH01"
COMPRESSION_LEVEL = 1

GOALS = {"f4": 0.5, "mixed": 0.12}
"""Layout to the share of memcpy's speed that decoding must reach."""


class Bench:
    """One run: its options, its folder, and what it has found so far."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options = options
        self.folder = folder
        self.figures: list[Figure] = []
        self.spreads: dict[str, Spread] = {}
        self.stages: dict[str, float] = {}

    def capture(self, name: str, size_mb: float, layout: str = "f4") -> tuple[Path, capture.Counts]:
        """Write a capture of one tool in one payload; return its folder and what must come of it."""
        folder = self.folder / name
        return folder, capture.write(folder, int(size_mb * MB), layout=layout, tools=(TOOL,))

    def decoding(self) -> None:
        """Decode a capture in chunks, against copying its bytes, and against secsgem on a few messages."""
        contestants: dict[str, Callable[[], float]] = {}
        counts: dict[str, capture.Counts] = {}
        for layout in GOALS:
            folder, counts[layout] = self.capture(f"decode_{layout}", self.options.mb, layout)
            data = (folder / TOOL / "0000.hsms").read_bytes()
            check(decode(cut(data[: 8 * MB])) > 0, "nothing was decoded")
            check(decode(cut(data)) == (counts[layout].records + counts[layout].duplicates), f"{layout}: records are missing")
            contestants[f"memcpy_{layout}"] = timed(copier(data))
            chunks = cut(data)
            contestants[f"decode_{layout}"] = timed(lambda chunks=chunks: decode(chunks))
        for layout in GOALS:
            contestants[f"secsgem_{layout}"] = timed(secsgem_decoder(capture.bodies(SECSGEM_MESSAGES, layout)))
        spreads = race(contestants, self.options.rounds)
        self.spreads |= spreads
        for layout, goal in GOALS.items():
            ours, size = spreads[f"decode_{layout}"].best, counts[layout].bytes_in
            rate = f"{size / ours / MB:.0f} MB/CPU s, {counts[layout].samples / ours / MB:.0f} M samples/CPU s"
            self.figures.append(Figure(f"decode_{layout}_vs_memcpy", spreads[f"memcpy_{layout}"].best / ours, "x", goal, note=rate))
            sample = sum(len(body) + capture.HEADER_BYTES for body in capture.bodies(SECSGEM_MESSAGES, layout))
            theirs = spreads[f"secsgem_{layout}"].best / sample * size
            note = f"secsgem: {sample / spreads[f'secsgem_{layout}'].best / MB:.2f} MB/CPU s on {SECSGEM_MESSAGES} messages"
            self.figures.append(Figure(f"decode_{layout}_vs_secsgem", theirs / ours, "x", 1000, note=note))

    def pipeline(self) -> None:
        """Ingest, read to commit, against pyarrow writing the same trace tables."""
        import loadlock
        from benchmarks.parquet_baseline import rewrite, trace_files

        folder, counts = self.capture("pipeline", self.options.mb)
        small, _ = self.capture("warm", 2)
        lakes: list[Path] = []
        timings: list[dict[str, float]] = []

        def ingest(source: Path) -> float:
            lake_path = self.folder / f"lake{len(lakes)}"
            with loadlock.open(str(lake_path)) as lake:
                start = time.process_time()
                lake.ingest(str(source / TOOL / "0000.hsms"), config=str(source / "loadlock.toml"))
                seconds = time.process_time() - start
                timings.append(dict(lake.last_timings))
                rows = lake.sql("select count(*) from traces").fetchone()
            lakes.append(lake_path)
            check(source == small or rows == (counts.samples,), f"the lake holds {rows} samples, not {counts.samples}")
            return seconds

        def write() -> float:
            seconds = rewrite(trace_files(lakes[-1]), self.folder / "baseline.parquet", COMPRESSION_LEVEL)
            shutil.rmtree(lakes[-1])
            return seconds

        ingest(small)
        timings.clear()
        spreads = race({"ingest": lambda: ingest(folder), "pyarrow_write": write}, self.options.pipeline_rounds)
        self.spreads |= spreads
        ours = spreads["ingest"].best
        note = f"{counts.samples / ours / MB:.1f} M samples/CPU s, {counts.bytes_in / ours / MB:.0f} MB/CPU s"
        self.figures.append(Figure("pipeline_vs_pyarrow_write", ours / spreads["pyarrow_write"].best, "x", 1.9, False, note))
        total = sum(sum(stages.values()) for stages in timings)
        self.stages = {stage: sum(stages.get(stage, 0.0) for stages in timings) / total for stage in {key: 0 for t in timings for key in t}}
        self.figures.append(Figure("keys_share_of_pipeline", self.stages.get("keys", 0.0), "of CPU", 0.02, False))
        self.figures.append(Figure("overlap_share_of_pipeline", self.stages.get("overlap", 0.0), "of CPU"))

    def memory(self) -> None:
        """Peak memory of an ingest, and of one ten times as large, each in a process of its own."""
        peaks = {}
        for factor in (1, 10):
            folder, _ = self.capture(f"memory{factor}", self.options.rss_mb * factor)
            payload, config = str(folder / TOOL / "0000.hsms"), str(folder / "loadlock.toml")
            lake = str(self.folder / f"memory{factor}.lake")
            script = f"import loadlock\nwith loadlock.open({lake!r}) as lake:\n    lake.ingest({payload!r}, config={config!r})"
            peaks[factor] = peak_mb(script)
            shutil.rmtree(folder)
            shutil.rmtree(lake)
            self.figures.append(Figure(f"peak_memory_{factor}x", peaks[factor], "MB", note=f"{self.options.rss_mb * factor:g} MB of input"))
        self.figures.append(Figure("peak_memory_growth", peaks[10] / peaks[1], "x", 1.15, False))

    def start_up(self) -> None:
        """CPU time of ``loadlock --help`` beyond a bare interpreter."""
        command = str(Path(sys.executable).with_name("loadlock"))
        spreads = race({"python": child([sys.executable, "-c", ""]), "help": child([command, "--help"])}, self.options.start_rounds)
        self.spreads |= spreads
        self.figures.append(Figure("help_cpu_ms", 1000 * (spreads["help"].best - spreads["python"].best), "ms", 100, False))


PARTS = {"decoding": Bench.decoding, "pipeline": Bench.pipeline, "memory": Bench.memory, "start_up": Bench.start_up}


def check(holds: bool, message: str) -> None:
    """Stop where a contestant did not do the work that it is timed for."""
    if not holds:
        raise SystemExit(f"bench: {message}")


def cut(data: bytes) -> list[bytes]:
    """Return ``data`` in the chunks that the pipeline reads."""
    return [data[at : at + CHUNK_BYTES] for at in range(0, len(data), CHUNK_BYTES)]


@cache
def configuration() -> Config:
    """Return the configuration of the capture, read once: that is no part of decoding."""
    return parse(capture.configuration())


def decode(chunks: list[bytes]) -> int:
    """Decode ``chunks`` of one payload; return the number of records, none of them kept."""
    from ingest.dictionary import Dictionary
    from ingest.formats.hsms import HsmsDecoder

    config = configuration()
    decoder = HsmsDecoder(TOOL, {"tool": TOOL}, config.model(TOOL), Dictionary(), config.limits, reuse=True)
    records = 0
    for chunk in chunks:
        for decoded in decoder.feed(chunk):
            records += 0 if decoded.records is None else len(decoded.records.seq)
    for decoded in decoder.finish():
        records += 0 if decoded.records is None else len(decoded.records.seq)
    return records


def copier(data: bytes) -> Callable[[], None]:
    """Return a copy of all bytes of ``data`` into memory that is there already."""
    source = np.frombuffer(data, dtype=np.uint8)
    target = np.ones_like(source)
    return lambda: np.copyto(target, source)


def secsgem_decoder(bodies: list[bytes]) -> Callable[[], None]:
    """Return secsgem's decoding of ``bodies`` to Python values."""
    from secsgem.secs.functions import SecsS06F01

    def run() -> None:
        for body in bodies:
            message = SecsS06F01()
            message.decode(body)
            check(len(message.get()["SV"]) == capture.SVS, "secsgem found another number of values")

    return run


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="bench_first_day", description=__doc__)
    parser.add_argument("--mb", type=float, default=210, help="size of the captures that are decoded and ingested")
    parser.add_argument("--rss-mb", type=float, default=100, help="input of the smaller memory measurement")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of decoding")
    parser.add_argument("--pipeline-rounds", type=int, default=3)
    parser.add_argument("--start-rounds", type=int, default=15)
    parser.add_argument("--only", choices=list(PARTS), action="append", help="part of the benchmark; may be repeated")
    parser.add_argument("--output", type=Path, default=RESULT)
    return parser.parse_args()


def main() -> None:
    """Run the parts asked for, print the table and write the result file."""
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="loadlock-bench-") as folder:
        bench = Bench(options, Path(folder))
        for name, part in PARTS.items():
            if options.only is None or name in options.only:
                print(f"{name}:", file=sys.stderr)
                part(bench)
    print(table(bench.figures))
    if bench.stages:
        stages = sorted(bench.stages.items(), key=lambda stage: -stage[1])
        print("\nshare of the pipeline's CPU: " + ", ".join(f"{stage} {share:.1%}" for stage, share in stages))
    result: dict[str, Any] = {"schema": 1, "machine": machine(), "capture_mb": options.mb, "svs": capture.SVS}
    result["figures"] = [figure.row() for figure in bench.figures]
    result["cpu_seconds"] = {name: vars(spread) for name, spread in bench.spreads.items()}
    result["stages"] = bench.stages
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
