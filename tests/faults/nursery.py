"""Children of a process that has everything imported and no database open: each is forked for one order, and may kill itself.

Every line of standard input is a JSON object, {"call": name, "arguments": {...}}; the child's exit status is printed. ``main`` is run
with ``python -m tests.faults.nursery``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def run_scenario(name: str, folder: str, point: str, kind: str, nth: int) -> None:
    """Run a scenario with a fault."""
    from storage.points import watched
    from tests.faults.scenarios import SCENARIOS, Fault

    with watched(Fault(point, kind, nth, Path(folder))):
        SCENARIOS[name].run(Path(folder))


def ingest_and_die(lake: str, config: str, sources: Sequence[str], delay_us: int) -> None:
    """Ingest, and be killed so long after COMMIT of the second commit was begun (the first keeps the configuration)."""
    from loadlock.lake import Lake
    from tests.faults.scenarios import kill

    seen = []

    def step(reached: str) -> None:
        if reached == "mirror_synced":
            seen.append(reached)
            if len(seen) == 2:
                threading.Timer(delay_us / 1e6, kill).start()

    with Lake(lake, on_step=step) as opened:
        opened.ingest_all(sources, config=config)


def feed(lake: str, config: str, sources: Sequence[str], oracle: str, seed: int) -> None:
    """Ingest file by file in an order of its own, with maintenance now and then; each receipt is noted outside the lake."""
    import random

    import loadlock

    chance = random.Random(seed)
    order = chance.sample(list(sources), len(sources))
    with loadlock.open(lake) as opened, open(oracle, "a", encoding="utf-8") as file:
        for source in order:
            if chance.random() < 0.03:
                opened.compact(everything=True)
                opened.expire(keep_days=0)
            for receipt in opened.ingest_all(source, config=config).receipts:
                file.write(json.dumps([receipt.key, receipt.payload_id, receipt.state, receipt.ledger_seq]) + "\n")
                file.flush()
                os.fsync(file.fileno())


def deliver(lake: str, file: str, tool: str) -> None:
    """Ingest the bytes of a file under no name, by the configuration beside it."""
    import loadlock

    with loadlock.open(lake) as opened:
        opened.ingest_all(data=Path(file).read_bytes(), tool=tool, format="hsms", config=Path(file).with_name("m.toml"))


def stop_at(lake: str, source: str, point: str) -> None:
    """Ingest, and stop (SIGSTOP) at the first time that a step of the commit is reached."""
    from loadlock.lake import Lake

    left = [point]

    def step(reached: str) -> None:
        if reached in left:
            left.clear()
            os.kill(os.getpid(), signal.SIGSTOP)

    with Lake(lake, on_step=step) as opened:
        opened.ingest_all(source)


def command(arguments: Sequence[str], output: str) -> None:
    """Run ``loadlock`` with what it prints in files."""
    from loadlock.cli import main as loadlock_main

    for number, name in ((1, output), (2, output + ".err")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
    code = loadlock_main(list(arguments))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


IMPORTED = (
    "ingest.formats.hsms",
    "ingest.formats.table",
    "loadlock.cli",
    "loadlock.commands.feed",
    "storage.rebuild",
    "tests.faults.scenarios",
)
CALLS = {function.__name__: function for function in (run_scenario, ingest_and_die, feed, deliver, stop_at, command)}


class Nursery:
    """The mother of children, as the tests see her."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def start(self, call: str, **arguments: Any) -> int:
        """Fork a child, return its process id."""
        self._say({"call": call, "arguments": arguments})
        return int(self._answer())

    def wait(self, child: int) -> int:
        """Wait for a child's end, return its exit status."""
        self._say({"wait": child})
        return int(self._answer())

    def run(self, call: str, **arguments: Any) -> int:
        """Start a child and wait for it."""
        return self.wait(self.start(call, **arguments))

    def _say(self, order: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


@contextmanager
def nursery() -> Iterator[Nursery]:
    """Yield a nursery; children that are left are waited for."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.faults.nursery"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Nursery(process)


def _fork(call: Callable[..., None], arguments: dict[str, Any]) -> int:
    child = os.fork()
    if child:
        return child
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        call(**arguments)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def main() -> int:
    """Serve one order after the other until standard input ends."""
    for name in IMPORTED:
        import_module(name)
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            print(os.waitstatus_to_exitcode(os.waitpid(order["wait"], 0)[1]), flush=True)
        else:
            print(_fork(CALLS[order["call"]], order["arguments"]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
