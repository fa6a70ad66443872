"""Every block of code on every page is run, in the order of the page, in a folder of its own; or says why not, and is counted here."""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import loadlock
from ingest.config import parse

Run = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[2]
PAGES = {path.relative_to(ROOT).as_posix(): path for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))}

ELSEWHERE = {
    "docs/commands.md": ("tests/loadlock/test_examples.py", "sh"),
    "docs/runbook.md": ("tests/docs/test_runbook.py", "sh"),
    "docs/how-to/approve-what-destroys.md": ("tests/docs/test_approve.py", "sh"),
    "docs/macros.md": ("tests/loadlock/test_macros.py", "sql"),
    "docs/how-to/find-etch-faults.md": ("tests/real/test_lam.py", "sql"),
    "docs/how-to/orchestrate.md": ("tests/deploy/test_orchestrate.py", "python"),
}
"""Pages whose blocks another test runs: which one, and the language of the blocks that it takes."""

NOT_RUN = {
    "README.md": 1,
    "docs/tutorial.md": 1,
    "docs/how-to/find-etch-faults.md": 1,
    "docs/how-to/install-without-a-network.md": 2,
    "docs/how-to/look-at-a-lake.md": 1,
    "docs/how-to/orchestrate.md": 2,
    "docs/how-to/run-as-a-service.md": 1,
}
"""Blocks that can't be run; each says why, in a comment before it."""

SHOWN = {"text", "json", "ini", "cron"}
"""Languages that are no commands of ours."""

FENCE = re.compile(r"(?:^ *<!-- not run: (?P<why>[^\n]+) -->\n)?^(?P<pad> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=pad)```$", re.M | re.S)
PLAIN = re.compile(r"^loadlock [^|><$`;&]*$")
"""A line that needs no shell."""

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Block(NamedTuple):
    language: str
    text: str
    why: str | None


def blocks(page: str) -> list[Block]:
    found = FENCE.finditer(PAGES[page].read_text(encoding="utf-8"))
    return [Block(match["language"], textwrap.dedent(match["text"]), match["why"]) for match in found]


def commands(text: str) -> list[str]:
    """The lines of a block: continued ones joined, comments and blanks left out."""
    return [line for line in text.replace("\\\n", " ").splitlines() if line.strip() and not line.lstrip().startswith("#")]


class Folder:
    """The folder in which a page is followed: the sample's, or the repository's for the tutorial."""

    def __init__(self, path: Path, command: Run, sample: Any) -> None:
        self.path, self._command = path, command
        self._names = {} if sample is None else {"PAYLOAD": sample.payload, "ID": sample.span}
        self._python: dict[str, Any] = {}
        self.fragments: list[str] = []

    def sh(self, text: str) -> None:
        for line in commands(text):
            self.line(line)

    def console(self, text: str) -> None:
        for part in re.split(r"^\$ ", text.replace("\\\n", " "), flags=re.M)[1:]:
            line, _, wanted = part.partition("\n")
            found = self.line(line)
            wanted = wanted.replace("...\n", "...")  # a line of dots stands for any number of lines
            assert doctest.OutputChecker().check_output(wanted, found, OPTIONS), f"$ {line}\nwanted:\n{wanted}\nfound:\n{found}"

    def line(self, line: str) -> str:
        """Run one line, check its exit code (0, or what '# exit N' says), and return what it printed."""
        wanted = re.search(r"# exit (\d+)", line)
        words = [self._names.get(word, word) for word in shlex.split(line, comments=True)]
        if PLAIN.match(re.sub(r"\"[^\"$`]*\"|'[^']*'", "''", line.split(" # ", maxsplit=1)[0].strip())):
            answer = self._command(*words[1:])
            code, printed = answer.code, answer.out + answer.err
        else:
            path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
            for name, value in self._names.items():
                line = re.sub(rf"\b{name}\b", value, line)
            done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False, env=os.environ | {"PATH": path})
            code, printed = done.returncode, done.stdout + done.stderr
        assert code == (int(wanted[1]) if wanted else 0), (line, printed)
        return printed

    def sql(self, text: str) -> None:
        with loadlock.open("fab.lake", read_only=True) as lake:
            lake.sql(text).fetchall()

    def python(self, text: str) -> None:
        exec(text, self._python)

    def toml(self, text: str) -> None:
        name = re.match(r"# ([\w.-]+\.toml)\n", text)
        if name:
            Path(name[1]).write_text(text, encoding="utf-8")
            parse(text, name[1])
        else:
            self.fragments.append(text)


@pytest.mark.parametrize("page", [page for page in PAGES if page not in ELSEWHERE])
def test_every_block_runs(page: str, tmp_path: Path, loadlock_command: Run, sample_site: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [block for block in blocks(page) if block.why is None and block.language not in SHOWN]
    monkeypatch.chdir(tmp_path)
    sample = None
    if page == "docs/tutorial.md":
        (tmp_path / "sample_data").symlink_to(ROOT / "sample_data")
    elif found:
        sample = sample_site(tmp_path)
    folder = Folder(tmp_path, loadlock_command, sample)
    for block in found:
        getattr(folder, block.language)(block.text)
    parse("\n".join(folder.fragments), f"{page}, its pieces of configuration together")


@pytest.mark.parametrize("page", PAGES)
def test_blocks_say_what_they_are(page: str) -> None:
    found = blocks(page)
    assert PAGES[page].read_text(encoding="utf-8").count("```") == 2 * len(found), "a fence that is not understood"
    assert {block.language for block in found} <= {"sh", "console", "sql", "python", "toml"} | SHOWN
    hidden = [block.text for block in found if block.language in SHOWN and re.search(r"^\$? ?(loadlock|make|python) ", block.text, re.M)]
    assert hidden == [], "a command that would not be run"


def test_blocks_that_are_not_run_are_counted() -> None:
    counted = {page: sum(block.why is not None for block in blocks(page)) for page in PAGES}
    assert {page: number for page, number in counted.items() if number} == NOT_RUN


@pytest.mark.parametrize("page", ELSEWHERE)
def test_what_is_run_elsewhere_is_run_there(page: str) -> None:
    """The other test names the page (or makes its blocks from where the page has them), and the page holds nothing else."""
    test, language = ELSEWHERE[page]
    source = (ROOT / test).read_text(encoding="utf-8")
    assert Path(page).name in source or "_parser" in source
    held = [block for block in blocks(page) if block.why is None and block.language not in SHOWN]
    assert {block.language for block in held} - {"toml"} == {language}
    parse("\n".join(block.text for block in held if block.language == "toml"), f"{page}, its pieces of configuration together")
