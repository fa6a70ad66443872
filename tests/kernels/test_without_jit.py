"""The kernels' own tests once more as plain Python: what a compiler could hide shows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

GUARD = "LOADLOCK_TEST_WITHOUT_JIT"


@pytest.mark.skipif(GUARD in os.environ, reason="this is the run without the jit")
def test_kernels_pass_without_the_jit():
    here = Path(__file__).resolve().parent
    env = os.environ | {"NUMBA_DISABLE_JIT": "1", GUARD: "1", "HYPOTHESIS_PROFILE": "small"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not slow", "-p", "no:cacheprovider", str(here)]
    done = subprocess.run(command, env=env, cwd=here.parents[1], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
