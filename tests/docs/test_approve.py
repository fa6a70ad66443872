"""Every line of the page about approvals is run, in order, on one lake."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import loadlock

Run = Callable[..., Any]
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "how-to" / "approve-what-destroys.md").read_text(encoding="utf-8")
LINES = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.S) for line in block.strip().splitlines()]
RULE = "".join(re.findall(r"```toml\n(.*?)```", PAGE, re.S))


def test_every_line_in_order(tmp_path: Path, polisher: Run, monkeypatch: pytest.MonkeyPatch, loadlock_command: Run) -> None:
    site = polisher(tmp_path)
    config = site.config.rename(tmp_path / "fab.toml")
    monkeypatch.chdir(tmp_path)
    with loadlock.open("fab.lake") as lake:
        lake.ingest(site.file("1.csv", [*site.rows([1]), "P1,A,soon,W9,ramp,1,1"]), config=config)
        lake.ingest(site.wafers("2.csv", [3], tool="P2"), config=config)
        [(span,)] = lake.sql("select quarantine_id from quarantine").fetchall()
    config.write_text(f"{config.read_text()}\n{RULE}")
    assert len(LINES) > 25
    for line in LINES:
        command, _, comment = line.partition("#")
        words = [span if word == "ID" else word for word in shlex.split(command)]
        into = words[words.index(">") + 1] if ">" in words else None
        wanted = re.match(r" exit (\d+)", comment)
        assert wanted, line
        answer = loadlock_command(*(words[1 : words.index(">")] if into else words[1:]))
        assert answer.code == int(wanted[1]), (line, answer.out, answer.err)
        if into:
            Path(into).write_text(answer.out)
    with loadlock.open("fab.lake") as lake:
        assert lake.sql("select distinct tool from traces").fetchall() == [("P1",)]
        actions = lake.sql(
            "select action from ledger where action in ('discard', 'trust', 'purge', 'override', 'sweep') order by seq"
        ).fetchall()
        assert [row[0] for row in actions] == ["discard", "trust", "trust", "trust", "purge", "sweep", "override"]
