"""The whole lake against a dictionary: deliver, repeat, split, shuffle, tear, break off, compact, expire, in any order."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

import loadlock
from ingest.config import parse
from sample_data import secs_encoder as secs
from storage.points import STEPS, watched
from tests.conftest import check_conserved
from tests.faults.soak import SCALE, scaled

CONFIG = parse(
    '[models.m]\ntimezone = "UTC"\n[models.m.traces.7]\nperiod = 1.0\nsensors = ["x"]\n[tools.T]\nmodel = "m"\n'
    "[circuit]\nfailures = 1000000\n[maintenance]\nauto = false\n"
)
RECORDS = st.lists(st.tuples(st.integers(1, 12), st.sampled_from([1.0, 2.0, 3.0])), min_size=1, max_size=8)


class _BrokenOff(BaseException):
    """Stands for the death of the process: nobody catches it."""


def frame(number: int, value: float) -> bytes:
    return secs.s6f1(secs.item("U1", 7), secs.item("U4", number), f"202603170800{number:02d}00", [secs.item("F8", value)])


class LakeMachine(RuleBasedStateMachine):
    """``kept``: number -> the value that came first; ``conflicts``: (number, another value)."""

    template: Path

    @initialize()
    def open(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        shutil.copytree(self.template, self.folder / "t.lake")
        self.lake = loadlock.open(self.folder / "t.lake")
        self.kept: dict[int, float] = {}
        self.conflicts: set[tuple[int, float]] = set()
        self.delivered: list[bytes] = []
        self.records: dict[bytes, list[tuple[int, float]]] = {}

    def teardown(self) -> None:
        if not hasattr(self, "folder"):
            return
        try:
            assert self.lake.verify().faults == []
            self.agree()
        finally:
            self.lake.close()
            shutil.rmtree(self.folder)

    def agree(self) -> None:
        found = self.lake.sql("select seq, value from traces order by seq").fetchall()
        assert found == sorted(self.kept.items())
        assert set(self.lake.sql("select seq, value from conflicts").fetchall()) == self.conflicts
        assert self.lake.sql("select count(*) from payloads").fetchall() == [(len(self.records),)]

    def give(self, data: bytes) -> Any:
        return self.lake.ingest_all(data=data, tool="T", format="hsms", config=CONFIG)

    def deliver_bytes(self, data: bytes, records: list[tuple[int, float]]) -> None:
        document = check_conserved(self.give(data))
        assert document["payloads"]["replayed" if data in self.records else "committed"] == 1
        self.learn(data, records)
        self.agree()

    def learn(self, data: bytes, records: list[tuple[int, float]]) -> None:
        self.records[data] = records
        for number, value in records:
            if self.kept.setdefault(number, value) != value:
                self.conflicts.add((number, value))

    @rule(records=RECORDS)
    def deliver(self, records: list[tuple[int, float]]) -> None:
        self.deliver_bytes(b"".join(frame(*record) for record in records), records)

    @rule(records=RECORDS, cut=st.integers(1, 30))
    def deliver_torn(self, records: list[tuple[int, float]], cut: int) -> None:
        """The last frame is not whole: it goes to quarantine."""
        data = b"".join(frame(*record) for record in records)[:-cut]
        self.deliver_bytes(data, records[:-1])

    @precondition(lambda self: self.records)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        again = data.draw(st.sampled_from(sorted(self.records)))
        self.deliver_bytes(again, self.records[again])

    @rule(records=RECORDS, at=st.integers(0, 8), order=st.randoms(use_true_random=False))
    def deliver_split_and_shuffled(self, records: list[tuple[int, float]], at: int, order: Any) -> None:
        mixed = records * 1
        order.shuffle(mixed)
        for part in (mixed[:at], mixed[at:]):
            if part:
                self.deliver_bytes(b"".join(frame(*record) for record in part), part)

    @rule(records=RECORDS, step=st.sampled_from(STEPS))
    def break_off_and_deliver_again(self, records: list[tuple[int, float]], step: str) -> None:
        data = b"".join(frame(*record) for record in records)

        def die(reached: str, _path: Path | None) -> None:
            if reached == step:
                raise _BrokenOff

        try:
            with watched(die):
                self.give(data)
        except _BrokenOff:
            pass
        self.lake.close()
        self.lake = loadlock.open(self.folder / "t.lake")
        summary = self.give(data)
        assert summary.payloads["committed"] + summary.payloads["replayed"] == 1
        self.learn(data, records)
        self.agree()

    @rule()
    def compact(self) -> None:
        self.lake.compact(everything=True)
        self.agree()

    @rule()
    def expire(self) -> None:
        self.lake.expire(keep_days=0)
        self.lake.sweep(guard_hours=0)
        self.agree()


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> type[LakeMachine]:
    folder = tmp_path_factory.mktemp("template") / "t.lake"
    with loadlock.open(folder) as lake:
        lake.ingest(data=frame(50, 1.0), tool="T", format="hsms", config=CONFIG, dry_run=True)
    LakeMachine.template = folder
    return LakeMachine


def run(machine: type[LakeMachine], examples: int, steps: int) -> None:
    chosen = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    run_state_machine_as_test(machine, settings=chosen)


def test_the_lake_is_a_dictionary(machine: type[LakeMachine], note: Any) -> None:
    run(machine, 6, 10)
    note(histories=6, steps=10)


@pytest.mark.slow
def test_the_lake_is_a_dictionary_for_long(machine: type[LakeMachine], note: Any) -> None:
    run(machine, scaled(400), 40 if SCALE >= 1 else 15)
    note(histories=scaled(400), steps=40 if SCALE >= 1 else 15)
