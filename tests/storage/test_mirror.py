"""The mirror holds what no data file holds: the catalog is rebuilt from both, and every way in which they can differ is found."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import loadlock
from storage import mirror
from storage.errors import IntegrityError
from storage.index import IndexDelta
from storage.mirrorbase import state_of
from storage.rebuild import compare
from storage.schema import COLUMNS
from storage.store import Change

Run = Callable[..., Any]

TABLES = {table: f"SELECT * FROM lake.main.{table}" for table in COLUMNS}


@pytest.fixture
def site(tmp_path: Path, polisher: Any) -> Any:
    """A lake of several commits: duplicates, conflicts, quarantine, a gap, and rows in files and in the catalog."""
    site = polisher(tmp_path)
    site.lake = tmp_path / "fab.lake"
    rows = site.rows(range(2))
    deliveries = [rows, [*rows[:1], *site.rows([0], offset=0.25)[1:2], "P1,A,soon,W9,ramp,1,1"], site.rows([5], tool="P2")]
    site.files = [site.file(f"{i}.csv", delivered) for i, delivered in enumerate(deliveries)]
    with loadlock.open(site.lake) as lake:
        for file in site.files:
            lake.ingest(file, config=site.config)
    return site


def lose_catalog(path: Path) -> None:
    for pattern in ("catalog.sqlite*", "index.sqlite*"):
        for file in path.glob(pattern):
            file.unlink()


def all_rows(lake: Any, but_ledger: bool = False) -> dict[str, list[tuple[Any, ...]]]:
    return {table: sorted(lake.store.rows(query), key=repr) for table, query in TABLES.items() if not (but_ledger and table == "ledger")}


@pytest.mark.parametrize("front_matter", [False, True], ids=["the catalog", "and lake.json and attach.sql"])
def test_a_lost_catalog_is_rebuilt(front_matter: bool, site: Any, loadlock_command: Run, assert_conserved: Run) -> None:
    with loadlock.open(site.lake) as lake:
        before, digest = all_rows(lake), lake.digest()
    lose_catalog(site.lake)
    if front_matter:
        for name in ("lake.json", "attach.sql"):
            (site.lake / name).unlink()
    else:
        for arguments in (("status",), ("ingest", site.files[0])):
            refused = loadlock_command(*arguments, "--lake", site.lake)
            assert (refused.code, "restore --from-mirror" in refused.err) == (6, True)
        assert not (site.lake / "catalog.sqlite").exists()
    answer = loadlock_command("restore", "--from-mirror", "--lake", site.lake, "--json")
    assert (answer.code, answer.json["faults"], answer.json["source"]) == (0, [], "mirror")
    assert loadlock_command("audit", "verify", "--lake", site.lake).code == 0
    with loadlock.open(site.lake) as lake:
        after = all_rows(lake)
        assert after.pop("ledger")[:-1] == before.pop("ledger")
        assert after == before
        assert lake.digest() == digest
        again = assert_conserved(lake.ingest_all(site.files), lake)
        assert again["payloads"]["replayed"] == 3
        assert_conserved(lake.ingest(site.file("more.csv", site.rows([0, 7, 8]))), lake)
        assert (again["records"]["accepted"], lake.digest() == digest) == (0, False)
    refused = loadlock_command("restore", "--from-mirror", "--lake", site.lake)
    assert (refused.code, "the catalog is there" in refused.err) == (2, True)


def test_removed_and_deleted_rows_stay_away(site: Any, loadlock_command: Run) -> None:
    with loadlock.open(site.lake) as lake:
        store = lake.store
        path = next((site.lake / "data/main/conflicts").glob("*.parquet"))
        body: dict[str, Any] = {"removed": [path.relative_to(site.lake).as_posix()]}
        with store.locked(10):
            store.commit(lambda _seq: Change("test", "tests", "", body, IndexDelta(0, ""), removed={"conflicts": [path]}))
            assert store.rows("FROM conflicts") == []
            assert compare(store) == []
            assert path.name not in str(
                store.rows("SELECT path FROM __ducklake_metadata_lake.ducklake_data_file WHERE end_snapshot IS NULL")
            )
            kept = len(mirror.read(site.lake / "mirror")[0])
            store.commit(lambda _seq: Change("test", "tests", "", {}, IndexDelta(0, ""), deleted={"traces": "seq % 3 = 0"}))
            store.commit(lambda _seq: Change("test", "tests", "", {}, IndexDelta(0, ""), deleted={"streams_log": "tool = 'P2'"}))
        assert kept > 3, "the removal of whole files needs no new base"
        before = all_rows(lake, but_ledger=True)
        assert len(before["traces"]) > 0
        assert compare(store) == []
    lose_catalog(site.lake)
    loadlock_command("restore", "--from-mirror", "--lake", site.lake)
    with loadlock.open(site.lake) as lake:
        assert all_rows(lake, but_ledger=True) == before
        assert compare(lake.store) == []


def test_what_others_do_to_the_catalog_is_mirrored_at_the_next_lock(site: Any) -> None:
    """A deletion past the ledger (maintenance by DuckLake's own means) is no commit of ours, and yet the mirror follows."""
    with loadlock.open(site.lake) as lake:
        lake.store.connection.execute("DELETE FROM lake.main.circuits_log WHERE tool = 'P2'")
        assert any("circuits_log" in fault for fault in compare(lake.store))
    with loadlock.open(site.lake) as lake:
        with lake.store.locked(10):
            pass
        assert compare(lake.store) == []


@pytest.mark.parametrize("lost", ["all of it", "its newest segment", "its first bytes"])
def test_a_lost_mirror_is_written_anew(lost: str, site: Any) -> None:
    found = mirror.segments(site.lake / "mirror")
    if lost == "all of it":
        shutil.rmtree(site.lake / "mirror")
    elif lost == "its newest segment":
        found[-1].unlink()
    else:
        found[0].write_bytes(b"x" * 8 + found[0].read_bytes()[8:])
    with loadlock.open(site.lake) as lake:
        assert lake.verify().faults != []
        lake.ingest(site.wafers("more.csv", [11]))
        assert lake.verify().faults == []


def test_a_long_log_is_cut_into_segments_and_begins_anew(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "SEGMENT_BYTES", 4_000)
    with loadlock.open(site.lake) as lake:
        for i in range(4):
            lake.ingest(site.wafers(f"more{i}.csv", [20 + i]))
        assert len(mirror.segments(site.lake / "mirror")) > 2
        assert compare(lake.store) == []
    monkeypatch.setattr(mirror, "BASE_AGAIN_BYTES", 1)
    with loadlock.open(site.lake) as lake:
        for i in range(12):
            lake.ingest(site.wafers(f"again{i}.csv", [40 + i]))
        records = mirror.read(site.lake / "mirror")[0]
        assert records[0].seq > 8
        assert compare(lake.store) == []


def test_any_flipped_bit_is_found(site: Any) -> None:
    import random

    dice = random.Random(5)
    path = mirror.segments(site.lake / "mirror")[-1]
    sound = path.read_bytes()
    with loadlock.open(site.lake, read_only=True) as lake:
        for _ in range(60):
            data = bytearray(sound)
            at = dice.randrange(len(data))
            data[at] ^= 1 << dice.randrange(8)
            path.write_bytes(data)
            assert compare(lake.store) != [], at


def catalog_table(database: sqlite3.Connection, table: str) -> str:
    (name,) = database.execute(
        "SELECT i.table_name FROM ducklake_inlined_data_tables i JOIN ducklake_table t USING (table_id) WHERE t.table_name = ?", [table]
    ).fetchone()
    return str(name)


@pytest.mark.parametrize(
    ("table", "statement"),
    [
        ("payloads", "UPDATE {t} SET source = 'elsewhere'"),
        ("windows_log", "DELETE FROM {t} WHERE tool = 'P2'"),
        ("streams_log", "UPDATE {t} SET seq_hi = seq_hi + 1 WHERE tool = 'P2'"),
        ("ledger", "UPDATE {t} SET actor = 'mallory' WHERE seq = 3"),
    ],
)
def test_a_row_edited_in_the_catalog_is_found(table: str, statement: str, site: Any, loadlock_command: Run) -> None:
    database = sqlite3.connect(site.lake / "catalog.sqlite")
    with database:
        database.execute(statement.format(t=catalog_table(database, table)))
    database.close()
    answer = loadlock_command("audit", "verify", "--lake", site.lake, "--json")
    assert answer.code == 6
    found = [fault for fault in answer.json["faults"] if fault.startswith(f"{table}: ") and "are not in the" in fault]
    assert found
    assert table != "ledger" or "the first is entry 3" in found[0]


@pytest.mark.parametrize("behind", [1, 2])
def test_an_old_catalog_in_place_of_the_right_one_is_refused(behind: int, site: Any, tmp_path: Path) -> None:
    """Also where one commit only is missing: the index has seen it."""
    shutil.copy(site.lake / "catalog.sqlite", tmp_path / "old.sqlite")
    with loadlock.open(site.lake) as lake:
        for i in range(behind):
            lake.ingest(site.wafers(f"more{i}.csv", [30 + i]))
    shutil.copy(tmp_path / "old.sqlite", site.lake / "catalog.sqlite")
    with loadlock.open(site.lake) as lake, pytest.raises(IntegrityError, match="missing from the catalog"):
        lake.ingest(site.wafers("next.csv", [40]))
    lose_catalog(site.lake)


def test_missing_data_files_are_named_and_the_rest_is_rebuilt(site: Any, loadlock_command: Run) -> None:
    lose_catalog(site.lake)
    gone = min((site.lake / "data/main/traces").glob("*.parquet"), key=lambda file: file.stat().st_mtime_ns)
    gone.unlink()
    answer = loadlock_command("restore", "--from-mirror", "--lake", site.lake, "--json")
    assert answer.code == 6
    assert any(gone.name in fault and "left out" in fault for fault in answer.json["faults"])
    with loadlock.open(site.lake, read_only=True) as lake:
        assert len(lake.sql("FROM traces").fetchall()) > 0
        assert len(lake.sql("FROM payloads").fetchall()) == 3


def test_restore_needs_a_mirror(tmp_path: Path, loadlock_command: Run) -> None:
    answer = loadlock_command("restore", "--from-mirror", "--lake", tmp_path / "none.lake")
    assert (answer.code, "no mirror" in answer.err) == (6, True)


def test_records_tell_the_state_at_every_entry(site: Any) -> None:
    records, faults = mirror.read(site.lake / "mirror")
    assert faults == []
    assert state_of(records).seq == records[-1].seq == 5
    assert [record.seq for record in records if record.kind == mirror.COMMIT] == [2, 3, 4, 5]
