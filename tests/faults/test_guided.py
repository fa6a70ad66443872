"""Coverage-guided fuzzing of the decoders (:mod:`tests.faults.guided`): nothing raises, spans tile the payload, and branches are found.

Without atheris these tests fail; they are never skipped.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.nursery import ROOT
from tests.faults.soak import new_seed, scaled

Run = Callable[..., Any]


def fuzz(target: str, runs: int, seed: int, folder: Path) -> tuple[int, str]:
    """Run a target in a process of its own, which libFuzzer ends; return exit code and log."""
    child = subprocess.run(
        [sys.executable, "-m", "tests.faults.guided", target, str(folder / "corpus"), str(runs), str(seed)],
        cwd=ROOT,
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return child.returncode, child.stdout + child.stderr


def nothing_raises(target: str, runs: int, folder: Path, note: Run) -> None:
    seed = new_seed() % (1 << 31)
    code, log = fuzz(target, runs, seed, folder)
    culprits = {path.name: path.read_bytes().hex() for path in folder.glob("*-*") if path.is_file()}
    assert (code, culprits) == (0, {}), (seed, log[-6000:])
    branches = [int(found) for found in re.findall(r"cov: (\d+)", log)]
    executed, added = (int(re.findall(rf"stat::{name}:\s+(\d+)", log)[0]) for name in ("number_of_executed_units", "new_units_added"))
    assert executed >= runs
    assert added > 0
    assert branches[-1] > branches[0] > 100, "the kernels are not seen"
    note(seed=seed, runs_of_the_fuzzer=executed, branches=branches[-1], inputs_kept=added)


def test_a_planted_fault_is_found(tmp_path: Path) -> None:
    """The tool itself: four bytes in a row are found one after the other, and the input that raises is kept."""
    code, log = fuzz("planted", 5_000_000, 1, tmp_path)
    assert code != 0
    assert "the planted fault was found" in log
    assert [path.read_bytes()[:4] for path in tmp_path.glob("crash-*")] == [b"\x9d\x07\xe1\x5a"]


@pytest.mark.parametrize(("target", "runs"), [("hsms", 1_500), ("tables", 1_500)])
def test_a_guided_fuzzer_finds_nothing(target: str, runs: int, tmp_path: Path, note: Run) -> None:
    nothing_raises(target, runs, tmp_path, note)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["hsms", "tables"])
def test_a_guided_fuzzer_finds_nothing_for_long(target: str, tmp_path: Path, note: Run) -> None:
    nothing_raises(target, scaled(20_000), tmp_path, note)
