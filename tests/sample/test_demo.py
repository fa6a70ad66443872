"""What ``make demo`` runs, and every command that it then proposes."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_the_demo_and_what_it_proposes(tmp_path: Path, loadlock_command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "demo", tmp_path / "scripts" / "demo")
    (tmp_path / "sample_data").symlink_to(ROOT / "sample_data")
    program = tmp_path / "loadlock"
    program.write_text(f'#!/usr/bin/env bash\nexec {sys.executable} -m loadlock.cli "$@"\n')
    program.chmod(0o755)
    done = subprocess.run([tmp_path / "scripts" / "demo", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Exit 3" in done.stdout
    assert "rf_forward_power" in done.stdout
    monkeypatch.chdir(tmp_path)
    proposed = re.findall(r"^  loadlock (.*)$", done.stdout, re.MULTILINE)
    assert len(proposed) > 5
    for line in proposed:
        answer = loadlock_command(*shlex.split(line, comments=True))
        assert answer.code == 0, (line, answer.err)
