"""``audit verify`` finds what is damaged, and names what the damage touches."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import loadlock
from storage.filecheck import FileCheck, Recorded
from storage.files import sha256_of

FLIPS = 20


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, polisher: Callable[..., Any], assert_conserved: Callable[..., Any]) -> Any:
    """A lake of two tools and three deliveries, the last with a torn row."""
    folder = tmp_path_factory.mktemp("verify")
    site = polisher(folder)
    site.lake = folder / "fab.lake"
    site.payloads = []
    files = [
        site.wafers("1.csv", [1, 2]),
        site.wafers("2.csv", [3], tool="P2"),
        site.file("3.csv", [*site.rows([4, 5, 6]), "P1,A,nonsense,W7,ramp,1,2"]),
    ]
    with loadlock.open(site.lake) as lake:
        for file in files:
            summary = lake.ingest(file, config=site.config)
            assert_conserved(summary, lake)
            site.payloads.append(summary.receipts[0].payload_id)
    return site


@pytest.fixture
def site(kept: Any, tmp_path: Path) -> Any:
    """A copy of the lake, to be damaged."""
    shutil.copytree(kept.lake, tmp_path / "fab.lake")
    return kept, tmp_path / "fab.lake"


def data_files(lake: Path) -> list[Path]:
    return sorted((lake / "data" / "main").rglob("*.parquet"))


def table_file(lake: Path, table: str, at: int = 0) -> Path:
    found = sorted((lake / "data" / "main" / table).glob("*.parquet"), key=lambda path: path.stat().st_mtime_ns)
    return found[at]


def test_a_sound_lake_holds(site: Any, loadlock_command: Callable[..., Any]) -> None:
    answer = loadlock_command("audit", "verify", "--all", "--lake", site[1], "--json")
    assert answer.code == 0
    document = answer.json
    assert document["faults"] == document["damaged"] == document["orphans"] == []
    assert document["files"] == len(data_files(site[1])) >= 4
    assert document["bytes"] == sum(path.stat().st_size for path in data_files(site[1]))
    assert document["windows"] == 12


def test_one_bit_anywhere_in_a_file_is_found(site: Any) -> None:
    chance = random.Random(7)
    with loadlock.open(site[1], read_only=True) as lake:
        for _ in range(FLIPS):
            path = chance.choice(data_files(site[1]))
            data = path.read_bytes()
            at, bit = chance.randrange(len(data)), chance.randrange(8)
            path.write_bytes(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :])
            report = lake.verify()
            path.write_bytes(data)
            assert [damage.path for damage in report.damaged] == [path.relative_to(site[1]).as_posix()], (path.name, at, bit)
        assert lake.verify().faults == []


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("harm", ["missing", "truncated", "longer"])
def test_a_file_of_another_size_is_found_quickly_too(site: Any, harm: str, quick: bool, loadlock_command: Callable[..., Any]) -> None:
    path = table_file(site[1], "traces")
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-9] if harm == "truncated" else path.read_bytes() + b"x")
    answer = loadlock_command("audit", "verify", "--lake", site[1], "--json", *(["--quick"] if quick else []))
    assert answer.code == 6
    assert answer.json["damaged"][0]["path"] == path.relative_to(site[1]).as_posix()


def test_quick_reads_no_file(site: Any, loadlock_command: Callable[..., Any]) -> None:
    path = table_file(site[1], "traces")
    path.write_bytes(bytes(path.stat().st_size))
    assert loadlock_command("audit", "verify", "--quick", "--lake", site[1]).code == 0
    assert loadlock_command("audit", "verify", "--lake", site[1]).code == 6


def test_a_damaged_file_is_named_with_what_it_touches(site: Any, loadlock_command: Callable[..., Any]) -> None:
    kept, lake = site
    path = table_file(lake, "traces", at=1)
    path.write_bytes(bytes(path.stat().st_size))
    answer = loadlock_command("audit", "verify", "--lake", lake, "--json")
    [damage] = answer.json["damaged"]
    assert (damage["table"], damage["tools"], damage["wafers"]) == ("traces", ["P2"], ["W3"])
    assert damage["payloads"] == [kept.payloads[1]]
    assert damage["rows"] == 40
    text = loadlock_command("audit", "verify", "--lake", lake).out
    assert f"payloads: {kept.payloads[1]}" in text
    assert "wafers: W3" in text


def test_a_page_is_held_against_its_own_checksum(site: Any) -> None:
    """A file whose SHA-256 in the ledger is right but whose pages are not: what a fault of the writer would leave."""
    path = table_file(site[1], "traces")
    data = bytearray(path.read_bytes())
    chunk = pq.read_metadata(path).row_group(0).column(4)
    data[chunk.data_page_offset + chunk.total_compressed_size - 1] ^= 4  # the last byte of a body: a checksum does not cover headers
    path.write_bytes(data)
    size, rows = len(data), pq.read_metadata(path).num_rows
    entry = {"size": size, "sha256": sha256_of(path), "rows": rows}
    fault = FileCheck().fault(path, Recorded("x", "traces", entry, rows, size), quick=False)
    assert fault is not None
    assert "does not have its checksum" in fault or "no page begins" in fault


def catalog(lake: Path, statement: str) -> None:
    with sqlite3.connect(lake / "catalog.sqlite") as connection:
        assert connection.execute(statement).rowcount > 0
    connection.close()


RECORDS = {
    "a key range": (
        "UPDATE ducklake_file_column_stats SET max_value = '2026-03-01 00:00:01' WHERE max_value LIKE '2026-03-01 00:%' "
        "AND data_file_id = (SELECT min(data_file_id) FROM ducklake_data_file)",
        "in the catalog",
    ),
    "a count": (
        "UPDATE ducklake_data_file SET record_count = record_count + 1 WHERE data_file_id = 0 + (SELECT min(data_file_id) "
        "FROM ducklake_data_file)",
        "in the catalog",
    ),
    "a file twice": (
        "INSERT INTO ducklake_data_file SELECT data_file_id + 1000, table_id, begin_snapshot, end_snapshot, file_order, path, "
        "path_is_relative, file_format, record_count, file_size_bytes, footer_size, row_id_start, partition_id, encryption_key, mapping_id,"
        " partial_max FROM ducklake_data_file LIMIT 1",
        "names this file twice",
    ),
}


@pytest.mark.parametrize("case", RECORDS)
def test_what_the_catalog_says_of_a_file_is_proven(case: str, site: Any, loadlock_command: Callable[..., Any]) -> None:
    statement, words = RECORDS[case]
    catalog(site[1], statement)
    answer = loadlock_command("audit", "verify", "--lake", site[1], "--json")
    assert answer.code == 6
    assert any(words in fault and "parquet" in fault for fault in answer.json["faults"]), answer.json["faults"]


FEATURES = {
    "a statistic": ("update lake.main.features_log set mean = mean + 1 where position = 2", "other statistics"),
    "a context": ("update lake.main.features_log set wafer = 'W9' where position = 2", "another context"),
    "a row gone": ("delete from lake.main.features_log where position = 2", "has samples and no features"),
    "a row more": ("update lake.main.features_log set position = 3 where position = 2", "has features and no samples"),
    "a row twice": ("insert into lake.main.features_log from lake.main.features_log where position = 2", "is there twice"),
}


@pytest.mark.parametrize("case", FEATURES)
def test_features_are_what_their_samples_give(case: str, site: Any) -> None:
    statement, words = FEATURES[case]
    with loadlock.open(site[1]) as lake:
        lake.store.connection.execute(statement)
        for every in (False, True):
            faults = [fault for fault in lake.verify(every_feature=every).faults if fault.startswith("features of window")]
            assert len(faults) == 12
            assert all(words in fault for fault in faults), faults


def test_orphans_are_listed_and_no_fault(site: Any, loadlock_command: Callable[..., Any]) -> None:
    stray = site[1] / "data" / "main" / "traces" / "stray.parquet"
    stray.write_bytes(b"left by an interrupted run")
    answer = loadlock_command("audit", "verify", "--lake", site[1], "--json")
    assert answer.code == 0
    assert answer.json["orphans"] == ["data/main/traces/stray.parquet"]
    assert "orphan data/main/traces/stray.parquet" in loadlock_command("audit", "verify", "--lake", site[1]).out
