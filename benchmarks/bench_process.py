"""What a process of its own costs: the CPU of ``--help``, and the peak memory of an ingest and of one ten times as large."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from benchmarks import capture
from benchmarks.goals import figure
from benchmarks.measure import Figure, Found, child, peak_mb, race

MB = 1_000_000
TOOL = "ETCH01"
HELP = "from loadlock.cli import entry; entry()"
IMPORTS = """
import importlib, pkgutil
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


def start_up(rounds: int) -> Found:
    """Return ``help_cpu_ms``: CPU time of ``loadlock --help`` beyond a bare interpreter."""
    contestants = {"python": child([sys.executable, "-c", ""]), "help": child([sys.executable, "-c", HELP, "--help"])}
    spreads = race(contestants, rounds)
    beyond = [1000 * (a - b) for a, b in zip(spreads["help"].rounds, spreads["python"].rounds, strict=True)]
    value = 1000 * (spreads["help"].best - spreads["python"].best)
    return Found([figure("help_cpu_ms", value, "", min(beyond), max(beyond))], [], spreads)


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
