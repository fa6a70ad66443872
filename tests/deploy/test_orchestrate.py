"""The cron script and the page about schedulers: retries on exit 5 alone, no two runs at once, and a second run adds nothing."""

from __future__ import annotations

import ast
import fcntl
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ingest.errors import UsageError
from storage.errors import Busy, KeyReused

ROOT = Path(__file__).resolve().parents[2]
CRON = ROOT / "deploy" / "ingest-cron"
PAGE = (ROOT / "docs" / "how-to" / "orchestrate.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


class Stub:
    """A command that ends with one exit code after the other, and writes down how it was called."""

    def __init__(self, folder: Path, codes: list[int]) -> None:
        self.calls_file = folder / "calls"
        self.calls_file.touch()
        self.path = folder / "loadlock"
        cases = " ".join(map(str, codes))
        self.path.write_text(
            f'#!/usr/bin/env bash\necho "$*" >>{self.calls_file}\ncodes=({cases})\nn=$(wc -l <{self.calls_file})\n'
            'echo "{\\"schema\\": 1}"\necho "said $n" >&2\nexit "${codes[n - 1]}"\n'
        )
        self.path.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        return self.calls_file.read_text().splitlines()


def cron(folder: Path, *arguments: object, **variables: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PAUSE": "0", "RECEIPTS": str(folder / "receipts.jsonl")} | {n: str(v) for n, v in variables.items()}
    command = [str(CRON), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=folder)


def test_busy_is_tried_again_until_it_works(tmp_path: Path) -> None:
    stub = Stub(tmp_path, [5, 5, 0])
    done = cron(tmp_path, "drop", "fab.lake", "fab.toml", LOADLOCK=stub.path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert stub.calls == ["ingest drop --lake fab.lake --config fab.toml --json"] * 3
    assert [json.loads(line) for line in (tmp_path / "receipts.jsonl").read_text().splitlines()] == [{"schema": 1}] * 3


def test_busy_to_the_end_is_said(tmp_path: Path) -> None:
    stub = Stub(tmp_path, [5] * 9)
    done = cron(tmp_path, "drop", "fab.lake", LOADLOCK=stub.path, ATTEMPTS=2)
    assert (done.returncode, len(stub.calls)) == (5, 2)
    assert "still busy after 2 tries" in done.stderr
    assert "said 2" in done.stderr


@pytest.mark.parametrize("code", [1, 2, 3, 4, 6, 7, 130])
def test_nothing_else_is_tried_again(tmp_path: Path, code: int) -> None:
    stub = Stub(tmp_path, [code, 0])
    done = cron(tmp_path, "drop", "fab.lake", LOADLOCK=stub.path)
    assert (done.returncode, len(stub.calls)) == (code, 1)
    assert f"exit {code}" in done.stderr
    assert "said 1" in done.stderr


def test_two_runs_do_not_overlap(tmp_path: Path) -> None:
    stub = Stub(tmp_path, [0])
    with open(tmp_path / ".fab.lake.cron", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert cron(tmp_path, "drop", "fab.lake", LOADLOCK=stub.path).returncode == 0
    assert stub.calls == []
    assert cron(tmp_path, "drop", "fab.lake", LOADLOCK=stub.path).returncode == 0
    assert len(stub.calls) == 1


def real(folder: Path) -> Path:
    command = folder / "real"
    command.write_text(f'#!/usr/bin/env bash\nexec {sys.executable} -m loadlock.cli "$@"\n')
    command.chmod(0o755)
    return command


def test_the_real_command_twice(tmp_path: Path, polisher: Any) -> None:
    site = polisher(tmp_path)
    site.wafers("1.csv", range(2))
    for _ in range(2):
        done = cron(tmp_path, site.drop, tmp_path / "fab.lake", site.folder / "loadlock.toml", LOADLOCK=real(tmp_path))
        assert (done.returncode, done.stderr) == (0, "")
    first, second = [json.loads(line) for line in (tmp_path / "receipts.jsonl").read_text().splitlines()]
    assert (first["payloads"]["committed"], second["payloads"]["committed"], second["payloads"]["replayed"]) == (1, 0, 1)
    assert first["receipts"][0]["payload_id"] == second["receipts"][0]["payload_id"]


def test_the_pages_function(tmp_path: Path, polisher: Any) -> None:
    names: dict[str, Any] = {}
    exec(BLOCKS[0], names)
    site = polisher(tmp_path)
    site.wafers("1.csv", range(2))
    command, config = str(real(tmp_path)), str(site.folder / "loadlock.toml")
    summary = names["ingest"](str(site.drop), str(tmp_path / "fab.lake"), config, command=command)
    assert (summary["payloads"]["committed"], summary["attention"]) == (1, False)
    site.file("2.csv", ["P1,A,soon,W9,ramp,1,1"])
    assert names["ingest"](str(site.drop), str(tmp_path / "fab.lake"), command=command)["attention"]
    with pytest.raises(names["Failed"], match="exit 2"):
        names["ingest"](str(tmp_path / "nowhere"), str(tmp_path / "fab.lake"), command=command)
    stub = Stub(tmp_path, [5])
    with pytest.raises(names["TryAgain"], match="said 1"):
        names["ingest"]("drop", "fab.lake", command=str(stub.path))


def test_the_page_is_right_about_codes_and_calls() -> None:
    assert (UsageError.exit_code, KeyReused.exit_code, Busy.exit_code) == (2, 4, 5)
    for block in BLOCKS[1:]:
        calls = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "ingest"]
        assert len(calls) == 1
    assert re.search(r"ingest-cron (\S+) (\S+) (\S+)\n", PAGE)
