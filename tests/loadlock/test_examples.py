"""The one example that each command's --help shows is run as it stands, on the sample's lake."""

from __future__ import annotations

import argparse
import glob
import re
import shlex
import signal
import socket
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loadlock.cli import _parser

sys.path.append(str(Path(__file__).resolve().parents[1] / "faults"))
from running import Running, eventually

Run = Callable[..., Any]

PLANNED = [
    "keys new alice",
    "keys trust alice alice.pub --lake fab.lake",
    'plan discard ID --reason "noise" --output plan.json --lake fab.lake',
]

BEFORE = {
    "keys trust": ["keys new alice"],
    "keys revoke": ["ingest drop --config fab.toml --lake fab.lake", "keys new alice", "keys trust alice alice.pub --lake fab.lake"],
    "audit checkpoint": ["keys new me"],
    "plan trust": ["keys new dora"],
    "plan revoke": ["ingest drop --config fab.toml --lake fab.lake"]
    + [f"keys {word}" for name in ("alice", "bob") for word in (f"new {name}", f"trust {name} {name}.pub --lake fab.lake")],
    "plan policy": ["keys new alice", "keys trust alice alice.pub --lake fab.lake"],
    "approve": PLANNED,
    "apply": [*PLANNED, "approve plan.json --key alice.pem --lake fab.lake"],
    "restore": ["backup backups/monday --data --lake fab.lake"],
}
"""What has to be done first."""

ADDED = dict.fromkeys(("keys revoke", "plan revoke"), "\n[approval]\nthreshold = 2\n")
"""What the configuration holds beside the sample's: two keys, so that the first one can be taken back by hand."""

FRESH = {"init": ("fab.lake", "fab.toml")}
"""What must not be there yet."""

ENDLESS = {"watch": signal.SIGTERM, "serve": signal.SIGTERM, "status": signal.SIGINT}
"""Commands that go on, and the signal that ends them."""

SAYS = {
    "init": "fab.toml: written",
    "ingest": "13 replayed",
    "sql": "ETCH01",
    "audit trace": "S6F1",
    "audit verify": "everything holds",
    "quarantine replay": "1 committed",
    "quarantine show": "bad_item",
    "report": "needs no network",
    "config check": "good",
    "retract": "0004.hsms",
}
"""What an answer holds, where it is worth a look."""


def _commands(parser: argparse.ArgumentParser, path: tuple[str, ...] = ()) -> Iterator[str]:
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        yield " ".join(path)
    for group in groups:
        for name, sub in group.choices.items():
            yield from _commands(sub, (*path, name))


@pytest.fixture
def site(sample_site: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    return sample_site(tmp_path)


@pytest.mark.parametrize("command", list(_commands(_parser())))
def test_the_example_of_each_command_runs(command: str, site: Any, loadlock_command: Run, loadlock_process: Run) -> None:
    help_text = loadlock_command(*command.split(), "--help").out
    examples = re.findall(r"^example: loadlock (.*)$", help_text, re.MULTILINE)
    assert len(examples) == 1, "one example, on one line"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    places = {"PAYLOAD": site.payload, "ID": site.span, "/backups/monday": "backups/monday", "8600": port}

    def words_of(line: str) -> list[str]:
        found = [places.get(word, word) for word in shlex.split(line)]
        return [name for word in found for name in (sorted(glob.glob(word)) if "*" in word and " " not in word else [word])]

    with open("fab.toml", "a", encoding="utf-8") as file:
        file.write(ADDED.get(command, ""))
    for line in BEFORE.get(command, ()):
        done = loadlock_command(*words_of(line))
        assert done.code == 0, done.err
        if line.startswith("keys new"):
            Path(f"{line.split()[2]}.pub").write_text(done.out)
    for name in FRESH.get(command, ()):
        (site.folder / name).rename(site.folder / f"{name}.before")
    words = words_of(examples[0])
    assert " ".join(words).startswith(command)
    if command in ENDLESS:
        _run_for_a_while(words, command, port)
        return
    asked = b"select 40 + 2 as answer;\n"
    done = loadlock_process(*words, stdin=asked) if command == "shell" else loadlock_command(*words)
    assert done.code == 0, done.err
    assert SAYS.get(command, "42" if command == "shell" else "") in done.out + done.err


def _run_for_a_while(words: list[str], command: str, port: str) -> None:
    with Running(*words) as running:
        if command == "serve":
            eventually(lambda: _answers(int(port)), "it listens")
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as answer:
                assert b"ETCH01" in answer.read()
        else:
            wanted = "13 replayed" if command == "watch" else "ETCH01"
            eventually(lambda: any(wanted in line for line in running.out), wanted)
        running.child.send_signal(ENDLESS[command])
        code = running.child.wait(60)
    assert code in ((130, -signal.SIGINT) if command == "status" else (0, -signal.SIGTERM)), running.err


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
