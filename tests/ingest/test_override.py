"""A circuit overridden under approval: held open, forced closed, or opened for one delivery; each a plan, each in the ledger."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ingest.errors import UsageError
from storage.circuits import CLOSED, OPEN
from storage.files import sha256_of
from storage.trust import ApprovalMissing
from tests.ingest.circuit_support import Site, rows, states, traces


@pytest.fixture
def site(tmp_path: Path) -> Any:
    made = Site(tmp_path)
    assert states(made.ingest(made.put("X/1", rows(0)), made.put("Y/1", rows(0)))) == ["committed"] * 2
    yield made
    made.lake.close()


def override(site: Any, tool: str, wanted: str, **more: Any) -> None:
    plan = site.lake.plan("override", {"tool": tool, "override": wanted, "reason": "pump swap", **more})
    site.lake.apply(plan, confirmed=True)


def test_held_open_whatever_comes_until_it_is_ended(site: Any) -> None:
    override(site, "X", "hold")
    site.now += timedelta(days=30)
    summary = site.ingest(site.put("X/2", rows(100)), site.put("Y/2", rows(100)))
    assert states(summary) == ["deferred", "committed"]
    assert "held open by" in summary.receipts[0].reason
    assert "plan override X --end" in summary.receipts[0].reason
    assert site.lake.status()["circuits"][0]["override"] == "hold"
    with pytest.raises(ApprovalMissing, match="plan override X --end"):
        site.lake.reset_circuit("X", reason="impatient")
    override(site, "X", "end")
    assert states(site.ingest()) == ["replayed", "committed", "replayed", "replayed"]
    action, _, body = next(entry for entry in site.entries() if entry[0] == "override")
    assert (action, body["approval"], body["circuits"][0]["to"]) == ("override", "confirmed", OPEN)
    assert site.lake.verify().faults == []


def test_it_ends_by_itself_when_a_time_is_set_and_survives_a_lost_index(site: Any) -> None:
    override(site, "X", "hold", until=site.now + timedelta(hours=2))
    site.lake.store.index.clear()
    assert states(site.ingest(site.put("X/2", rows(100)))) == ["deferred"]
    site.now += timedelta(hours=3)
    assert states(site.ingest(site.put("X/2", rows(100)))) == ["committed"]
    assert site.state() == CLOSED


def test_forced_closed_takes_rubbish_to_the_quarantine(site: Any) -> None:
    assert states(site.ingest(site.put("X/2", rows(100, bad=30)))) == ["deferred"]
    assert site.state() == OPEN
    override(site, "X", "force", until=site.now + timedelta(hours=1))
    summary = site.ingest(site.put("X/2", rows(100, bad=30)))
    assert (states(summary), summary.frames["quarantined"]) == (["committed"], 30)
    site.now += timedelta(hours=2)
    assert states(site.ingest(site.put("X/3", rows(200, bad=30)))) == ["deferred"]


def test_forced_for_one_delivery_alone(site: Any) -> None:
    wanted, other = site.put("X/2", rows(100, bad=30)), site.put("X/3", rows(200, bad=35))
    override(site, "X", f"force {sha256_of(wanted)}")
    summary = site.ingest(other, wanted)
    assert states(summary) == ["deferred", "committed"]
    assert summary.frames["quarantined"] == 30
    assert site.state() == OPEN
    assert traces(site.lake)["X"] == 40 + 10


def test_forced_for_one_delivery_of_several_tools(site: Any) -> None:
    mixed = site.put("mixed/1", [*rows(300, bad=30, tool="X"), *rows(300, tool="Y")])
    override(site, "X", f"force {sha256_of(mixed)}")
    summary = site.ingest(mixed)
    assert (states(summary), summary.frames["quarantined"]) == (["committed"], 30)
    assert site.state() == CLOSED


def test_what_makes_no_sense_is_no_plan(site: Any) -> None:
    for tool, wanted, words in (("Z", "hold", "there are: X, Y"), ("X", "end", "nothing is in force"), ("X", "melt", "override")):
        with pytest.raises(UsageError, match=words):
            site.lake.plan("override", {"tool": tool, "override": wanted, "reason": "?"})
    plan = site.lake.plan("override", {"tool": "X", "override": "hold", "reason": "first"})
    override(site, "X", "force")
    with pytest.raises(ApprovalMissing, match="other in_force"):
        site.lake.apply(plan, confirmed=True)


def test_the_command_names_bytes_and_hours(site: Any, loadlock_command: Any) -> None:
    at = ("--reason", "x", "--json", "--lake", site.lake.path)
    wanted = site.put("X/2", rows(100, bad=30))
    plan = loadlock_command("plan", "override", "X", "--force", "--delivery", wanted, *at).json
    assert plan["wish"]["override"] == f"force {sha256_of(wanted)}"
    assert plan["wish"]["until"] is not None
    assert loadlock_command("plan", "override", "X", "--hold", *at).json["wish"]["until"] is None
    assert loadlock_command("plan", "override", "X", "--hold", "--delivery", wanted, *at).code == 2
    assert loadlock_command("plan", "override", "X", *at).code == 2
