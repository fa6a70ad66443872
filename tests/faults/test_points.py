"""A fault at every point that touches disk or catalog, then the same command again: everything is there, once, and balances."""

from __future__ import annotations

import ast
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest

import loadlock
from ingest import derived
from storage.errors import IntegrityError, LoadlockError, NoLake, OlderLake
from storage.points import POINTS, watched
from tests.faults.nursery import Nursery
from tests.faults.scenarios import BY_CHILD, ERRORS, SCENARIOS, TEARS, Fault
from tests.faults.soak import SCALE

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., Any]
COUNTS = "select (select count(*) from payloads), (select count(*) from traces), (select count(*) from quarantine)"


def seen(path: Path) -> tuple[int, ...]:
    """What a reader sees of a lake, (0, 0, 0) of one that is not whole."""
    try:
        with loadlock.open(path, read_only=True) as reader, reader.store.single_threaded():
            return tuple(reader.sql(COUNTS).fetchall()[0])
    except (NoLake, OlderLake, IntegrityError):
        return (0, 0, 0)


class Stage:
    """A scenario that was prepared once, what is there before, what the command makes of it, and how often it reaches each point."""

    def __init__(self, name: str, site: Any) -> None:
        self.name, self.scenario, self.folder = name, SCENARIOS[name], site.folder
        self.scenario.prepare(site)
        self.before = seen(self.folder / self.scenario.lake)
        whole = self.copy(self.folder.with_name("whole"))
        self.reached: Counter[str] = Counter()
        with watched(lambda point, _path: self.reached.update([point])):
            self.scenario.run(whole)
        self.after = seen(whole / self.scenario.lake)
        with loadlock.open(whole / self.scenario.lake) as lake:
            self.digest = lake.digest()
        shutil.rmtree(whole)

    def copy(self, to: Path) -> Path:
        shutil.copytree(self.folder, to)
        return to

    def fail(self, folder: Path, point: str, kind: str, nth: int) -> Any:
        """Run the command with a fault in this process; return its summary, None if it was broken off."""
        fault = Fault(point, kind, nth, folder)
        try:
            with watched(fault):
                return self.scenario.run(folder)
        except (LoadlockError, OSError, RuntimeError, KeyboardInterrupt, duckdb.Error):
            return None
        finally:
            assert fault.count >= nth

    def ends_well(self, folder: Path, summary: Any, check_conserved: Run) -> None:
        """What was acknowledged is there, the rest whole or not at all; the same command again makes it as if there had been no fault."""
        path = folder / self.scenario.lake
        found = seen(path)
        if self.scenario.by_steps:
            assert all(count <= most for count, most in zip(found, self.after, strict=True))
        elif summary is not None and summary.payloads["committed"] and summary.payloads["deferred"]:
            # one file could not be read: the others went on
            assert found[0] == self.before[0] + summary.payloads["committed"]
        else:
            assert found in (self.before, self.after)
            if summary is not None and summary.payloads["committed"]:
                assert found == self.after
        again = self.scenario.run(folder)
        with loadlock.open(path) as lake, lake.store.single_threaded():
            if again is not None:
                check_conserved(again)
                assert again.payloads["committed"] + again.payloads["replayed"] == again.payloads["seen"]
            if lake.store.index.owed(1):  # derived work failed: it is made up, by and by
                derived.make_up(lake.store, lake._settings(None), force=True)
            assert lake.verify().faults == []
            assert lake.digest() == self.digest
            assert tuple(lake.sql(COUNTS).fetchall()[0]) == self.after


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, polisher: Run) -> Callable[[str], Stage]:
    """``stage(name)`` prepares a scenario once."""
    prepared: dict[str, Stage] = {}

    def prepare(name: str) -> Stage:
        if name not in prepared:
            prepared[name] = Stage(name, polisher(tmp_path_factory.mktemp("stage") / "made"))
        return prepared[name]

    return prepare


def named(*folders: str) -> set[str]:
    """The names that the source says it reaches."""
    calls = [
        node
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and (getattr(node.func, "id", "") or getattr(node.func, "attr", "")) in ("reached", "on_step")
    ]
    return {str(call.args[0].value) for call in calls if isinstance(call.args[0], ast.Constant)}


def test_every_point_of_the_source_is_listed_and_tried() -> None:
    assert named("storage", "ingest", "loadlock") == set(POINTS)
    tried = [point for scenario in SCENARIOS.values() for point in scenario.points]
    assert sorted(tried) == sorted(POINTS)


def tries(stage: Stage, points: Sequence[str], kind: str, *, often: bool) -> list[tuple[str, str, int]]:
    """(point, kind, nth) of every run; ``often``: at the first and the last time that a point is reached."""
    found = []
    for point in points:
        assert stage.reached[point] > 0, f"{stage.name} does not reach {point}"
        times = {1, stage.reached[point]} if often else {1}
        found += [(point, kind, nth) for nth in sorted(times) if kind != "torn" or point in TEARS]
    return found


def turns(stage: Stage, kind: str) -> list[str]:
    """Points that other scenarios answer for, and that this one reaches, too: a third of them, in one way each, scenarios taking turns."""
    start = list(SCENARIOS).index(stage.name)
    others = [point for point in POINTS if stage.reached[point] and point not in stage.scenario.points][start % 3 :: 3]
    ways = [*ERRORS, *BY_CHILD]
    ours = [[way for way in ways if way != "torn" or point in TEARS] for point in others]
    return [point for i, (point, some) in enumerate(zip(others, ours, strict=True)) if some[(start + i) % len(some)] == kind]


def try_all(stage: Stage, runs: Sequence[tuple[str, str, int]], folder: Path, nursery: Nursery, check_conserved: Run) -> None:
    for point, kind, nth in runs:
        where = stage.copy(folder / "run")
        summary = None
        try:
            if kind in BY_CHILD:
                status = nursery.run("run_scenario", name=stage.name, folder=str(where), point=point, kind=kind, nth=nth)
                assert status == -signal.SIGKILL
            else:
                summary = stage.fail(where, point, kind, nth)
            stage.ends_well(where, summary, check_conserved)
        except BaseException as error:
            error.add_note(f"{kind} at {point}, time {nth}, in the scenario '{stage.name}'")
            raise
        shutil.rmtree(where)


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _seconds: None)


@pytest.mark.parametrize("kind", ["exception", "kill"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_each_point_once(
    name: str, kind: str, stage: Callable[[str], Stage], nursery: Nursery, tmp_path: Path, assert_conserved: Run, note: Run
) -> None:
    made = stage(name)
    points = (*made.scenario.points, *made.scenario.also)
    runs = tries(made, points, kind, often=False)
    try_all(made, runs, tmp_path, nursery, assert_conserved)
    note(points=len(points), runs=len(runs))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*ERRORS, *BY_CHILD])
@pytest.mark.parametrize("name", SCENARIOS)
def test_each_point_in_every_way(
    name: str, kind: str, stage: Callable[[str], Stage], nursery: Nursery, tmp_path: Path, assert_conserved: Run, note: Run
) -> None:
    """Each point in every way in the scenario that answers for it; by turns, in other scenarios that reach it, in one way."""
    made = stage(name)
    runs = tries(made, made.scenario.points, kind, often=True) + tries(made, turns(made, kind), kind, often=False)
    runs = runs[:: max(1, round(1 / SCALE))]
    try_all(made, runs, tmp_path, nursery, assert_conserved)
    note(points=len({point for point, _, _ in runs}), runs=len(runs))


def test_the_registry_costs_next_to_nothing() -> None:
    import timeit

    from storage.points import reached

    assert timeit.timeit(lambda: reached("begun"), number=100_000) / 100_000 < 5e-6
