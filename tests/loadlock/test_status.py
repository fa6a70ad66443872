"""The overview: what it says of each tool agrees with the rows, whatever was deleted, and it can be watched."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import loadlock

sys.path.append(str(Path(__file__).resolve().parents[1] / "faults"))
from running import Running

RUN = Callable[..., Any]
BY_ROWS = "select tool, count(*), max(ts) from traces group by tool order by tool"
SLOW = "select sum(a.range * b.range) from range(10000000) a, range(10000000) b"

HEAVY = "select max(hash(range)) from range(1000000000000)"


def cpu_seconds(pid: int) -> float:
    """CPU time that a process took so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def agrees_with_the_rows(lake: Any) -> list[dict[str, Any]]:
    tools: list[dict[str, Any]] = lake.status()["tools"]
    held = [(tool["tool"], tool["rows"], tool["last_ts"]) for tool in tools if tool["rows"]]
    assert held == [(name, count, last.isoformat()) for name, count, last in lake.sql(BY_ROWS).fetchall()]
    return tools


def test_tools_are_counted_from_the_catalog_as_from_the_rows(copy: Any) -> None:
    copy.file("2.csv", [*copy.rows([2]), *copy.rows([3], tool="P2"), "P3,A,soon,W9,ramp,1,1"])
    with loadlock.open(copy.lake) as lake:
        lake.ingest(copy.drop)
        tools = {tool["tool"]: tool for tool in agrees_with_the_rows(lake)}
        assert tools["P1"]["samples_per_s"] == round(120 / 3600, 3)
        assert tools["P2"]["lag_s"] > 0
        assert 0 <= tools["P2"]["silent_s"] < 600
        assert {"P1", "P2"} <= set(tools)


def test_files_with_deleted_rows_are_read(copy: Any) -> None:
    with loadlock.open(copy.lake) as lake:
        lake.ingest(copy.wafers("2.csv", [5], tool="P2"))
        newest = lake.sql("select max(ts) from traces where tool = 'P1'").fetchall()[0][0]
        lake.store.connection.execute("DELETE FROM lake.main.traces WHERE tool = 'P1' AND ts = ?", [newest])
        tools = agrees_with_the_rows(lake)
        assert [tool["rows"] for tool in tools] == [78, 40]


def test_what_is_wrong_stands_in_the_overview(copy: Any, loadlock_command: RUN) -> None:
    config = copy.folder / "strict.toml"
    config.write_text(copy.config.read_text() + "[circuit]\nminimum_frames = 10\n")
    copy.file("2.csv", [f"P2,A,soon,W{i},ramp,1,1" for i in range(20)])
    assert loadlock_command("ingest", copy.drop, "--config", config, "--lake", copy.lake).code == 3
    text = loadlock_command("status", "--lake", copy.lake).out
    assert "circuit open P2: 100% of" in text
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.startswith("P")}
    assert rows["P1"][1] == "80"
    assert rows["P1"][-1] == "closed"
    assert rows["P2"][-1] == "open"
    document = loadlock_command("status", "--lake", copy.lake, "--json").json
    assert [(item["circuit"], item["state"]) for item in document["circuits"]] == [("P2", "open")]


def test_the_overview_is_shown_again_and_again_until_ctrl_c(copy: Any, loadlock_process: RUN) -> None:
    with Running("status", "--watch", "0.2", "--lake", copy.lake, "--json") as status:
        assert status.batch()["rows"]["traces"] == 80
        assert loadlock_process("ingest", copy.wafers("2.csv", [5]), "--lake", copy.lake).code == 0
        while status.batch()["rows"]["traces"] != 120:
            pass
        assert status.end(signal.SIGINT) == 130
        assert status.err == []
    assert loadlock_process("status", "--watch", "0", "--lake", copy.lake).code == 2


def test_ctrl_c_ends_a_long_query(copy: Any) -> None:
    with Running("sql", SLOW, "--format", "csv", "--lake", copy.lake) as query:
        query.line()  # the head: the query runs
        assert query.end(signal.SIGINT) == 130
        assert query.err[-1].startswith("loadlock: interrupted")
    with Running("sql", HEAVY, "--lake", copy.lake) as query:  # DuckDB's other threads are busy, and don't look up by themselves
        while cpu_seconds(query.child.pid) < 6:
            time.sleep(0.1)
        begin = time.monotonic()
        assert query.end(signal.SIGINT) == 130
        assert time.monotonic() - begin < 20
    with Running("sql", "select count(*) as n from traces", "--json", "--lake", copy.lake) as again:
        assert again.end() == 0
    assert json.loads(again.out[0]) == [{"n": 80}]


@pytest.mark.parametrize("columns", [80, 200])
def test_the_overview_fits_the_terminal(copy: Any, columns: int) -> None:
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "dumb", "COLUMNS": str(columns)}
    command = [sys.executable, "-m", "loadlock.cli", "status", "--lake", copy.lake.name]
    child = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, text=True, env=environment, check=False, cwd=copy.folder)
    os.close(theirs)
    pieces = []
    with suppress(OSError):  # how a terminal says that all was read
        while piece := os.read(ours, 65536):
            pieces.append(piece)
    os.close(ours)
    shown = b"".join(pieces).decode()
    assert child.returncode == 0, child.stderr
    assert max(map(len, shown.splitlines()[1:])) <= columns  # a path stays whole
    assert "circuit" in shown
    assert ("last sample" in shown) == (columns == 200)
