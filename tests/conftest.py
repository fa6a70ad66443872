"""What the tests share: lakes in temporary folders, the command line, a small tool, the real data, and the law of conservation."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
OUTCOMES = ("accepted", "duplicate", "conflict", "quarantined", "other")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the real data sets (``LOADLOCK_REAL_DATA``, else beside the repository); without it the test is skipped."""
    folder = Path(os.environ.get("LOADLOCK_REAL_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set LOADLOCK_REAL_DATA")
    return folder


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """A factory: ``lake()`` opens, or creates, a lake in the test's folder, and it is closed when the test ends."""
    import loadlock

    opened: list[Any] = []

    def make(name: str = "fab.lake", **options: Any) -> Any:
        opened.append(loadlock.open(tmp_path / name, **options))
        return opened[-1]

    yield make
    for item in opened:
        item.close()


# --- conservation


def _balances(size: Mapping[str, int], records: Mapping[str, int]) -> None:
    assert size["in"] == sum(size[name] for name in OUTCOMES), size
    assert records["decoded"] == sum(records[name] for name in ("accepted", "duplicate", "conflict")), records


def _group(account: Mapping[str, int], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): value for name, value in account.items() if name.startswith(prefix)}


def check_conserved(summary: Any, lake: Any = None) -> dict[str, Any]:
    """Assert that ``summary`` (or its JSON) balances, per receipt and in sum, and that ``lake`` verifies; return the JSON."""
    document: dict[str, Any] = summary if isinstance(summary, dict) else summary.document()
    _balances(document["bytes"], document["records"])
    total_bytes = dict.fromkeys(document["bytes"], 0)
    total_records = dict.fromkeys(document["records"], 0)
    for receipt in document["receipts"]:
        if receipt["state"] not in ("committed", "replayed") or receipt["account"] is None:
            continue
        size, records = _group(receipt["account"], "bytes_"), _group(receipt["account"], "records_")
        _balances(size, records)
        if receipt["state"] == "committed":
            total_bytes = {name: value + size[name] for name, value in total_bytes.items()}
            total_records = {name: value + records[name] for name, value in total_records.items()}
    assert total_bytes == document["bytes"]
    assert total_records == document["records"]
    states = ("committed", "replayed", "refused", "deferred")
    assert document["payloads"]["seen"] == len(document["receipts"]) == sum(document["payloads"][state] for state in states)
    if lake is not None:
        report = lake.verify()
        assert report.faults == []
    return document


@pytest.fixture(scope="session")
def assert_conserved() -> Callable[..., dict[str, Any]]:
    """:func:`check_conserved`, for every test that ingests."""
    return check_conserved


# --- a small tool


CONFIG = """\
[[sources]]
match = "drop/*.csv"
format = "table"
table = "polish"

[[sources]]
match = "{tool}/*.hsms"
format = "hsms"

[tables.polish]
tool = { column = "TOOL" }
chamber = "CHAMBER"
time = { column = "TIME", unit = "s", origin = "2026-03-01" }
period = 1.0
key = ["CHAMBER"]
context = { wafer = "WAFER", step = "STEP" }
sensors = ["PRESSURE", { column = "FLOW", name = "flow", unit = "sccm" }]

[lake]
batch_seconds = 60  # a slow machine must not cut a group in two
"""
HEADER = "TOOL,CHAMBER,TIME,WAFER,STEP,PRESSURE,FLOW"
STEP_S = 10
WAFER_S = 2 * STEP_S + 5
WAFER_START_S = 1_000


@dataclass
class Polisher:
    """A polisher that logs tables: two steps of ten seconds a wafer, one row a second, five seconds between wafers."""

    folder: Path
    config: Path = field(init=False)

    def __post_init__(self) -> None:
        (self.folder / "drop").mkdir(parents=True, exist_ok=True)
        self.config = self.folder / "loadlock.toml"
        self.config.write_text(CONFIG, encoding="utf-8")

    @property
    def drop(self) -> Path:
        return self.folder / "drop"

    @staticmethod
    def rows(wafers: Iterable[int], tool: str = "P1", chamber: str = "A", offset: float = 0.0) -> list[str]:
        """The rows of ``wafers``; ``offset`` is added to the pressure, so that it makes conflicts."""
        rows = []
        for wafer in wafers:
            for i in range(2 * STEP_S):
                step = "ramp" if i < STEP_S else "main"
                pressure = offset + 1 + wafer / 8 + (i % 7) / 3
                rows.append(f"{tool},{chamber},{WAFER_START_S + wafer * WAFER_S + i},W{wafer},{step},{pressure!r},{(wafer * 7 + i) % 5}")
        return rows

    def file(self, name: str, rows: Iterable[str]) -> Path:
        """Write a table into the drop folder."""
        path = self.drop / name
        path.write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")
        return path

    def wafers(self, name: str, wafers: Iterable[int], **options: Any) -> Path:
        """Write a table of ``wafers`` into the drop folder."""
        return self.file(name, self.rows(wafers, **options))


@pytest.fixture(scope="session")
def polisher() -> Callable[[Path], Polisher]:
    """A factory: ``polisher(folder)`` sets a small polisher up in a folder."""
    return Polisher


# --- the sample


@dataclass
class Sample:
    """A folder as the pages and the help speak of it: deliveries in ``drop/``, ``fab.toml``, and ``fab.lake`` that holds them."""

    folder: Path
    payload: str
    span: str


@pytest.fixture(scope="session")
def sample_site(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Sample]:
    """A factory: ``sample_site(folder)`` puts sample_data/, ingested once, into a folder."""
    import loadlock

    template = tmp_path_factory.mktemp("sample")
    shutil.copytree(ROOT / "sample_data" / "deliveries", template / "drop")
    shutil.copy(ROOT / "sample_data" / "loadlock.toml", template / "fab.toml")
    with loadlock.open(template / "fab.lake") as lake:
        assert lake.ingest(template / "drop", config=template / "fab.toml").exit_code == 3
        ((payload,),) = lake.sql("SELECT payload_id FROM payloads WHERE source LIKE '%ETCH01/0004%'").fetchall()
        ((span,),) = lake.sql("SELECT quarantine_id FROM quarantine WHERE tool = 'ETCH01' AND reason = 'bad_item'").fetchall()

    def put(folder: Path) -> Sample:
        shutil.copytree(template, folder, dirs_exist_ok=True)
        return Sample(folder, payload, span)

    return put


# --- the command line


@dataclass
class Answer:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON document on standard output."""
        return json.loads(self.out)


def run_child(*arguments: object, stdin: bytes = b"", env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Answer:
    """Run ``loadlock`` as a process of its own."""
    child = subprocess.run(
        [sys.executable, "-m", "loadlock.cli", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        check=False,
        cwd=cwd,
        env=os.environ | {"LOADLOCK_ACTOR": "tests"} | dict(env or {}),
    )
    return Answer(child.returncode, child.stdout.decode(), child.stderr.decode())


@pytest.fixture(scope="session")
def loadlock_process() -> Callable[..., Answer]:
    """Run ``loadlock`` as a process of its own; returns code, out and err."""
    return run_child


@pytest.fixture
def loadlock_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Answer]:
    """Run a command in this process (ten times as fast): whatever it does not catch fails the test."""
    from loadlock.cli import main

    monkeypatch.setenv("LOADLOCK_ACTOR", "tests")
    monkeypatch.delenv("LOADLOCK_LAKE", raising=False)

    def run(*arguments: object) -> Answer:
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        captured = capsys.readouterr()
        return Answer(code, captured.out, captured.err)

    return run


# --- figures of the fault tests


@pytest.fixture
def note(record_property: Any, request: pytest.FixtureRequest) -> Any:
    """``note(runs=3, seed=7)``: figures that are printed at the end, and kept by ``make soak``."""

    def keep(**figures: Any) -> None:
        record_property("figures", {"test": request.node.nodeid.rpartition("/")[2], **figures})

    return keep


def _figures(report: Any) -> dict[str, Any] | None:
    return next((value for name, value in getattr(report, "user_properties", ()) if name == "figures"), None)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what the fault tests noted: points, runs, kills, seeds."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, ())]
    notes = [note for note in map(_figures, reports) if note is not None]
    for note in notes:
        terminalreporter.write_line(", ".join(f"{name} {value}" for name, value in note.items()))
    if runs := [note["runs"] for note in notes if "points" in note]:
        from storage.points import POINTS

        terminalreporter.write_line(f"fault points named: {len(POINTS)}, runs with a fault: {sum(runs)}")


def pytest_runtest_logreport(report: Any) -> None:
    """Keep what a test noted, and how it ended, in the file that ``LOADLOCK_SOAK_NOTES`` names: a JSON object a line."""
    kept = os.environ.get("LOADLOCK_SOAK_NOTES")
    if kept is None or (report.when != "call" and not report.failed):
        return
    entry = {"test": report.nodeid.rpartition("/")[2]} | (_figures(report) or {})
    entry |= {"passed": report.passed, "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M}", "seconds": round(report.duration, 1)}
    with open(kept, "a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
