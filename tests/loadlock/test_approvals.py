"""What destroys is planned, approved by as many keys as the rule asks for, and carried out once; the ledger holds the proof."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import loadlock
from storage import plans
from storage.ledger import Entry, canonical
from storage.trust import Trust
from storage.verify import entries

Run = Callable[..., Any]
NAMES = ("alice", "bob", "carol")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str]]:
    """name -> (private file, public key)."""
    from storage.signing import write_private

    folder = tmp_path_factory.mktemp("keys")
    return {name: (folder / f"{name}.pem", write_private(folder / f"{name}.pem")) for name in (*NAMES, "mallory")}


class Desk:
    """A lake with one quarantined row, and the commands as people at a desk give them."""

    def __init__(self, site: Any, run: Run, keys: dict[str, tuple[Path, str]]) -> None:
        self.site, self.run, self.keys = site, run, keys
        self.lake, self.plan_file = site.lake, site.folder / "plan.json"
        site.file("bad.csv", ["P1,A,soon,W9,ramp,1,1", "P1,A,later,W9,ramp,1,1"])
        assert self("ingest", site.drop / "bad.csv", "--config", site.config).code == 3
        self.ids = [row["quarantine_id"] for row in self("quarantine", "list", "--json").json["quarantine"]]

    def __call__(self, *arguments: object) -> Any:
        return self.run(*arguments, "--lake", self.lake)

    def rule(self, threshold: int, *names: str, more: str = "") -> None:
        """Configure ``threshold`` and trust keys."""
        plain = self.site.config.read_text().partition("\n[approval]")[0]
        self.site.config.write_text(f"{plain}\n[approval]\nthreshold = {threshold}\n{more}")
        assert self("ingest", self.site.first, "--config", self.site.config).code == 0
        for name in names:
            assert self("keys", "trust", name, self.keys[name][1]).code == 0

    def plan(self, *arguments: object) -> dict[str, Any]:
        words = arguments or ("discard", self.ids[0])
        answer = self("plan", *words, "--reason", "noise", "--output", self.plan_file, "--json")
        assert answer.code == 0, answer.err
        return answer.json

    def approve(self, name: str, *, check: bool = False) -> Path:
        arguments = ("approve", self.plan_file, "--key", self.keys[name][0])
        assert (self(*arguments) if check else self.run(*arguments)).code == 0
        return Path(f"{self.plan_file}.{name}.approval")

    def apply(self, *approvals: Path, code: int = 0, words: str = "") -> Any:
        answer = self("apply", self.plan_file, *approvals, "--json")
        assert answer.code == code, answer.err
        assert words in answer.err
        return answer.json if code == 0 else None

    def entry(self) -> dict[str, Any]:
        """The newest ledger entry."""
        found: dict[str, Any] = self("audit", "log", "--last", 1, "--json").json["ledger"][0]
        return found


@pytest.fixture
def desk(copy: Any, loadlock_command: Run, keys: dict[str, tuple[Path, str]]) -> Desk:
    return Desk(copy, loadlock_command, keys)


@pytest.fixture
def ruled(desk: Desk) -> Desk:
    """Two of three keys; the third was trusted by the first two."""
    desk.rule(2, *NAMES[:2])
    desk.plan("trust", "carol", desk.keys["carol"][1])
    desk.apply(desk.approve("alice"), desk.approve("bob"))
    return desk


# --- what is carried out


def test_two_of_three_approve_and_the_ledger_holds_the_proof(ruled: Desk) -> None:
    plan = ruled.plan()
    assert [one["quarantine_id"] for one in plan["effect"]["quarantine"]] == [ruled.ids[0]]
    done = ruled.apply(ruled.approve("alice", check=True), ruled.approve("carol"))
    assert [one["name"] for one in done["approval"]["signers"]] == ["alice", "carol"]
    entry = ruled.entry()
    assert (entry["seq"], entry["action"]) == (done["ledger_seq"], "discard")
    body = entry["body"]
    assert body["plan"] == plan
    assert body["approval"]["needed"] == 2
    assert [one["id"] for one in body["approval"]["signers"]] == [plans.signing.key_id(ruled.keys[name][1]) for name in ("alice", "carol")]
    with loadlock.open(ruled.lake, read_only=True) as lake:
        assert lake.verify().faults == []
        state, reason, data, digest = lake.sql(
            "select state, reason, bytes, sha256 from quarantine where quarantine_id = ?", ruled.ids[:1]
        ).fetchall()[0]
        assert (state, reason, data) == ("discarded", "bad_time", None)
        assert digest == plan["effect"]["quarantine"][0]["sha256"]
        assert lake.sql("select count(*) from quarantine where state = 'open'").fetchall() == [(1,)]


def test_without_keys_a_confirmation_serves_and_the_ledger_says_so(desk: Desk) -> None:
    refused = desk("quarantine", "discard", desk.ids[0], "--reason", "noise")
    assert (refused.code, "--yes" in refused.err) == (7, True)
    assert desk("quarantine", "discard", desk.ids[0], "--reason", "noise", "--yes").code == 0
    assert desk.entry()["body"]["approval"] == "confirmed"
    assert desk("quarantine", "list", "--all").out.count("discarded") == 1
    assert desk("quarantine", "discard", desk.ids[0], "--reason", "noise", "--yes").code == 2
    assert desk("quarantine", "replay", desk.ids[0]).code == 2
    shown = desk("quarantine", "show", desk.ids[0], "--json").json
    assert (shown["bytes"], len(shown["sha256"])) == ("", 64)
    assert desk("quarantine", "export", desk.ids[0], "--output", desk.site.folder / "span").code == 2
    desk.plan("discard", desk.ids[1])
    desk.apply(code=7, words="--yes")
    assert desk("apply", desk.plan_file, "--yes").code == 0
    assert desk("audit", "verify").code == 0


@pytest.mark.parametrize(("typed", "code"), [("yes\n", 0), ("no\n", 7), ("", 7)])
def test_on_a_terminal_it_asks(desk: Desk, typed: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    monkeypatch.setattr(sys, "stderr", said := Terminal())
    assert desk("quarantine", "discard", desk.ids[0], "--reason", "noise").code == code
    assert desk.ids[0] in said.getvalue()
    assert "It can't be undone" in said.getvalue()


def test_with_keys_a_confirmation_does_not_serve(ruled: Desk) -> None:
    refused = ruled("quarantine", "discard", ruled.ids[0], "--reason", "noise", "--yes")
    assert (refused.code, "0 of 2 approvals" in refused.err, "alice, bob, carol" in refused.err) == (7, True, True)
    ruled.plan()
    ruled.apply(ruled.approve("alice"), code=7, words="1 of 2 approvals; the holders of bob, carol")


# --- what is refused


def test_the_same_signer_twice(ruled: Desk) -> None:
    ruled.plan()
    once = ruled.approve("alice")
    again = Path(shutil.copy(once, once.with_suffix(".again")))
    ruled.apply(once, again, code=7, words="'alice' signed twice")


def test_an_unknown_key(ruled: Desk) -> None:
    ruled.plan()
    mallory = ruled.approve("mallory")
    ruled.apply(ruled.approve("alice"), mallory, code=7, words="not a key of this lake")
    early = ruled("approve", ruled.plan_file, "--key", ruled.keys["mallory"][0])
    assert (early.code, "not a key of this lake" in early.err) == (7, True)


def test_a_revoked_key(ruled: Desk) -> None:
    ruled.plan("revoke", "bob")
    ruled.apply(ruled.approve("alice"), ruled.approve("carol"))
    ruled.plan()
    ruled.apply(ruled.approve("alice"), ruled.approve("bob"), code=7, words="'bob' was revoked by ledger entry")


def test_an_expired_plan(ruled: Desk) -> None:
    ruled.plan("discard", ruled.ids[0], "--hours", 1)
    both = ruled.approve("alice"), ruled.approve("bob")
    plan = json.loads(ruled.plan_file.read_text())
    with loadlock.open(ruled.lake) as lake:
        clock = lake.store.clock
        lake.store.clock = lambda: clock() + timedelta(hours=2)
        with pytest.raises(plans.ApprovalMissing, match="expired at"):
            lake.apply(plan, [plans.read_approval(path) for path in both])
    ruled.plan("discard", ruled.ids[0], "--hours", 1e-9)
    ruled.apply(*both, code=7, words="expired at")
    late = ruled("approve", ruled.plan_file, "--key", ruled.keys["alice"][0])
    assert (late.code, "expired at" in late.err) == (7, True)


def test_a_changed_plan(ruled: Desk) -> None:
    plan = ruled.plan()
    both = ruled.approve("alice"), ruled.approve("bob")
    other = plan | {"wish": plan["wish"] | {"ids": [ruled.ids[1]]}}
    ruled.plan_file.write_text(canonical(other))
    ruled.apply(*both, code=7, words="changed since it was written")
    ruled.plan_file.write_text(canonical(plans.sealed(other)))
    ruled.apply(*both, code=7, words="for another plan")
    ruled.plan_file.write_text("{}")
    ruled.apply(*both, code=2, words="no plan")
    ruled.plan_file.write_text(canonical(plans.sealed(plan | {"seq": "1"})))
    ruled.apply(*both, code=2, words="no plan")
    ruled.plan_file.write_text(canonical(plan))
    both[0].write_text(both[0].read_text().replace('"time":"2', '"time":"3'))
    ruled.apply(*both, code=7, words="signature of 'alice' does not match")
    both[0].write_text("nonsense")
    ruled.apply(*both, code=2, words="no approval")


def test_a_plan_whose_lake_has_changed(ruled: Desk) -> None:
    """Its effect is worked out anew: what is no longer open can't be discarded; and a made-up effect is no plan for what is."""
    plan = ruled.plan("discard", *ruled.ids)
    both = ruled.approve("alice"), ruled.approve("bob")
    with loadlock.open(ruled.lake) as lake:
        one = lake.plan("discard", {"ids": ruled.ids[:1], "reason": "first"})
        signed = [plans.approve(one, ruled.keys[name][0], lake.store.clock()) for name in ("alice", "carol")]
        lake.apply(one, signed)
    ruled.apply(*both, code=7, words="the lake has changed since the plan was made")
    effect = {"quarantine": plan["effect"]["quarantine"][:1]}
    ruled.plan_file.write_text(canonical(plans.sealed(plan | {"wish": {"ids": ruled.ids[1:], "reason": "x"}, "effect": effect})))
    ruled.apply(ruled.approve("alice"), ruled.approve("bob"), code=7, words="other quarantine")


def test_a_plan_that_was_carried_out(ruled: Desk) -> None:
    ruled.plan("trust", "mallory", ruled.keys["mallory"][1])
    both = ruled.approve("alice"), ruled.approve("bob")
    seq = ruled.apply(*both)["ledger_seq"]
    ruled.apply(*both, code=7, words=f"carried out before, by ledger entry {seq}")


def test_another_lakes_plan(ruled: Desk, tmp_path: Path) -> None:
    ruled.plan()
    both = ruled.approve("alice"), ruled.approve("bob")
    mine, ruled.lake = ruled.lake, tmp_path / "other.lake"
    assert ruled("init").code == 0
    ruled.apply(*both, code=7, words="of another lake")
    ruled.lake = tmp_path / "copy.lake"
    shutil.copytree(mine, ruled.lake)
    assert ruled("compact", "--all").code == 0
    ruled.plan()
    ruled.lake = mine
    ruled.apply(ruled.approve("alice"), ruled.approve("bob"), code=7, words="another copy of its ledger")


# --- who may change the rule


def test_keys_of_a_settled_lake_change_by_plan_only(ruled: Desk) -> None:
    assert ruled("keys", "revoke", "bob").code == 7
    ruled.plan("trust", "dora", ruled.keys["mallory"][1])
    ruled.apply(ruled.approve("alice"), code=7)
    ruled.apply(ruled.approve("alice"), ruled.approve("bob"))
    listed = ruled("keys", "list", "--json").json
    assert [key["name"] for key in listed["keys"] if key["revoked"] is None] == [*NAMES, "dora"]
    assert ruled("audit", "verify").code == 0


def test_a_configuration_beside_a_delivery_loosens_nothing(ruled: Desk) -> None:
    ruled.rule(1, more='keys = ["mallory"]\n')
    listed = ruled("keys", "list", "--json").json
    assert (listed["threshold"], [key["signs"] for key in listed["keys"]]) == (2, [False] * 3)
    ruled.plan()
    ruled.apply(ruled.approve("alice"), ruled.approve("bob"), code=7, words="[approval] keys does not let it")


def test_nor_can_it_lock_the_lake(ruled: Desk) -> None:
    """Changes to the rule are judged by the one that was settled: two of these three."""
    ruled.rule(9)
    ruled.plan()
    ruled.apply(ruled.approve("alice"), ruled.approve("bob"), ruled.approve("carol"), code=7, words="3 of 9")
    ruled.rule(1, more='keys = ["bob", "carol"]\n[approval.actions]\npurge = 2\n')
    ruled.plan("policy", "--config", ruled.site.config)
    ruled.apply(ruled.approve("alice"), code=7, words="1 of 2")
    ruled.apply(ruled.approve("alice"), ruled.approve("bob"))
    with loadlock.open(ruled.lake, read_only=True) as lake:
        trust: Trust = plans.Trust()
        trust = loadlock.lake.read_trust(lake.store)
        assert (trust.needed("discard"), trust.needed("purge"), trust.needed("policy")) == (1, 2, 1)
    ruled.plan()
    ruled.apply(ruled.approve("alice"), code=7, words="does not let it")
    ruled.apply(ruled.approve("carol"))
    assert ruled("audit", "verify").code == 0


def test_a_rule_that_nobody_could_meet_is_no_plan(ruled: Desk) -> None:
    plain = ruled.site.config.read_text().partition("\n[approval]")[0]
    ruled.site.config.write_text(f"{plain}\n[approval]\nthreshold = 4\n")
    answer = ruled("plan", "policy", "--config", ruled.site.config, "--reason", "more")
    assert (answer.code, "3 trusted keys could give them" in answer.err) == (2, True)


# --- the proof is proven


def test_an_entry_without_its_approval_is_found(ruled: Desk) -> None:
    """Whoever can write to the lake can skip the command, but not the proof."""
    plan = ruled.plan()
    ruled.apply(ruled.approve("alice"), ruled.approve("bob"))
    with loadlock.open(ruled.lake, read_only=True) as lake:
        listed = list(entries(lake.store))
        configs = lake.store.rows("SELECT revision, body FROM lake.main.configs")
    assert plans.proof_faults(listed, configs) == []
    body = json.loads(listed[-1].body)
    signers = body["approval"]["signers"]
    forgeries = {
        "missing or changed": {"plan": None},
        "signatures were needed": {"approval": "confirmed"},
        "1 of 2 signatures": {"approval": {"signers": signers[:1]}},
        "0 of 2 signatures": {"approval": None},
        "does not match": {"approval": {"signers": [signers[0], signers[1] | {"signature": signers[0]["signature"]}]}},
        "not a key of this lake": {"approval": {"signers": [signers[0], signers[1] | {"key": ruled.keys["mallory"][1]}]}},
        "'alice' does not match": {"plan": plans.sealed(plan | {"by": "mallory"})},
    }
    for words, change in forgeries.items():
        faults = plans.proof_faults([*listed[:-1], replace(listed[-1], body=json.dumps(body | change))], configs)
        assert len(faults) == 1
        assert words in faults[0]
        assert faults[0].startswith(f"ledger entry {listed[-1].seq}: discard without approval")


@pytest.mark.parametrize(
    "body", ['{"approval": ', "[]", '{"approval": {"threshold": "x"}}', '{"approval": {"expiry": []}}', '{"approval": 7}']
)
def test_a_damaged_configuration_is_a_fault_and_no_crash(body: str) -> None:
    entry = Entry(2, datetime(2026, 3, 1), "t", "configure", "", "{}", "", "")
    (fault,) = plans.proof_faults([entry], [(2, body)])
    assert "ledger entry 2: its configuration is damaged" in fault
