"""Every line of the runbook is run, in the situation that it is for."""

from __future__ import annotations

import errno
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import loadlock
from storage.points import watched

Run = Callable[..., Any]
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "runbook.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))


def blocks(section: str) -> list[list[str]]:
    """Return the lines of each block of a section."""
    return [block.strip().splitlines() for block in re.findall(r"```sh\n(.*?)```", SECTIONS[section], re.S)]


@pytest.fixture
def site(tmp_path: Path, polisher: Run, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A lake of two tools, in the folder where the commands run."""
    site = polisher(tmp_path)
    site.lake = tmp_path / "fab.lake"
    site.config = site.config.rename(tmp_path / "fab.toml")
    monkeypatch.chdir(tmp_path)
    with loadlock.open(site.lake) as lake:
        for path in (site.wafers("1.csv", [1, 2]), site.wafers("2.csv", [3], tool="P2")):
            assert lake.ingest(path, config=site.config).exit_code == 0
        site.digest = lake.digest()
    return site


@pytest.fixture
def follow(loadlock_command: Run) -> Run:
    """Run the lines of a block; check the exit codes that they name."""

    def run(lines: list[str], payload: str = "") -> list[str]:
        answers = []
        for line in lines:
            command, _, comment = line.partition("#")
            words = [payload if word == "PAYLOAD" else word for word in shlex.split(command)]
            if words[0] != "loadlock":
                subprocess.run(words, check=True, capture_output=True)
                continue
            wanted = re.match(r" exit (\d+)", comment)
            assert wanted, line
            answer = loadlock_command(*words[1:])
            assert answer.code == int(wanted[1]), (line, answer.out, answer.err)
            answers.append(answer.out + answer.err)
        return answers

    return run


def test_every_section_is_tried() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in SECTIONS if f'blocks("{name}")' not in source] == []


def test_a_corrupt_file(site: Any, follow: Run) -> None:
    path = next((site.lake / "data" / "main" / "traces").glob("*.parquet"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    (block,) = blocks("A file is corrupt")
    answers = follow(block)
    assert path.name in answers[0]
    with loadlock.open(site.lake) as lake:
        assert lake.digest() == site.digest


def test_a_conflict(site: Any, follow: Run) -> None:
    with loadlock.open(site.lake) as lake:
        summary = lake.ingest(site.wafers("3.csv", [1, 2], offset=1.0), config=site.config)
        assert summary.records["conflict"] == 40
        ((first,),) = lake.sql("select payload_id from payloads where source like '%1.csv'").fetchall()
    (block,) = blocks("Records conflict")
    answers = follow(block, first)
    assert first[:8] in answers[1]
    with loadlock.open(site.lake) as lake:
        assert lake.sql("select count(*), min(value) >= 2 from traces where tool = 'P1' and sensor = 'PRESSURE'").fetchall() == [(40, True)]


def test_an_open_circuit(site: Any, follow: Run) -> None:
    rubbish = site.file("3.csv", ["P1,A,x,y,z,a,b"] * 2_000)
    with loadlock.open(site.lake) as lake:
        assert lake.ingest(rubbish, config=site.config).receipts[0].state == "deferred"
    site.wafers("3.csv", [4])
    (block,) = blocks("A circuit is open")
    answers = follow(block)
    assert "P1" in answers[0]
    with loadlock.open(site.lake) as lake:
        assert lake.sql("select count(*) from windows where wafer = 'W4'").fetchall() == [(2,)]


@contextmanager
def full_disk() -> Iterator[None]:
    def fill(name: str, _path: Path | None) -> None:
        if name == "file_written":
            raise OSError(errno.ENOSPC, "No space left on device")

    with watched(fill):
        yield


def test_a_full_disk(site: Any, follow: Run) -> None:
    site.wafers("3.csv", [4])
    full, roomy = blocks("The disk is full")
    with full_disk():
        assert "No space left" in follow(full)[0]
    follow(roomy)


def test_a_lost_catalog(site: Any, follow: Run) -> None:
    for path in site.lake.glob("catalog.sqlite*"):
        path.unlink()
    (block,) = blocks("The catalog is lost")
    follow(block)
    with loadlock.open(site.lake) as lake:
        assert lake.digest() == site.digest


def test_a_wrong_configuration(site: Any, follow: Run) -> None:
    sound = site.config.read_text(encoding="utf-8")
    shutil.rmtree(site.lake)
    site.config.write_text(sound.replace('column = "FLOW", name = "flow"', 'column = "PRESSURE", name = "flow"'), encoding="utf-8")
    with loadlock.open(site.lake) as lake:
        receipts = lake.ingest_all([site.drop], config=site.config).receipts
    site.config.write_text(sound, encoding="utf-8")
    (block,) = blocks("A wrong configuration was found a week later")
    (payload,) = (receipt.payload_id for receipt in receipts if receipt.source.endswith("1.csv"))
    answers = follow(block, payload)
    assert payload[:8] in answers[2]
    with loadlock.open(site.lake) as lake:
        assert lake.sql("select max(value) from samples where tool = 'P1' and sensor = 'flow'").fetchall() == [(4.0,)]
