"""Completion scripts: bash itself completes with ours."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loadlock.commands import COMMANDS

Run = Callable[..., Any]


@pytest.fixture
def completes(loadlock_command: Run, tmp_path: Path) -> Callable[..., list[str]]:
    """What bash offers for the last of some words."""
    answer = loadlock_command("completion", "bash")
    assert answer.code == 0
    script = tmp_path / "loadlock.bash"
    script.write_text(answer.out)
    (tmp_path / "drop").mkdir()
    (tmp_path / "drop" / "1.csv").touch()
    (tmp_path / "fab.toml").touch()

    def offered(*words: str) -> list[str]:
        line = f'source {script}; COMP_WORDS=(loadlock "$@"); COMP_CWORD=$#; _shtab_loadlock; printf "%s\\n" "${{COMPREPLY[@]}}"'
        done = subprocess.run(["bash", "-c", line, "bash", *words], capture_output=True, text=True, check=True, cwd=tmp_path)
        return done.stdout.split()

    return offered


def test_bash_completes_commands_options_and_choices(completes: Callable[..., list[str]]) -> None:
    assert {name.split()[0] for name in COMMANDS} <= set(completes(""))
    assert completes("ing") == ["ingest"]
    assert completes("quarantine", "re") == ["replay"]
    assert completes("ingest", "--co") == ["--config"]
    assert completes("sql", "--format", "ar") == ["arrow"]


def test_bash_completes_files_where_files_are_meant(completes: Callable[..., list[str]]) -> None:
    assert [item.rstrip("/") for item in completes("ingest", "dr")] == ["drop"]
    assert completes("ingest", "drop", "--config", "fab") == ["fab.toml"]
    assert [item.rstrip("/") for item in completes("status", "--lake", "")] == ["drop"]  # folders alone


def test_zsh_and_json(loadlock_command: Run) -> None:
    assert loadlock_command("completion", "zsh").out.startswith("#compdef loadlock")
    document = json.loads(loadlock_command("completion", "bash", "--json").out)
    assert (document["schema"], document["shell"]) == (1, "bash")
    assert "complete -o" in document["script"]
    assert loadlock_command("completion", "fish").code == 2
