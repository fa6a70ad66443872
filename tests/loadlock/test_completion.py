"""Completion scripts: bash and zsh themselves complete with ours."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
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


class Zsh:
    """A zsh on a terminal of its own, that found our script where its users put it."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("zsh")
        assert program, "no zsh here: install it, on Debian with 'apt-get install zsh'"
        self._ours, theirs = pty.openpty()
        environment = {"TERM": "dumb", "HOME": str(folder), "PATH": os.environ["PATH"], "ZDOTDIR": str(folder), "LC_ALL": "C.UTF-8"}
        self._child = subprocess.Popen(
            [program, "-f", "-i"], stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, env=environment, start_new_session=True
        )
        os.close(theirs)
        self.typed(f"PS1='' fpath=({folder}/functions $fpath); autoload -Uz compinit; compinit -u; print rea''dy\n", "ready")

    def typed(self, keys: str, wanted: str) -> str:
        """Type ``keys`` and return what the terminal shows, once it shows ``wanted``; what does not come in time fails."""
        os.write(self._ours, keys.encode())
        shown = ""
        deadline = time.monotonic() + 60
        while wanted not in shown:
            left = deadline - time.monotonic()
            assert left > 0, f"{wanted!r} did not come: {shown!r}"
            if select.select([self._ours], [], [], left)[0]:
                shown += os.read(self._ours, 4096).decode(errors="replace")
        return shown

    def end(self) -> None:
        self._child.kill()
        self._child.wait()
        os.close(self._ours)


@pytest.fixture
def zsh(loadlock_command: Run, tmp_path: Path) -> Iterator[Zsh]:
    (tmp_path / "functions").mkdir()
    (tmp_path / "functions" / "_loadlock").write_text(loadlock_command("completion", "zsh").out)
    (tmp_path / "fab.toml").touch()
    shell = Zsh(tmp_path)
    yield shell
    shell.end()


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        ("loadlock ing\t", "loadlock ingest "),
        ("loadlock quarantine rep\t", "loadlock quarantine replay "),
        ("loadlock ingest drop --conf\t", "--config "),
        ("loadlock ingest drop --config fa\t", "--config fab.toml "),
        ("loadlock sql 'select 1' --format ar\t", "--format arrow "),
        ("loadlock audit \t", "order-independent digest"),
    ],
)
def test_zsh_completes(zsh: Zsh, keys: str, wanted: str) -> None:
    zsh.typed(keys, wanted)


def test_zsh_and_json(loadlock_command: Run) -> None:
    assert loadlock_command("completion", "zsh").out.startswith("#compdef loadlock")
    document = json.loads(loadlock_command("completion", "bash", "--json").out)
    assert (document["schema"], document["shell"]) == (1, "bash")
    assert "complete -o" in document["script"]
    assert loadlock_command("completion", "fish").code == 2
