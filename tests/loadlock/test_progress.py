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


def ingest(lake: Path, stderr: int) -> tuple[int, str]:
    command = [sys.executable, "-m", "loadlock.cli", "ingest", str(SAMPLE / "deliveries"), "--config", str(SAMPLE / "loadlock.toml")]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "140"}
    done = subprocess.run([*command, "--lake", str(lake)], stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment, check=False)
    return done.returncode, done.stdout


def test_a_terminal_shows_each_tool_and_a_file_shows_nothing(tmp_path: Path) -> None:
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
    code, out = ingest(tmp_path / "a.lake", theirs)
    os.close(theirs)
    reader.join()
    os.close(ours)
    text = shown.decode()
    assert code == 3
    for word in ("ETCH01", "ETCH02", "cmp", "samples/s", "duplicates", "quarantined"):
        assert word in text
    assert "100 %" not in text
    assert "\x1b" not in out
    with open(tmp_path / "errors", "w+") as file:
        code, plain = ingest(tmp_path / "b.lake", file.fileno())
        file.seek(0)
        assert (code, file.read()) == (3, "")
    assert "\x1b" not in plain
