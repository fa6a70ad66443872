"""A signed head proves that the ledger still begins with the same entries, and names the one that does not."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import loadlock
from storage import checkpoint, signing
from storage.errors import IntegrityError
from storage.ledger import GENESIS, Entry, check_chain, seal

Run = Callable[..., Any]
NOW = datetime(2026, 3, 1, 12)


def chain(length: int, changed: int = 0) -> list[Entry]:
    """A sound chain; entry ``changed`` has another content."""
    entries: list[Entry] = []
    for seq in range(1, length + 1):
        body = {"n": seq, "changed": seq == changed}
        entries.append(seal(seq, NOW + timedelta(seconds=seq), "tests", "ingest", "", body, entries[-1].hash if entries else GENESIS))
    return entries


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "me.pem"
    signing.write_private(path)
    return path


@pytest.fixture(scope="module")
def signed(key: Path) -> dict[str, Any]:
    return checkpoint.make(chain(9), key, NOW)


@pytest.mark.parametrize("length", [9, 10, 40])
def test_a_ledger_that_grew_extends_it(length: int, signed: dict[str, Any]) -> None:
    assert checkpoint.check(signed, chain(length)) == []


def sealed_anew(entries: list[Entry]) -> list[Entry]:
    """The same contents, in order, as a chain that holds."""
    anew: list[Entry] = []
    for seq, old in enumerate(entries, 1):
        previous = anew[-1].hash if anew else GENESIS
        anew.append(seal(seq, old.recorded_at, old.actor, old.action, old.batch_id, json.loads(old.body), previous))
    assert check_chain(anew) == []
    return anew


def swapped(entries: list[Entry], at: int) -> list[Entry]:
    return [*entries[: at - 1], entries[at], entries[at - 1], *entries[at + 1 :]]


FORGERIES: dict[str, Callable[[int], list[Entry]]] = {
    "change": lambda at: chain(12, at),
    "removal": lambda at: sealed_anew([entry for entry in chain(12) if entry.seq != at]),
    "swap": lambda at: sealed_anew(swapped(chain(12), at)),
    "insertion": lambda at: sealed_anew([*chain(12)[: at - 1], chain(1)[0], *chain(12)[at - 1 :]]),
}


@pytest.mark.parametrize("at", [2, 5, 8])
@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_ledger_sealed_anew_is_found_and_the_entry_named(forgery: str, at: int, signed: dict[str, Any]) -> None:
    faults = checkpoint.check(signed, FORGERIES[forgery](at))
    assert len(faults) == 1
    assert faults[0].startswith(f"ledger entry {at}: ")


def test_a_cut_tail_is_found_and_the_entries_named(signed: dict[str, Any]) -> None:
    assert "entries 7 to 9 are missing" in checkpoint.check(signed, chain(6))[0]
    both = checkpoint.check(signed, chain(6, 4))
    assert [fault.split(":")[0] for fault in both] == ["ledger entries 7 to 9 are missing", "ledger entry 4"]
    assert "empty" in checkpoint.check(signed, [])[0]


def test_a_change_after_the_signed_head_is_not_its_matter(signed: dict[str, Any]) -> None:
    assert checkpoint.check(signed, chain(12, 10)) == []


def test_a_long_ledger_has_a_short_checkpoint_that_names_a_stretch(key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "MOST_MARKS", 8)
    document = checkpoint.make(chain(50), key, NOW)
    assert document["step"] == 8
    assert len(document["marks"]) == 6
    assert checkpoint.check(document, chain(50)) == []
    assert checkpoint.check(document, chain(50, 20))[0].startswith("ledger entry 17 or one up to 24: ")
    assert checkpoint.check(document, chain(50, 50))[0].startswith("ledger entry 49 or one up to 50: ")


def test_another_lake_is_told(signed: dict[str, Any]) -> None:
    assert "another lake" in checkpoint.check(signed, chain(12, 1))[0]


@pytest.mark.parametrize("field", ["lake", "seq", "hash", "time", "step", "marks", "key", "signature"])
def test_no_field_of_it_can_be_changed(field: str, signed: dict[str, Any]) -> None:
    other = {"seq": 8, "step": 2, "marks": signed["marks"][:-1], "key": signing.PREFIX + "A" * 43 + "=", "signature": "A" * 86 + "=="}
    forged = signed | {field: other[field] if field in other else signed[field][::-1]}
    assert "signature does not match" in checkpoint.check(forged, chain(9))[0]


def test_a_signature_serves_its_own_domain_only(key: Path) -> None:
    document = {"a": 1}
    private = signing.read_private(key)
    signature = signing.sign(private, "checkpoint", document)
    assert signing.signed_by(signing.public_of(private), "checkpoint", document, signature)
    assert not signing.signed_by(signing.public_of(private), "approval", document, signature)


def test_only_the_wanted_signer_is_believed(signed: dict[str, Any], tmp_path: Path) -> None:
    stranger = signing.write_private(tmp_path / "other.pem")
    assert checkpoint.check(signed, chain(9), signed["key"]) == []
    assert "not by" in checkpoint.check(signed, chain(9), stranger)[0]


def test_a_broken_ledger_is_not_signed(key: Path) -> None:
    entries = chain(5)
    entries[2] = replace(entries[2], actor="mallory")
    with pytest.raises(IntegrityError, match="entry 3"):
        checkpoint.make(entries, key, NOW)


# --- the catalog's database edited by hand


def ledger_table(database: sqlite3.Connection) -> str:
    """The catalog's table that holds the ledger's rows."""
    (number,) = database.execute("SELECT table_id FROM ducklake_table WHERE table_name = 'ledger' AND end_snapshot IS NULL").fetchone()
    (name,) = database.execute("SELECT table_name FROM ducklake_inlined_data_tables WHERE table_id = ?", [number]).fetchone()
    return str(name)


HANDS = {
    "change": ("UPDATE {t} SET actor = 'mallory' WHERE seq = 3", "entry 3"),
    "removal": ("DELETE FROM {t} WHERE seq = 3", "entry 3 is missing"),
    "swap": ("UPDATE {t} SET seq = 7 - seq WHERE seq IN (3, 4)", "entry 3"),
    "insertion": (
        "INSERT INTO {t} SELECT 999, begin_snapshot, NULL, 6, recorded_at, actor, action, batch_id, body, prev_hash, hash "
        "FROM {t} WHERE seq = 5",
        "entry 6",
    ),
    "truncation": ("DELETE FROM {t} WHERE seq >= 4", "entries 4 to 5 are missing"),
}


@pytest.mark.parametrize("case", HANDS)
def test_what_is_done_to_the_catalog_by_hand_is_found(case: str, tmp_path: Path, polisher: Any, key: Path, loadlock_command: Run) -> None:
    site = polisher(tmp_path)
    lake = tmp_path / "fab.lake"
    with loadlock.open(lake) as opened:
        for i in (1, 2, 3):
            opened.ingest(site.wafers(f"{i}.csv", [i]), config=site.config)
    head = tmp_path / "head.json"
    assert loadlock_command("audit", "checkpoint", "--key", key, "--output", head, "--lake", lake).code == 0
    answer = loadlock_command("audit", "verify", "--checkpoint", head, "--lake", lake, "--json")
    assert (answer.code, answer.json["faults"]) == (0, [])
    statement, words = HANDS[case]
    database = sqlite3.connect(lake / "catalog.sqlite")
    with database:
        database.execute(statement.format(t=ledger_table(database)))
    database.close()
    answer = loadlock_command("audit", "verify", "--checkpoint", head, "--lake", lake, "--json")
    assert answer.code == 6
    assert any(words in fault for fault in answer.json["faults"]), answer.json["faults"]
