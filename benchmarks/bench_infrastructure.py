"""The infrastructure table: the same delivery through three chains that shops build, and through loadlock.

Every load and every query runs in a process of its own; chains take turns, the least CPU of several rounds counts. The answers of all
chains are compared. Bytes that a query reads are the read calls of its process (``rchar``) from an open session to the answer, the
catalog's included; for PostgreSQL the 8 KiB blocks that ``EXPLAIN (ANALYZE, BUFFERS)`` counts.
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import capture, postgres
from benchmarks.chains import CHAINS, IMPORTS, POSTGRES_QUERIES, QUERIES
from benchmarks.measure import Figure, Found, Spread, child

TOOLS = ("ETCH01", "ETCH02")
OURS = "loadlock"
SMALL_MB, LARGE_MB = 6.4, 210.0
LARGE_CHAINS = ("numpy_polars", OURS)
LARGE_PAYLOADS = 4
COMPOSITE = "1 - geometric mean over the five axes of ours / theirs; the axis 'read' is the geometric mean of the three queries"
ANSWER_TOLERANCE = 1e-9
RESENT_TOLERANCE = 1e-3
"""Where re-sent messages were stored twice, means are a little off; the table says by how much."""


def worker(action: str, chain: str, *arguments: object) -> dict[str, Any]:
    """Run one step of a chain in a process of its own and return what it cost."""
    command = [sys.executable, "-m", "benchmarks.chains", action, chain, *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"bench: {action} {chain} failed:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def stored_bytes(target: Path) -> int:
    """Return the bytes of all files of ``target``."""
    return sum(path.stat().st_size for path in target.rglob("*") if path.is_file())


class Chain:
    """One way through; ``loads`` gathers the rounds, ``answers`` what its queries said and cost."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cpu: list[float] = []
        self.peaks: list[float] = []
        self.stored = 0
        self.processes = 1
        self.answers: dict[str, dict[str, Any]] = {}

    def round(self, source: Path, target: Path, *, last: bool) -> None:
        """Load once into a fresh ``target``; after the last round ask the queries. Nothing is left behind."""
        if self.name == "struct_postgres":
            with postgres.server(target) as server:
                self._postgres(source, server, last=last)
            return
        cost = worker("load", self.name, source, target)
        self._book(cost["cpu_s"], cost["peak_mb"])
        if last:
            self.stored = stored_bytes(target)
            self.answers = {query: worker("query", self.name, target, query) for query in QUERIES}
        shutil.rmtree(target)

    def _postgres(self, source: Path, server: postgres.Server, *, last: bool) -> None:
        before = server.cpu_s()
        cost = worker("load", self.name, source, server.folder)
        self._book(cost["cpu_s"] + server.cpu_s() - before, cost["peak_mb"] + server.peak_mb())
        self.processes = server.processes_most + 2  # the loader and its psql
        if last:
            sizes = " + ".join(f"pg_total_relation_size('{name}')" for name in ("traces", "windows", "features"))
            self.stored = int(server.sql(f"SELECT {sizes}"))
            for query in QUERIES:
                self.answers[query] = worker("query", self.name, server.folder, query)
                size, milliseconds = server.explained(POSTGRES_QUERIES[query])
                self.answers[query] |= {"bytes_read": size, "query_cpu_s": milliseconds / 1000}

    def _book(self, cpu_s: float, peak_mb: float) -> None:
        self.cpu.append(cpu_s)
        self.peaks.append(peak_mb)

    def row(self, samples: int, start_up_s: float) -> dict[str, Any]:
        """Return the chain's line of the table."""
        spread = Spread.of(self.cpu)
        reads = {f"read_{query}": self.answers[query]["bytes_read"] for query in QUERIES}
        return {
            "chain": self.name,
            "cpu_s_per_M": spread.best / samples * 1e6,
            "worst_cpu_s_per_M": spread.worst / samples * 1e6,
            "less_start_up": max(spread.best - start_up_s, 0.0) / samples * 1e6,
            "bytes_per_sample": self.stored / samples,
            **reads,
            **{f"ms_{query}": 1000 * self.answers[query]["query_cpu_s"] for query in QUERIES},
            "peak_mb": min(self.peaks),
            "processes": self.processes,
        }


def compare(chains: list[Chain]) -> dict[str, float]:
    """Return by how much each chain's answers are off ours, at the most; stop where they are not the same."""
    ours = next(chain for chain in chains if chain.name == OURS).answers
    off = {}
    for chain in chains:
        allowed = RESENT_TOLERANCE if chain.name == "numpy_polars" else ANSWER_TOLERANCE
        worst = 0.0
        for query in QUERIES:
            (count, total), (want, expected) = chain.answers[query]["answer"], ours[query]["answer"]
            if count != want or abs(total / expected - 1) > allowed:
                raise SystemExit(f"bench: {chain.name} answers {query} with {(count, total)}, loadlock with {(want, expected)}")
            worst = max(worst, abs(total / expected - 1))
        off[chain.name] = worst
    return off


def run(folder: Path, size_mb: float, payloads: int, names: list[str], rounds: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Send one delivery through the chains ``names``; return the table's rows, and notes: samples, absent chains, deviations."""
    source = folder / "delivery"
    counts = capture.write(source, int(size_mb * 1e6), tools=TOOLS, payloads=payloads)
    chains, absent = [Chain(name) for name in names], {}
    for number in range(rounds):
        for chain in list(chains):
            try:
                chain.round(source, folder / chain.name, last=number == rounds - 1)
            except postgres.Absent as reason:
                absent[chain.name] = str(reason)
                chains.remove(chain)
                continue
            print(f"  round {number + 1}/{rounds} {chain.name}: {chain.cpu[-1]:.2f} CPU s, {chain.peaks[-1]:.0f} MB", file=sys.stderr)
    shutil.rmtree(source)
    start_up = {chain.name: min(child([sys.executable, "-c", IMPORTS[chain.name]])() for _ in range(3)) for chain in chains}
    notes: dict[str, Any] = {"samples": counts.samples, "bytes_in": counts.bytes_in, "absent": absent}
    notes |= {"answers_off": compare(chains), "start_up_cpu_s": start_up}
    notes["open_bytes"] = {chain.name: chain.answers["series"]["open_bytes"] for chain in chains}
    return [chain.row(counts.samples, start_up[chain.name]) for chain in chains], notes


def mean(ratios: list[float]) -> float:
    """Return the geometric mean."""
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def reductions(rows: list[dict[str, Any]], ours: dict[str, Any], cpu: str) -> list[dict[str, Any]]:
    """Return, for each baseline, by how many percent ``ours`` needs less on each axis, and the composite."""
    out = []
    for row in rows:
        if row["chain"] == OURS:
            continue
        ratios = {
            "cpu": ours[cpu] / row[cpu],
            "stored": ours["bytes_per_sample"] / row["bytes_per_sample"],
            "read": mean([ours[f"read_{query}"] / row[f"read_{query}"] for query in QUERIES]),
            "memory": ours["peak_mb"] / row["peak_mb"],
            "processes": ours["processes"] / row["processes"],
        }
        ratios["composite"] = mean(list(ratios.values()))
        out.append({"against": row["chain"]} | {f"{axis}_percent": 100 * (1 - ratio) for axis, ratio in ratios.items()})
    return out


def through_all(mb: float, large_mb: float, rounds: int) -> Found:
    """Send both deliveries through the chains; ``large_mb`` 0: the small one only."""
    with tempfile.TemporaryDirectory(prefix="loadlock-chains-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # the server's user has to reach its own folder below
        small, notes = run(folder, mb, 1, list(CHAINS), rounds)
        large: list[dict[str, Any]] = []
        large_notes: dict[str, Any] = {}
        if large_mb:
            large, large_notes = run(folder, large_mb, LARGE_PAYLOADS, list(LARGE_CHAINS), rounds)
    ours = next(row for row in small if row["chain"] == OURS)
    parts: dict[str, Any] = {
        "composite": COMPOSITE,
        "small": small,
        "small_notes": notes,
        "reduction_small": reductions(small, ours, "cpu_s_per_M"),
    }
    if large:
        ours_large = next(row for row in large if row["chain"] == OURS)
        mixed = ours | {key: ours_large[key] for key in ("less_start_up", "bytes_per_sample")}
        parts |= {"large": large, "large_notes": large_notes, "reduction_large": reductions(large, ours_large, "cpu_s_per_M")}
        parts["reduction_per_sample"] = reductions(small, mixed, "less_start_up")
    found = [
        Figure(f"reduction_vs_{row['against']}_{kind}", row["composite_percent"], "%", 80 if row["against"] != "numpy_polars" else None)
        for kind in ("small", "per_sample", "large")
        for row in parts.get(f"reduction_{kind}", [])
    ]
    return Found(further=found, tables={"infrastructure": parts})
