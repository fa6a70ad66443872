"""What a process of its own costs: the CPU of ``--help`` and of ingesting a small file, the peak memory of an ingest and of one ten times
as large.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from benchmarks import capture
from benchmarks.goals import figure
from benchmarks.measure import Figure, Found, child, peak_mb, race

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
