"""The gate's worker with a reduction that does its work one and a half times: what a test gives our side to run."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

from kernels import reduce

WORKER = Path(__file__).resolve().parents[2] / "benchmarks" / "gate_worker.py"

whole = reduce.reduce_windows


def slower(matrix: Any, time_us: Any, start: Any, stop: Any, what: int = reduce.QUANTILES) -> Any:
    """Reduce half of the windows first, and then all of them."""
    half = len(start) // 2
    whole(matrix, time_us, start[:half], stop[:half], what)
    return whole(matrix, time_us, start, stop, what)


if __name__ == "__main__":
    reduce.reduce_windows = slower
    runpy.run_path(str(WORKER), run_name="__main__")
