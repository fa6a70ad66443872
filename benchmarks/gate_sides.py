"""Two revisions side by side: one process each, told in turns to run the same step on the same bytes."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import bench_dedupe, bench_reduce, capture
from benchmarks.gate_worker import STEPS, TOOL

ROOT = Path(__file__).resolve().parents[1]
WORKER = Path(__file__).with_name("gate_worker.py")
MAIN = ("main", "origin/main")
TURN_S = 0.12
"""CPU seconds that a turn takes at least; short steps are repeated."""

REPEATS_MOST = 200


@dataclass(frozen=True)
class Load:
    """How large the inputs are."""

    decode_mb: float = 20
    ingest_mb: float = 20
    samples: int = 1_000_000
    keys: int = 500_000


def git(*arguments: str, root: Path = ROOT) -> str | None:
    """Return what git says, or None where it fails."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], check=False, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def base_of(root: Path = ROOT) -> str | None:
    """Return the revision to compare with: the merge base with main, or the commit before where that is HEAD itself; None: not here."""
    head = git("rev-parse", "HEAD", root=root)
    for name in MAIN:
        base = git("merge-base", name, "HEAD", root=root)
        if base is not None and base != head:
            return base
    return git("rev-parse", "--verify", "--quiet", "HEAD~1^{commit}", root=root)


@contextmanager
def checked_out(revision: str, folder: Path, root: Path = ROOT) -> Iterator[Path]:
    """Check ``revision`` out at ``folder``, which must not be there, and remove it afterwards."""
    if git("worktree", "add", "--detach", str(folder), revision, root=root) is None:
        raise SystemExit(f"bench: {revision} can't be checked out")
    try:
        yield folder
    finally:
        git("worktree", "remove", "--force", str(folder), root=root)


def prepare(folder: Path, load: Load) -> Path:
    """Write the inputs of all steps to ``folder``."""
    capture.write(folder, int(load.ingest_mb * 1e6), tools=(TOOL,))
    for layout in ("f4", "mixed"):
        data = capture.chunks(capture.Tool(TOOL, layout), int(load.decode_mb * 1e6))
        (folder / f"{layout}.hsms").write_bytes(b"".join(data))
    windows = bench_reduce.make(load.samples)
    keys = bench_dedupe.make(load.keys)
    step = bench_dedupe.Book.empty().step
    np.savez(folder / "arrays.npz", **vars(windows), stream=keys.stream, key_us=keys.time_us, seq=keys.seq, step=step)
    return folder


class Side:
    """The process of one revision."""

    def __init__(self, root: Path, source: Path, scratch: Path, cache: Path | None = None, worker: Path = WORKER) -> None:
        scratch.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "PYTHONPATH": str(root)}
        if cache is not None:
            environment["LOADLOCK_CACHE"] = str(cache)
            environment.pop("NUMBA_CACHE_DIR", None)  # which would go before it
        command = [sys.executable, "-P", str(worker), str(root), str(source), str(scratch)]
        self._process = subprocess.Popen(
            command, cwd=scratch, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._stderr = ThreadPoolExecutor(1).submit(self._process.stderr.read) if self._process.stderr else None

    def run(self, step: str, repeats: int = 1) -> dict[str, Any]:
        """Run a step; return its answer."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(json.dumps({"step": step, "repeats": repeats}) + "\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise SystemExit(f"bench: a side ended:\n{self._stderr.result() if self._stderr else ''}")
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        """End the process."""
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        if self._stderr:
            self._stderr.result()
        if self._process.stderr:
            self._process.stderr.close()


@dataclass
class Pairs:
    """CPU seconds of one figure, a pair (base, ours) each round."""

    name: str
    seconds: list[tuple[float, float]] = field(default_factory=list)

    @property
    def best(self) -> float:
        """Ours over the base's, best rounds."""
        base, ours = zip(*self.seconds, strict=True)
        return float(min(ours) / min(base))

    @property
    def ratios(self) -> list[float]:
        """Ours over the base's, pair by pair, in order of size."""
        return sorted(ours / base for base, ours in self.seconds)

    @property
    def median(self) -> float:
        """The median of the pairs."""
        return statistics.median(self.ratios)

    @property
    def slower(self) -> float:
        """How many times slower ours is, at least: what both the best rounds and the median say."""
        return min(self.best, self.median)


@dataclass
class Comparison:
    """Both sides, warmed up step by step; ``absent`` tells why a step is not compared."""

    base: Side
    ours: Side
    absent: dict[str, str] = field(default_factory=dict)
    repeats: dict[str, int] = field(default_factory=dict)
    pairs: dict[str, Pairs] = field(default_factory=dict)

    def warm_up(self, steps: Sequence[str] = tuple(STEPS)) -> None:
        """Compile on both sides at once, and settle how often each step is repeated."""
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda side: [side.run(step) for step in steps], (self.base, self.ours)))
        for step in steps:
            found = {"base": self.base.run(step), "ours": self.ours.run(step)}
            if "absent" in found["ours"]:
                raise SystemExit(f"bench: the step {step} fails on our side: {found['ours']['absent']}")
            if "absent" in found["base"]:
                self.absent[step] = found["base"]["absent"]
                continue
            once = max(found["ours"]["seconds"].values())
            self.repeats[step] = max(1, min(REPEATS_MOST, round(TURN_S / max(once, 1e-6))))

    def rounds(self, count: int, steps: Sequence[str] | None = None) -> None:
        """Add ``count`` pairs to each figure of ``steps``, the base first in every other one."""
        for number in range(count):
            for step in steps or self.repeats:
                turns = ("base", "ours") if number % 2 == 0 else ("ours", "base")
                sides = {"base": self.base, "ours": self.ours}
                found = {turn: sides[turn].run(step, self.repeats[step]) for turn in turns}
                failed = {turn: reply["absent"] for turn, reply in found.items() if "absent" in reply}
                if failed:
                    raise SystemExit(f"bench: {step} failed: {failed}")
                for figure in found["ours"]["seconds"].keys() & found["base"]["seconds"].keys():
                    seconds = (found["base"]["seconds"][figure], found["ours"]["seconds"][figure])
                    self.pairs.setdefault(figure, Pairs(figure)).seconds.append(seconds)

    def close(self) -> None:
        """End both processes."""
        self.base.close()
        self.ours.close()
