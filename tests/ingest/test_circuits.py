"""Circuits: a tool that sends rubbish is walled off, its deliveries stay where they are, and every other tool goes on."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import pytest

import loadlock
from ingest.circuits import Breakers, reset
from ingest.config import Config
from ingest.errors import UsageError
from ingest.thresholds import CircuitSection
from storage.circuits import CLOSED, HALF_OPEN, OPEN, TOOL, Circuit
from storage.index import Index
from storage.rollforward import roll_forward

HERE = Path(__file__).resolve().parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))
from circuit_support import HEADER, NOON, ROWS, Site, config, rows, states, traces, us  # noqa: E402


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)
    yield made
    assert made.lake.verify().faults == []
    made.lake.close()


# --- judged before the commit


def test_mostly_rubbish_is_left_where_it_is_and_opens_the_circuit(site, assert_conserved):
    bad = site.put("X/1.csv", rows(0, bad=30))
    good = site.put("Y/1.csv", rows(0, tool="Y"))
    summary = site.ingest()
    document = assert_conserved(summary, site.lake)
    assert (states(summary), summary.exit_code) == (["deferred", "committed"], 3)
    assert "76% of" in document["receipts"][0]["reason"]
    assert document["receipts"][0]["ledger_seq"] is None
    assert bad.exists()
    assert good.exists()
    assert traces(site.lake) == {"Y": ROWS}
    assert site.lake.sql("select count(*) from quarantine").fetchall() == [(0,)]
    assert site.lake.sql("select tool, state, failures, opened_at, retry_at from circuits order by tool").fetchall() == [
        ("X", HALF_OPEN, 1, NOON, NOON + timedelta(seconds=60)),  # the view goes by the real clock
        ("Y", CLOSED, 0, None, None),
    ]
    action, _, body = site.entries()[-1]
    assert action == "ingest"
    assert body["circuits"] == [
        {"circuit": "X", "kind": TOOL, "from": CLOSED, "to": OPEN, "failures": 1, "reason": body["circuits"][0]["reason"]}
    ]
    site.put("X/1.csv", rows(0))  # corrected at its place: its key is free
    reset(site.lake.store, "X", reason="sensor replaced", actor="kim", software="1", wait_s=1)
    assert states(site.ingest()) == ["committed", "replayed"]


def test_a_delivery_alone_that_is_rubbish_makes_an_entry_of_its_own(site):
    site.put("X/1.csv", rows(0, bad=30))
    assert states(site.ingest()) == ["deferred"]
    action, _, body = site.entries()[-1]
    assert action == "circuit"
    assert body["deferred"][0]["source"].endswith("X/1.csv")
    assert body["circuits"][0]["to"] == OPEN
    assert list((site.lake.path / "data").rglob("*.parquet")) == []


def test_what_is_left_out_of_a_group_leaves_no_trace_in_the_others(site, tmp_path):
    """The same lake, to the digest, as if the rubbish had not been there."""
    site.put("X/1.csv", rows(0, bad=30))
    for i in range(3):
        site.put(f"Y/{i}.csv", rows(i * 20, tool="Y"))
    summary = site.ingest()
    assert states(summary) == ["deferred", "committed", "committed", "committed"]
    with loadlock.open(tmp_path / "other.lake") as other:
        other.ingest([tmp_path / "drop" / "Y"], config=site.config)
        assert other.digest() == site.lake.digest()


def test_below_the_minimum_rubbish_is_quarantined_and_counted(site):
    for i in range(2):
        site.put(f"X/{i}.csv", rows(i * 100, bad=8, count=10))
    summary = site.ingest()
    assert (states(summary), summary.exit_code) == (["committed"] * 2, 3)
    assert (site.circuit().state, site.circuit().failures) == (CLOSED, 2)
    site.put("X/2.csv", rows(300, count=10))
    site.ingest()
    assert site.circuit().failures == 0


def test_failing_payloads_in_a_row_open_the_circuit(site):
    for i in range(5):
        site.put(f"X/{i}.csv", rows(i * 100, bad=8, count=10))
    summary = site.ingest()
    assert states(summary) == ["committed"] * 3 + ["deferred"] * 2
    assert site.circuit().state == OPEN
    assert "3 failing payloads in a row" in site.circuit().reason


@pytest.mark.parametrize("alone", [True, False])
def test_the_same_whether_payloads_come_in_one_group_or_alone(site, alone):
    paths = [site.put(f"X/{i}.csv", rows(i * 100, bad=8 if i != 1 else 0, count=10)) for i in range(6)]
    found = [states(site.ingest(path))[0] for path in paths] if alone else states(site.ingest())
    assert found == ["committed"] * 5 + ["deferred"]  # the sound one ends the first row of failures


def test_contradictions_count_too(site):
    site.put("X/1.csv", rows(0))
    site.ingest()
    site.put("X/2.csv", rows(0, offset=1.0))
    summary = site.ingest()
    assert states(summary) == ["replayed", "deferred"]
    assert "contradict" in summary.receipts[1].reason
    assert site.lake.sql("select count(*) from conflicts").fetchall() == [(0,)]


def test_the_default_minimum_is_a_thousand_frames_or_a_mebibyte(site):
    site.config = Config.model_validate(site.config.model_dump(exclude={"circuit"}))
    site.put("X/1.csv", rows(0, bad=998, count=998))
    assert states(site.ingest()) == ["committed"]
    site.put("X/2.csv", rows(0, bad=1000, count=1000))
    assert states(site.ingest()) == ["replayed", "deferred"]
    wide = [f"Z,soon,{'9' * 300_000}" for _ in range(4)]
    site.put("Z/1.csv", wide)
    assert states(site.ingest())[-1] == "deferred"


def test_a_dry_run_judges_and_writes_nothing(site):
    site.put("X/1.csv", rows(0, bad=30))
    summary = site.ingest(dry_run=True)
    assert (states(summary), summary.exit_code) == (["deferred"], 3)
    assert site.circuit() == Circuit(TOOL, "X")
    assert [action for action, _, _ in site.entries()] == ["init"]


# --- open, half-open, closed


def test_while_open_payloads_wait_unread_and_the_others_go_on(site):
    site.put("X/1.csv", rows(0, bad=30))
    site.ingest()
    before = len(site.entries())
    site.put("X/2.csv", rows(100))
    site.put("Y/1.csv", rows(0, tool="Y"))
    site.now += timedelta(seconds=59)
    decoded = []
    summary = site.ingest(progress=lambda batch, _position: decoded.append(batch.payloads[-1].tool))
    assert states(summary) == ["deferred", "deferred", "committed"]
    assert set(decoded) == {"Y"}
    assert "circuits reset X" in summary.receipts[1].reason
    assert "2026-03-01 12:01:00 UTC" in summary.receipts[1].reason
    assert len(site.entries()) == before + 1  # that a payload waits changes nothing
    assert site.ingest().exit_code == 3


def test_half_open_tries_one_payload_and_a_sound_one_closes(site):
    site.put("X/1.csv", rows(0, bad=30))
    site.ingest()
    site.put("X/1.csv", rows(0))
    for i in range(3):
        site.put(f"X/9{i}.csv", rows(100 * (i + 1)))
    site.now += timedelta(seconds=60)
    assert site.state() == HALF_OPEN
    summary = site.ingest()
    assert states(summary) == ["committed"] * 4
    assert len(summary.batches) == 2  # the trial stands alone
    assert site.circuit().state == CLOSED
    assert [change for _, _, body in site.entries() for change in body.get("circuits", ())][-1]["from"] == HALF_OPEN


def test_half_open_and_rubbish_again_waits_twice_as_long_up_to_a_cap(site):
    for i in range(3):
        site.put(f"X/{i}.csv", rows(i * 100, bad=30))
    pauses = []
    for _ in range(4):
        decoded = []
        summary = site.ingest(progress=lambda batch, _position, seen=decoded: seen.append(batch.payloads[-1].source))
        assert states(summary) == ["deferred"] * 3
        circuit = site.circuit()
        assert circuit.opened_us == us(site.now)
        pauses.append((circuit.retry_us - circuit.opened_us) // 1_000_000)
        site.now += timedelta(seconds=pauses[-1])
        assert site.state() == HALF_OPEN
    assert pauses == [60, 120, 200, 200]
    assert len(set(decoded)) == 1  # half-open, only one was tried
    site.put("X/0.csv", rows(0))
    assert states(site.ingest()) == ["committed", "deferred", "deferred"]  # closed by the first, opened anew by the second
    circuit = site.circuit()
    assert circuit.retry_us - circuit.opened_us == 60_000_000


def test_a_known_payload_is_replayed_whatever_its_circuit(site):
    site.put("X/0.csv", rows(0))
    site.ingest()
    site.put("X/1.csv", rows(100, bad=30))
    assert states(site.ingest()) == ["replayed", "deferred"]
    assert states(site.ingest()) == ["replayed", "deferred"]


def test_thresholds_per_tool(site):
    site.config = config(tools={"X": {"ratio": 0.9}, "Y*": {"minimum_frames": 1000}})
    for tool in ("X", "Y1", "Z"):
        site.put(f"{tool}/1.csv", rows(0, bad=30, tool=tool))
    assert states(site.ingest()) == ["committed", "committed", "deferred"]


def test_circuits_hold_over_several_workers(site):
    for tool in ("X", "Y", "Z"):
        for i in range(3):
            site.put(f"{tool}/{i}.csv", rows(i * 100, bad=30 if tool != "Z" else 0, tool=tool))
    summary = site.ingest(jobs=3)
    assert states(summary) == ["deferred"] * 6 + ["committed"] * 3
    assert {tool: site.circuit(tool).state for tool in "XYZ"} == {"X": OPEN, "Y": OPEN, "Z": CLOSED}
    assert {tool: site.circuit(tool).failures for tool in "XYZ"} == {"X": 1, "Y": 1, "Z": 0}


def test_a_circuit_that_another_process_opened_meanwhile_holds(site, monkeypatch):
    """Between decoding and the lock somebody else opens the circuit: the group is decided anew."""
    site.put("X/0.csv", rows(0))
    site.ingest()
    site.put("X/1.csv", rows(100))
    site.put("Y/1.csv", rows(100, tool="Y"))
    from ingest.group import Group

    real = Group.settle

    def late(group):
        monkeypatch.setattr(Group, "settle", real)
        with loadlock.open(site.lake.path) as other:
            other.store.clock = site.lake.store.clock
            assert states(other.ingest_all(site.put("../other/X/9.csv", rows(500, bad=30)), config=site.config)) == ["deferred"]
        real(group)

    monkeypatch.setattr(Group, "settle", late)
    assert states(site.ingest()) == ["replayed", "deferred", "committed"]


# --- bytes without a place


def test_bytes_in_memory_are_never_dropped_in_silence(site):
    data = "\n".join([HEADER, *rows(0, bad=30)]).encode()
    one = Config.model_validate(site.config.model_dump() | {"tables": {"own": site.config.tables["own"].model_dump()}, "sources": []})
    for _ in range(2):  # judged, and then at once
        summary = site.lake.ingest_all("stdin", data=data, tool="X", format="table", config=one)
        assert (states(summary), summary.exit_code) == (["deferred"], 5)
        assert "deliver them again" in summary.busy


# --- by hand, and over restarts


def test_reset_is_a_ledger_entry_with_actor_and_reason(site):
    site.put("X/1.csv", rows(0, bad=30))
    site.ingest()
    worn = reset(site.lake.store, "X", reason="pump swapped", actor="kim", software="1", wait_s=1)
    assert [circuit.state for circuit in worn] == [OPEN]
    assert site.circuit() == Circuit(TOOL, "X", CLOSED, "reset by kim: pump swapped")
    action, actor, body = site.entries()[-1]
    assert (action, actor, body["reason"]) == ("circuit_reset", "kim", "pump swapped")
    assert reset(site.lake.store, "X", reason="again", actor="kim", software="1", wait_s=1) == []
    site.put("X/1.csv", rows(0))  # its first data say nothing new of the circuit
    site.ingest()
    assert site.lake.sql("select reason from circuits").fetchall() == [("reset by kim: pump swapped",)]
    with pytest.raises(UsageError, match="there are: X"):
        reset(site.lake.store, "Q", reason="?", actor="kim", software="1", wait_s=1)
    with pytest.raises(UsageError, match="--reason"):
        reset(site.lake.store, "X", reason=" ", actor="kim", software="1", wait_s=1)


def test_a_rebuilt_index_knows_the_circuits(site, tmp_path):
    site.put("X/1.csv", rows(0, bad=30))
    site.put("Y/1.csv", rows(0, bad=8, count=10, tool="Y"))
    site.ingest()
    fresh = Index(tmp_path / "fresh.sqlite")
    roll_forward(site.lake.store.connection, fresh)
    assert sorted(fresh.circuits()) == sorted(site.lake.store.index.circuits())
    fresh.close()


# --- the policy by itself


def test_what_is_open_stays_open_until_its_time():
    breakers = Breakers([Circuit(TOOL, "X", OPEN, "why", 0, 100, 1)], CircuitSection(), 99)
    breakers.trip("X", "again")
    breakers.trip("Y", "first")
    assert breakers.state("X") == OPEN
    assert [circuit.tool for circuit in breakers.changes()] == ["Y"]
    assert breakers.tools(OPEN) == {"X", "Y"}
    due = Breakers([Circuit(TOOL, "X", OPEN, "why", 0, 100, 1)], CircuitSection(), 100)
    assert due.state("X") == HALF_OPEN
    due.succeed("X")
    assert due.changes() == [Circuit(TOOL, "X", CLOSED, "a payload was sound again")]


@pytest.mark.parametrize(
    "wrong", [{"ratio": 0}, {"ratio": 1.5}, {"cool_down": 10, "cool_down_max": 5}, {"tools": {"X": {"rate": 1}}}, {"failures": 0}]
)
def test_thresholds_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="circuit"):
        Config.model_validate({"circuit": wrong})
