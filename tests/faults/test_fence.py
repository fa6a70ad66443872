"""The decoder's kernels read nothing in front of their buffer and nothing behind it: unreadable memory on both sides ends whoever does."""

from __future__ import annotations

import ast
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.soak import new_seed

ROOT = Path(__file__).resolve().parents[2]
PAYLOADS = 1_500


def run(what: str, payloads: int, seed: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.faults.fence", what, str(payloads), str(seed)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)


@pytest.mark.parametrize("side", ["after", "before"])
def test_mutated_frames_at_the_fence(side: str) -> None:
    seed = new_seed()
    done = run(side, PAYLOADS, seed)
    assert done.returncode == 0, f"seed {seed}: {done.returncode}\n{done.stderr}"
    told = ast.literal_eval(done.stdout)
    assert told["arrays at the fence"] > PAYLOADS
    assert told["spans rejected"] > PAYLOADS // 10


@pytest.mark.parametrize("side", ["after", "before"])
def test_the_fence_stands(side: str) -> None:
    assert run(f"trespass-{side}", 0, 0).returncode == -signal.SIGSEGV
