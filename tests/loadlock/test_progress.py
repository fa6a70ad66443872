"""Progress: a line for each tool on a terminal, nothing elsewhere; figures add up whatever threads and batches come in between."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import loadlock
from loadlock.progress import Figures, Meter

SAMPLE = Path(__file__).parents[2] / "sample_data"


def payload(tool: str | None, size: int, samples: int, duplicates: int = 0, quarantined: int = 0, mapping: str | None = None) -> Any:
    account = SimpleNamespace(samples=samples, records_duplicate=duplicates, frames_quarantined=quarantined)
    return SimpleNamespace(sole=None, tool=tool, mapping=mapping, size=size, account=account)


def test_the_last_payload_counts_as_far_as_it_was_read() -> None:
    meter = Meter(clock=iter([0.0, 2.0]).__next__)
    batch = SimpleNamespace(payloads=[payload("A", 100, 10), payload("B", 900, 30)])
    meter.report(batch, 300)
    assert meter.by_tool() == {"A": Figures(100, 10), "B": Figures(300, 30)}
    assert meter.line(Figures(1_500_000, 10, 2, 1)) == "1.5 MB, 5 samples/s, 2 duplicates, 1 quarantined"


def test_a_batch_that_is_done_counts_in_full_with_what_was_found_at_its_end() -> None:
    meter = Meter()
    first = payload("A", 100, 10)
    meter.report(SimpleNamespace(payloads=[first]), 50)
    first.account.records_duplicate = 7  # duplicates are known when the batch is closed
    meter.report(SimpleNamespace(payloads=[payload(None, 40, 4, mapping="cmp")]), 40)
    assert meter.by_tool() == {"A": Figures(100, 10, 7), "cmp": Figures(40, 4)}


def test_threads_have_batches_of_their_own() -> None:
    meter = Meter()
    meter.report(SimpleNamespace(payloads=[payload("A", 100, 10)]), 10)
    other = threading.Thread(target=meter.report, args=(SimpleNamespace(payloads=[payload("B", 200, 20)]), 20))
    other.start()
    other.join()
    assert meter.by_tool() == {"A": Figures(10, 10), "B": Figures(20, 20)}


def run_on(stderr: int, *arguments: object) -> tuple[int, str]:
    """Run a command whose standard error is ``stderr``; return its exit code and output."""
    command = [sys.executable, "-m", "loadlock.cli", *map(str, arguments)]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "140"}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment, check=False)
    return done.returncode, done.stdout


def on_a_terminal(*arguments: object) -> tuple[int, str, str]:
    """Run a command on a terminal; return its exit code, its output, and what the terminal was sent."""
    ours, theirs = pty.openpty()
    shown = bytearray()

    def read() -> None:
        try:
            while data := os.read(ours, 4096):
                shown.extend(data)
        except OSError:  # the other side was closed
            pass

    reader = threading.Thread(target=read)
    reader.start()
    code, out = run_on(theirs, *arguments)
    os.close(theirs)
    reader.join()
    os.close(ours)
    return code, out, shown.decode()


INGEST = ("ingest", SAMPLE / "deliveries", "--config", SAMPLE / "loadlock.toml", "--lake")


def test_a_terminal_shows_each_tool_and_a_file_shows_nothing(tmp_path: Path) -> None:
    code, out, text = on_a_terminal(*INGEST, tmp_path / "a.lake")
    assert code == 3
    for word in ("ETCH01", "ETCH02", "cmp", "samples/s", "duplicates", "quarantined"):
        assert word in text
    assert "100 %" not in text
    assert "\x1b" not in out
    with open(tmp_path / "errors", "w+") as file:
        code, plain = run_on(file.fileno(), *INGEST, tmp_path / "b.lake")
        file.seek(0)
        assert (code, file.read()) == (3, "")
    assert "\x1b" not in plain


LAST = {
    "audit verify": "audit, features computed anew",
    "audit digest": "audit, digest of gaps: 4 of 5",
    "compact --all": "compact, other tables",
    "backup {new} --data": "backup, files linked: ",
    "repair": "repair, what is missing",
    "reprocess {payload}": "reprocess, bytes decoded: ",
}
"""Command -> what a terminal is shown of its last step."""


def test_other_long_work_shows_what_it_does_on_a_terminal_alone(copy: Any, loadlock_command: Any) -> None:
    for i in range(2, 6):
        assert loadlock_command("ingest", copy.wafers(f"{i}.csv", [i]), "--lake", copy.lake).code == 0
    (payload, *_) = loadlock_command("sql", "select payload_id as p from payloads", "--format", "json", "--lake", copy.lake).json
    for number, (command, words) in enumerate(LAST.items()):
        values = {"new": copy.folder / f"{number}", "payload": payload["p"]}
        code, out, text = on_a_terminal(*(part.format(**values) for part in command.split()), "--lake", copy.lake)
        assert code == 0, (command, text)
        assert words in text, (command, text)
        assert "\x1b" not in out
    for command in ("audit verify", "audit digest", "repair", "compact --all"):
        quiet = loadlock_command(*command.split(), "--lake", copy.lake)
        assert (quiet.code, quiet.err) == (0, "")
        assert "\x1b" not in on_a_terminal(*command.split(), "--lake", copy.lake, "--json")[2]


def test_steps_are_told_with_how_many_are_left(copy: Any) -> None:
    told: list[tuple[str, int, int]] = []
    with loadlock.open(copy.lake) as lake:
        lake.ingest(copy.wafers("2.csv", [2]), config=copy.config)
        lake.verify(lambda *step: told.append(step))
        files = [step for step in told if step[0] == "files proven"]
        assert files == [("files proven", i, len(files)) for i in range(len(files))]
        assert len(files) > 1
        assert {"accounts", "catalog against mirror", "features computed anew"} <= {what for what, _, _ in told}
        told.clear()
        lake.compact(everything=True, tell=lambda *step: told.append(step))
        assert told[0] == ("tool-days merged", 0, told[0][2])
