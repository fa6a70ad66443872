"""One revision's side of the comparison: a process that runs a step each time it is told to.

Run as a script with the revision's root as ``PYTHONPATH``: ``python -P gate_worker.py ROOT INPUT SCRATCH``. Nothing of ``benchmarks`` is
imported, so the base needs to know nothing of it; steps go through entry points that seldom change, and a step that a revision can't run
is reported as absent. Each line of standard input is ``{"step": name, "repeats": n}``; each answer is ``{"seconds": {figure: CPU s}}`` or
``{"absent": reason}``.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

TOOL = "ETCH01"
CHUNK_BYTES = 16 << 20
PACKAGES = ("kernels", "storage", "ingest", "loadlock")


class Steps:
    """The steps on the inputs in ``source``; what they write goes to ``scratch``."""

    def __init__(self, source: Path, scratch: Path) -> None:
        self.source, self.scratch = source, scratch

    def chunks(self, layout: str) -> list[bytes]:
        """Return a capture in pieces."""
        data = (self.source / f"{layout}.hsms").read_bytes()
        return [data[at : at + CHUNK_BYTES] for at in range(0, len(data), CHUNK_BYTES)]

    @cached_property
    def f4(self) -> list[bytes]:
        """The capture of F4 runs."""
        return self.chunks("f4")

    @cached_property
    def mixed(self) -> list[bytes]:
        """The capture of mixed formats."""
        return self.chunks("mixed")

    @cached_property
    def arrays(self) -> dict[str, Any]:
        """The windows and keys."""
        import numpy as np

        with np.load(self.source / "arrays.npz") as held:
            return dict(held)

    @cached_property
    def config(self) -> Any:
        """The configuration of the capture."""
        from ingest.config import parse

        return parse((self.source / "loadlock.toml").read_text(encoding="utf-8"))

    def decode(self, chunks: list[bytes]) -> None:
        """Decode a capture."""
        from ingest.dictionary import Dictionary
        from ingest.formats.hsms import HsmsDecoder

        decoder = HsmsDecoder(TOOL, {"tool": TOOL}, self.config.model(TOOL), Dictionary(), self.config.limits, reuse=True)
        records = 0
        for chunk in chunks:
            records += sum(len(decoded.records.seq) for decoded in decoder.feed(chunk) if decoded.records is not None)
        records += sum(len(decoded.records.seq) for decoded in decoder.finish() if decoded.records is not None)
        if not records:
            raise RuntimeError("nothing was decoded")

    def reduce(self) -> None:
        """Reduce windows to all statistics."""
        from kernels import reduce

        held = self.arrays
        reduce.reduce_windows(held["matrix"], held["time_us"], held["start"], held["stop"])

    def keys(self) -> None:
        """Tell new keys from repeated ones, and take them into the runs."""
        import numpy as np

        from kernels import sequence

        held = self.arrays
        none = np.empty(0, np.int32), np.empty((0, 4), np.int64)
        _, *late, run_stream, runs, begin = sequence.advance(held["stream"], held["key_us"], held["seq"], *none, held["step"])
        outside = sequence.covered(*late, begin, runs) < 0
        _, *keys = sequence.order_keys(*(column[outside] for column in late))
        fresh = ~sequence.same_as_previous(*keys)
        sequence.merge_runs(*(column[fresh] for column in keys), run_stream, runs, held["step"])

    def ingest(self) -> dict[str, float]:
        """Ingest a capture into a fresh lake; the whole, and the writing of its files as its own clock tells."""
        import loadlock

        path = self.scratch / "lake"
        shutil.rmtree(path, ignore_errors=True)
        with loadlock.open(path) as lake:
            begin = time.process_time()
            lake.ingest(self.source / TOOL / "0000.hsms", config=self.source / "loadlock.toml")
            seconds = {"ingest": time.process_time() - begin}
            stages: dict[str, float] = getattr(lake, "last_timings", {})
        return seconds | ({"write": stages["write"]} if "write" in stages else {})


STEPS: dict[str, Callable[[Steps], dict[str, float] | None]] = {
    "decode_f4": lambda steps: steps.decode(steps.f4),
    "decode_mixed": lambda steps: steps.decode(steps.mixed),
    "reduce": Steps.reduce,
    "keys": Steps.keys,
    "ingest": Steps.ingest,
}
"""Step to its function; one that returns nothing is timed as a whole."""


def run(steps: Steps, name: str, repeats: int) -> dict[str, float]:
    """Run a step ``repeats`` times and return the CPU seconds by figure."""
    gc.collect()
    total: dict[str, float] = {}
    for _ in range(repeats):
        begin = time.process_time()
        found = STEPS[name](steps) or {name: time.process_time() - begin}
        for figure, seconds in found.items():
            total[figure] = total.get(figure, 0.0) + seconds
    return total


def answer(steps: Steps, command: dict[str, Any]) -> dict[str, Any]:
    """Return what is said to one command; a step that fails at all is absent here."""
    try:
        return {"seconds": run(steps, command["step"], command["repeats"])}
    except Exception as error:
        return {"absent": f"{type(error).__name__}: {error}"}


def main() -> None:
    """Answer commands until standard input ends."""
    root, source, scratch = map(Path, sys.argv[1:4])
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for name in PACKAGES:
        file = __import__(name).__file__ or ""
        if not Path(file).resolve().is_relative_to(root.resolve()):
            raise SystemExit(f"bench: {name} comes from {file}, not from {root}")
    steps = Steps(source, scratch)
    for line in sys.stdin:
        channel.write(json.dumps(answer(steps, json.loads(line))) + "\n")
        channel.flush()


if __name__ == "__main__":
    main()
