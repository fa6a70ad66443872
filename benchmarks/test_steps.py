"""The gate's steps under pytest-benchmark, for whoever works on one of them.

``python -m pytest -n 0 benchmarks --benchmark-autosave``, then again with ``--benchmark-compare``. That is wall time of one process: the
figures that are judged come from ``make bench`` and ``make bench-check``, where contestants take turns.
"""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.gate_sides import Load, prepare
from benchmarks.gate_worker import STEPS, Steps


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Steps:
    """Return the steps on inputs of their own."""
    folder = tmp_path_factory.mktemp("steps")
    return Steps(prepare(folder / "source", Load()), folder)


@pytest.mark.parametrize("name", STEPS)
def test_step(name: str, steps: Steps, benchmark: Any) -> None:
    """Time one step; a step that does not do its work fails."""
    benchmark(STEPS[name], steps)
