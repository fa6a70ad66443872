"""What a process of its own costs: the CPU of ``--help``, of ingesting a small file and of compiling all kernels, the peak memory of an
ingest and of one ten times as large.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks import capture
from benchmarks.goals import figure
from benchmarks.measure import Figure, Found, Spread, child, peak_mb, race
from kernels import lowered

MB = 1_000_000
TOOL = "ETCH01"
COMMAND = "from loadlock.cli import entry; entry()"
IMPORTS = """
import importlib, os, pkgutil
os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"  # as the command has it
for name in ("kernels", "storage", "ingest", "loadlock"):
    for module in pkgutil.walk_packages(importlib.import_module(name).__path__, name + "."):
        importlib.import_module(module.name)
import pandas, polars, pyarrow.csv, pyarrow.parquet
"""
COLD = """
import os, sys
from pathlib import Path
os.environ["LOADLOCK_CACHE"] = sys.argv[1]
from kernels import lowered
lowered.FOLDER = Path(sys.argv[2])
from kernels.warm import warm
done = warm()
assert all(one.compiled for one in done)
assert sum(one.lowered for one in done) == int(sys.argv[3])
"""
INGEST = """
import loadlock
with loadlock.open({lake!r}) as lake:
    lake.ingest({payload!r}, config={config!r})
"""


def start_up(folder: Path, rounds: int) -> Found:
    """Return ``help_cpu_ms``, CPU of ``loadlock --help`` beyond a bare interpreter, and ``warm_ingest_cpu_s``.

    That is all CPU of the command over the second recipe step of a tool, into a lake that holds the first; the kernels are compiled then.
    """
    source, lake, again = folder / "small", folder / "small.lake", folder / "again.lake"
    capture.write(source, 2, tools=(TOOL,), payloads=2)
    first, second = (source / TOOL / f"{number:04d}.hsms" for number in range(2))
    command = [sys.executable, "-c", COMMAND]
    child([*command, "ingest", str(first), "--config", str(source / "loadlock.toml"), "--lake", str(lake)])()
    warm = child([*command, "ingest", str(second), "--lake", str(again)])

    def ingest() -> float:
        shutil.rmtree(again, ignore_errors=True)
        shutil.copytree(lake, again)
        return warm()

    contestants = {"python": child([sys.executable, "-c", ""]), "help": child([*command, "--help"]), "warm_ingest": ingest}
    spreads = race(contestants, rounds)
    beyond = [1000 * (a - b) for a, b in zip(spreads["help"].rounds, spreads["python"].rounds, strict=True)]
    value = 1000 * (spreads["help"].best - spreads["python"].best)
    small = spreads["warm_ingest"]
    note = f"a file of {second.stat().st_size / MB:.2g} MB"
    figures = [
        figure("help_cpu_ms", value, "", min(beyond), max(beyond)),
        figure("warm_ingest_cpu_s", small.best, note, small.best, small.worst),
    ]
    return Found(figures, [], spreads)


def cold_compile(folder: Path, rounds: int, source_rounds: int) -> Found:
    """Return ``cold_compile_cpu_s``, all CPU of a process that compiles every kernel for an empty cache, and the same from source.

    It has the intermediate code that a wheel and ``make`` bring. That is made here where the checkout has none that fits, and not counted.
    """
    bitcode, nothing = folder / "bitcode", folder / "nothing"
    if lowered.FOLDER.exists():
        shutil.copytree(lowered.FOLDER, bitcode)
    making = child([sys.executable, "-m", "kernels.lower", str(bitcode)])()

    def compiling(source: Path) -> float:
        cache = Path(tempfile.mkdtemp(dir=folder))
        command = [sys.executable, "-c", COLD, str(cache), str(source), str(len(list(source.glob("*"))))]
        return child(command)()

    spread = Spread.of([compiling(bitcode) for _ in range(rounds)])
    source = [compiling(nothing) for _ in range(source_rounds)]
    note = f"{len(list(bitcode.iterdir()))} kernels, the imports of numba included"
    further = [Figure("cold_compile_source_cpu_s", min(source), "s")] if source else []
    further.append(Figure("lowering_cpu_s", making, "s", note="little where the checkout had it"))
    return Found([figure("cold_compile_cpu_s", spread.best, note, spread.best, spread.worst)], further, {"cold_compile": spread})


def memory(folder: Path, size_mb: float, rounds: int) -> Found:
    """Return the figures of memory for a payload of ``size_mb`` and one of ten times that; the least peak of ``rounds`` counts."""
    peaks: dict[int, list[int]] = {}
    imports = min(peak_mb(IMPORTS) for _ in range(rounds))
    for factor in (1, 10):
        source, lake = folder / f"memory{factor}", folder / f"memory{factor}.lake"
        capture.write(source, int(size_mb * factor * MB), tools=(TOOL,))
        payload, config = str(source / TOOL / "0000.hsms"), str(source / "loadlock.toml")
        peaks[factor] = []
        for _ in range(rounds):
            peaks[factor].append(peak_mb(IMPORTS + INGEST.format(lake=str(lake), payload=payload, config=config)))
            shutil.rmtree(lake)
        shutil.rmtree(source)
    one, ten = peaks[1], peaks[10]
    note = f"{size_mb:g} MB of input; imports alone {imports} MB, peak {min(one)} MB; with {10 * size_mb:g} MB {min(ten)} MB"
    growth = [b / a for a, b in zip(one, ten, strict=True)]
    figures = [
        figure("peak_rss_mb", min(one) - imports, note, min(one) - imports, max(one) - imports),
        figure("peak_rss_growth_10x", min(ten) / min(one), "", min(growth), max(growth)),
    ]
    return Found(figures, [Figure("imports_rss_mb", imports, "MB")])
