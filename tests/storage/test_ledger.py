"""Whatever is done to the ledger afterwards, the chain tells, and names the entry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import loadlock
from storage import ledger
from storage.ledger import GENESIS, Entry, canonical, check_chain, seal

START = datetime(2026, 3, 1, 12, 0, 0)


def chain(length: int = 7) -> list[Entry]:
    """A sound chain."""
    entries: list[Entry] = []
    previous = GENESIS
    for seq in range(1, length + 1):
        body = {"counts": {"samples": seq * 10}, "payloads": [{"key": f"k{seq}", "sha256": "ab" * 32}], "note": "größer"}
        entries.append(seal(seq, START + timedelta(seconds=seq), "tests", "ingest", f"batch {seq}", body, previous))
        previous = entries[-1].hash
    return entries


def test_a_sound_chain_holds() -> None:
    assert check_chain([]) == []
    assert check_chain(chain()) == []


CHANGES: dict[str, Callable[[Entry], Entry]] = {
    "seq": lambda e: replace(e, seq=e.seq + 100),
    "recorded_at": lambda e: replace(e, recorded_at=e.recorded_at + timedelta(microseconds=1)),
    "actor": lambda e: replace(e, actor="somebody else"),
    "action": lambda e: replace(e, action="purge"),
    "batch_id": lambda e: replace(e, batch_id=e.batch_id + " "),
    "body": lambda e: replace(e, body=e.body.replace('"samples":40', '"samples":41')),
    "body's spelling": lambda e: replace(e, body=e.body.replace(",", ", ")),
    "prev_hash": lambda e: replace(e, prev_hash="0" * 64),
    "hash": lambda e: replace(e, hash="f" + e.hash[1:] if e.hash[0] != "f" else "e" + e.hash[1:]),
}


@pytest.mark.parametrize("field", CHANGES)
def test_a_changed_entry_is_named(field: str) -> None:
    entries = chain()
    entries[3] = CHANGES[field](entries[3])
    faults = check_chain(entries)
    assert any("entry 4" in fault or "entry 104" in fault for fault in faults)


def test_a_changed_entry_that_was_sealed_anew_breaks_the_next() -> None:
    entries = chain()
    old = entries[3]
    entries[3] = seal(4, old.recorded_at, old.actor, old.action, old.batch_id, {"counts": {"samples": 41}}, old.prev_hash)
    faults = check_chain(entries)
    assert len(faults) == 1
    assert "entry 5" in faults[0]


@pytest.mark.parametrize("at", [0, 3])
def test_a_removed_entry_is_named(at: int) -> None:
    entries = chain()
    del entries[at]
    faults = check_chain(entries)
    assert any(f"entry {at + 1} is missing" in fault for fault in faults)
    assert any(f"entry {at + 2}: prev_hash" in fault for fault in faults)


def test_a_removed_entry_with_later_ones_renumbered_is_named() -> None:
    entries = chain()
    del entries[3]
    renumbered = [*entries[:3], *(replace(entry, seq=entry.seq - 1) for entry in entries[3:])]
    faults = check_chain(renumbered)
    assert any("entry 4: prev_hash" in fault for fault in faults)
    assert any("entry 4: its content" in fault for fault in faults)


def test_swapped_entries_are_named() -> None:
    entries = chain()
    entries[2], entries[3] = entries[3], entries[2]
    faults = check_chain(entries)
    assert any("entry 3 is missing or out of order: found 4" in fault for fault in faults)
    assert any("entry 3: prev_hash" in fault for fault in faults)


@pytest.mark.parametrize("twin", [False, True], ids=["a new entry", "the entry twice"])
def test_an_inserted_entry_is_named(twin: bool) -> None:
    entries = chain()
    extra = entries[3] if twin else seal(5, START, "mallory", "ingest", "x", {}, entries[3].hash)
    entries.insert(4, extra)
    faults = check_chain(entries)
    assert any(f"entry {4 if twin else 5}" in fault for fault in faults)


def test_truncation_in_the_middle_is_named_and_a_cut_tail_is_a_shorter_chain() -> None:
    entries = chain()
    faults = check_chain([*entries[:2], *entries[5:]])
    assert any("entry 3 is missing" in fault for fault in faults)
    # The chain alone can't tell that its newest entries are gone: the lake's accounts and files do, and signed heads.
    assert check_chain(entries[:4]) == []


def test_canonical_json_is_one_spelling() -> None:
    assert canonical({"b": 1, "a": [1.5, "ü", None]}) == '{"a":[1.5,"ü",null],"b":1}'
    with pytest.raises(ValueError, match="JSON"):
        canonical({"a": float("nan")})


# --- in a lake


@pytest.fixture
def site(tmp_path: Path, polisher: Callable[..., Any], assert_conserved: Callable[..., Any]) -> Any:
    """A lake of four entries: init, configure and two deliveries."""
    site = polisher(tmp_path)
    site.lake = tmp_path / "fab.lake"
    with loadlock.open(site.lake) as lake:
        for i in (1, 2):
            assert_conserved(lake.ingest(site.wafers(f"{i}.csv", [i]), config=site.config), lake)
    return site


TAMPERING = {
    "change": ("update lake.main.ledger set actor = 'mallory' where seq = 3", "entry 3"),
    "body": ("update lake.main.ledger set body = replace(body, '\"samples\":40', '\"samples\":41') where seq = 3", "entry 3"),
    "removal": ("delete from lake.main.ledger where seq = 3", "entry 3"),
    "a cut tail": ("delete from lake.main.ledger where seq = 4", "no ledger entry names this file"),
    "an account": ("update lake.main.payloads set records_accepted = records_accepted + 1 where ledger_seq = 3", "does not balance"),
    "a lost account": ("delete from lake.main.payloads where ledger_seq = 3", "has no account"),
    "rows": ("delete from lake.main.traces where seq % 5 = 0", "rows are stored"),
}


@pytest.mark.parametrize("case", TAMPERING)
def test_verify_finds_what_was_done_behind_its_back(case: str, site: Any, loadlock_command: Callable[..., Any]) -> None:
    statement, words = TAMPERING[case]
    with loadlock.open(site.lake) as lake:
        lake.store.connection.execute(statement)
    answer = loadlock_command("audit", "verify", "--lake", site.lake, "--json")
    assert answer.code == 6
    assert any(words in fault for fault in answer.json["faults"]), answer.json["faults"]


def test_every_action_is_an_entry_with_what_it_took(site: Any) -> None:
    import json

    with loadlock.open(site.lake, read_only=True) as lake:
        rows = lake.sql("select seq, action, actor, batch_id, body from ledger order by seq").fetchall()
        assert [row[1] for row in rows] == ["init", "configure", "ingest", "ingest"]
        for _, _, actor, batch_id, body in rows[2:]:
            entry = json.loads(body)
            assert actor
            assert batch_id
            assert entry["software"]
            assert entry["config_digest"]
            assert entry["counts"]["samples"] == 40
            assert {"key", "sha256", "payload_id", "source"} <= set(entry["payloads"][0])
            assert all(len(file["sha256"]) == 64 and file["rows"] > 0 for file in entry["files"])
            assert not any(file["path"].startswith("/") for file in entry["files"])
    assert ledger.GENESIS == "0" * 64
