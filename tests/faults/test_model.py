"""The whole lake against a dictionary, in any order: deliver, repeat, split, shuffle, tear, break off, kill, retract, reprocess, compact,
expire."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections import Counter
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
from tests.faults.nursery import Nursery
from tests.faults.soak import SCALE, scaled

TEXT = (
    '[models.m]\ntimezone = "UTC"\n[models.m.traces.7]\nperiod = 1.0\nsensors = ["x"]\n[tools.T]\nmodel = "m"\n'
    "[circuit]\nfailures = 1000000\n[maintenance]\nauto = false\n"
    "[lake]\nkeep_payloads = true\n"
)
CONFIG = parse(TEXT)
RECORDS = st.lists(st.tuples(st.integers(1, 12), st.sampled_from([1.0, 2.0, 3.0])), min_size=1, max_size=8)


class _BrokenOff(BaseException):
    """Stands for the death of the process: nobody catches it."""


def frame(number: int, value: float) -> bytes:
    return secs.s6f1(secs.item("U1", 7), secs.item("U4", number), f"202603170800{number:02d}00", [secs.item("F8", value)])


class LakeMachine(RuleBasedStateMachine):
    """``kept``: number -> (the value that came first, who brought it); ``conflicts``: (number, another value) -> who brought it first.

    Whoever brought something is named by the bytes of the delivery. Both dictionaries are in order of arrival.
    """

    template: Path
    nursery: Nursery
    ran: Counter[str]
    """How often what was done, over all histories."""

    @initialize()
    def open(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        shutil.copytree(self.template, self.folder / "t.lake")
        self.lake = loadlock.open(self.folder / "t.lake")
        self.kept: dict[int, tuple[float, bytes]] = {}
        self.conflicts: dict[tuple[int, float], bytes] = {}
        self.records: dict[bytes, list[tuple[int, float]]] = {}
        self.payload: dict[bytes, str] = {}

    def teardown(self) -> None:
        if not hasattr(self, "folder"):
            return
        try:
            assert self.lake.verify().faults == []
            self.agree()
        finally:
            self.lake.close()
            shutil.rmtree(self.folder)

    def agree(self, after: str = "the end") -> None:
        self.ran[after] += 1
        found = self.lake.sql("select seq, value from traces order by seq").fetchall()
        assert found == sorted((number, value) for number, (value, _) in self.kept.items())
        assert sorted(self.lake.sql("select seq, value from conflicts").fetchall()) == sorted(self.conflicts)
        assert self.lake.sql("select count(*) from payloads where state = 'committed'").fetchall() == [(len(self.records),)]

    def give(self, data: bytes) -> Any:
        return self.lake.ingest_all(data=data, tool="T", format="hsms", config=CONFIG)

    def deliver_bytes(self, data: bytes, records: list[tuple[int, float]]) -> None:
        document = check_conserved(self.give(data))
        assert document["payloads"]["replayed" if data in self.records else "committed"] == 1
        self.learn(data, records, document["receipts"][0]["payload_id"])
        self.agree("delivery")

    def learn(self, data: bytes, records: list[tuple[int, float]], payload_id: str) -> None:
        self.payload[data] = payload_id
        self.records[data] = records
        for number, value in records:
            if self.kept.setdefault(number, (value, data))[0] != value:
                self.conflicts.setdefault((number, value), data)

    def forget(self, data: bytes) -> None:
        """As if the delivery had never come; what others only repeated goes with it."""
        del self.records[data]
        self.conflicts = {record: who for record, who in self.conflicts.items() if who != data}
        for number in [number for number, (_, who) in self.kept.items() if who == data]:
            del self.kept[number]
            heir = next((record for record in self.conflicts if record[0] == number), None)
            if heir is not None:
                self.kept[number] = (heir[1], self.conflicts.pop(heir))

    def again(self, data: bytes, records: list[tuple[int, float]], after: str) -> None:
        """The command that did not end, once more."""
        self.lake.close()
        self.lake = loadlock.open(self.folder / "t.lake")
        summary = self.give(data)
        assert summary.payloads["committed"] + summary.payloads["replayed"] == 1
        self.learn(data, records, summary.receipts[0].payload_id)
        self.agree(after)

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
        self.again(data, records, "broken commit")

    @rule(records=RECORDS, delay_ms=st.integers(0, 400))
    def kill_and_deliver_again(self, records: list[tuple[int, float]], delay_ms: int) -> None:
        """Another process delivers, and is killed at some moment: before, during or after its commit."""
        data = b"".join(frame(*record) for record in records)
        (self.folder / "data").write_bytes(data)
        (self.folder / "m.toml").write_text(TEXT, encoding="utf-8")
        self.lake.close()
        child = self.nursery.start("deliver", lake=str(self.folder / "t.lake"), file=str(self.folder / "data"), tool="T")
        time.sleep(delay_ms / 1e3)
        os.kill(child, signal.SIGKILL)  # the nursery has not waited for it yet: the number is still its own
        assert self.nursery.wait(child) in (0, -signal.SIGKILL)
        self.again(data, records, "kill")

    @precondition(lambda self: self.records)
    @rule(data=st.data())
    def retract(self, data: st.DataObject) -> None:
        chosen = data.draw(st.sampled_from(sorted(self.records)))
        self.lake.retract(self.payload[chosen], "a trial")
        self.forget(chosen)
        self.agree("retract")

    @precondition(lambda self: self.records)
    @rule(data=st.data())
    def reprocess(self, data: st.DataObject) -> None:
        chosen = data.draw(st.sampled_from(sorted(self.records)))
        records = self.records[chosen]
        done = self.lake.reprocess(self.payload[chosen])
        self.forget(chosen)
        self.learn(chosen, records, done["payloads"][0]["payload_id"])
        self.agree("reprocess")

    @rule()
    def compact(self) -> None:
        self.lake.compact(everything=True)
        self.agree("compact")

    @rule()
    def expire(self) -> None:
        self.lake.expire(keep_days=0)
        self.lake.sweep(guard_hours=0)
        self.agree("expire")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, nursery: Nursery) -> type[LakeMachine]:
    folder = tmp_path_factory.mktemp("template") / "t.lake"
    with loadlock.open(folder) as lake:
        lake.ingest(data=frame(50, 1.0), tool="T", format="hsms", config=CONFIG, dry_run=True)
    LakeMachine.template = folder
    LakeMachine.nursery = nursery
    LakeMachine.ran = Counter()
    return LakeMachine


def run(machine: type[LakeMachine], examples: int, steps: int) -> None:
    chosen = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    run_state_machine_as_test(machine, settings=chosen)


def test_the_lake_is_a_dictionary(machine: type[LakeMachine], note: Any) -> None:
    run(machine, 6, 10)
    note(histories=6, steps=10, **LakeMachine.ran)


@pytest.mark.slow
def test_the_lake_is_a_dictionary_for_long(machine: type[LakeMachine], note: Any) -> None:
    histories, steps = scaled(20), 30 if SCALE >= 1 else 15
    run(machine, histories, steps)
    note(histories=histories, steps=steps, **LakeMachine.ran)
