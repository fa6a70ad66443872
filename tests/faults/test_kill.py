"""A process is killed at some moment inside COMMIT, then the same command runs again; and the index is lost.

Kills at every other step are the business of ``test_points``.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import loadlock
from storage.index import Index
from tests.faults.nursery import Nursery

CAPTURE = Path(__file__).resolve().parents[2] / "sample_data" / "deliveries" / "ETCH02" / "0001.hsms"
RUN = Callable[..., Any]

FINGERPRINT = {
    "traces": "select tool, chamber, trace, stream, seq, ts, position, value, byte_start from traces",
    "events": "select tool, chamber, event, ts, vars, byte_start from events",
    "payloads": "select key, sha256, bytes_in, bytes_accepted, bytes_other, records_decoded, records_accepted from payloads",
    "quarantine": "select start, stop, reason, state from quarantine",
    "windows": "select tool, chamber, wafer, step, occurrence, started_at, ended_at, complete from windows",
    "features": "select tool, trace, wafer, step, occurrence, sensor, n, mean, area from features",
    "gaps": "select * from gaps",
    "actions": "select action from ledger",
}


def content(lake: Any) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of the lake, without the names that we gave."""
    return {name: sorted(lake.sql(query).fetchall(), key=repr) for name, query in FINGERPRINT.items()}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, polisher: RUN) -> Any:
    """A delivery of two tables and a capture."""
    site = polisher(tmp_path_factory.mktemp("site"))
    site.wafers("1.csv", range(3))
    site.file("2.csv", [*site.rows([2]), *site.rows([4], chamber="B"), "P1,A,soon,W9,ramp,1,1"])
    capture = site.folder / "ETCH02" / "0001.hsms"
    capture.parent.mkdir()
    shutil.copy(CAPTURE, capture)
    site.sources = [site.drop, capture]
    return site


@pytest.fixture(scope="module")
def undisturbed(site: Any, tmp_path_factory: pytest.TempPathFactory, assert_conserved: RUN) -> dict[str, Any]:
    """What comes of a run without faults: its rows and its digest."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with loadlock.open(folder / "fab.lake") as lake:
        assert_conserved(lake.ingest(site.sources, config=site.config), lake)
        found = {"content": content(lake), "digest": lake.digest()}
    assert len(found["content"]["traces"]) > 200
    assert len(found["content"]["payloads"]) == 3
    assert len(found["content"]["events"]) > 0
    shutil.rmtree(folder)
    return found


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake that holds nothing, to be copied."""
    folder = tmp_path_factory.mktemp("empty") / "fab.lake"
    loadlock.open(folder).close()
    return folder


def run_again(path: Path, site: Any, undisturbed: dict[str, Any], assert_conserved: RUN) -> str:
    """Ingest the same delivery once more and check that all of it is there once; return the receipts' state."""
    with loadlock.open(path) as lake:
        document = assert_conserved(lake.ingest_all(site.sources, config=site.config), lake)
        assert content(lake) == undisturbed["content"]
        assert lake.digest() == undisturbed["digest"]
        again = assert_conserved(lake.ingest_all(site.sources), lake)
        assert again["payloads"]["replayed"] == again["payloads"]["seen"] == 3
        assert content(lake) == undisturbed["content"]
        with_ids = lake.sql("select count(*), count(distinct window_id) from windows").fetchall()[0]
        assert with_ids[0] == with_ids[1]
    states = {receipt["state"] for receipt in document["receipts"]}
    assert len(states) == 1
    return str(states.pop())


@pytest.mark.parametrize("delay_us", [0, 4_000, 12_000, 30_000])
def test_killed_inside_commit(
    delay_us: int, site: Any, empty: Path, nursery: Nursery, undisturbed: dict[str, Any], tmp_path: Path, assert_conserved: RUN
) -> None:
    lake = tmp_path / "fab.lake"
    shutil.copytree(empty, lake)
    sources = [str(path) for path in site.sources]
    nursery.run("ingest_and_die", lake=str(lake), config=str(site.config), sources=sources, delay_us=delay_us)
    with loadlock.open(lake, read_only=True) as reader:
        before = content(reader)
        assert reader.verify().faults == []
    state = run_again(lake, site, undisturbed, assert_conserved)
    assert before["payloads"] == (undisturbed["content"]["payloads"] if state == "replayed" else [])


# --- the index is derived


@pytest.fixture
def three_states(polisher: RUN, tmp_path: Path, assert_conserved: RUN) -> Any:
    """A lake with three commits, and its index as it was after the first."""
    site = polisher(tmp_path)
    site.lake = tmp_path / "fab.lake"
    site.old = tmp_path / "old.sqlite"
    rows = site.rows(range(4))
    with loadlock.open(site.lake) as lake:
        assert_conserved(lake.ingest(site.file("1.csv", rows[:25]), config=site.config), lake)
    shutil.copy(site.lake / "index.sqlite", site.old)
    with loadlock.open(site.lake) as lake:
        assert_conserved(lake.ingest(site.file("2.csv", rows[20:55])), lake)
        assert_conserved(lake.ingest(site.file("3.csv", [*rows[65:], site.rows([0], offset=1.0)[3]])), lake)
        site.ids = {row[0] for row in lake.sql("select window_id from lake.main.windows_log").fetchall()}
        site.digest = lake.digest()
    return site


def index_rows(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """What an index holds of the lake (counters and generation aside)."""
    index = Index(path)
    streams = {row[:4]: index.runs(*row[:4]) for row in index.streams()}
    windows = [index.window(i) for i in range(1, 200)]
    index.close()
    return {"streams": sorted(streams.items()), "windows": [(w,) for w in windows if w]}


@pytest.mark.parametrize("damage", ["deleted", "stale", "of another lake"])
def test_an_index_that_was_lost_is_rolled_forward(damage: str, three_states: Any, tmp_path: Path, assert_conserved: RUN) -> None:
    site = three_states
    index = site.lake / "index.sqlite"
    wanted = index_rows(index)
    for path in site.lake.glob("index.sqlite*"):
        path.unlink()
    if damage == "stale":
        shutil.copy(site.old, index)
    elif damage == "of another lake":
        with loadlock.open(tmp_path / "other.lake") as other:
            other.ingest(site.wafers("other.csv", range(20, 40)), config=site.config)
            for i in range(4):
                other.ingest(site.wafers(f"other{i}.csv", [50 + i]))
        shutil.copy(tmp_path / "other.lake" / "index.sqlite", index)
    with loadlock.open(site.lake) as lake:
        again = assert_conserved(lake.ingest_all([site.drop / f"{i}.csv" for i in (1, 2, 3)]), lake)
        assert again["payloads"]["replayed"] == 3
        assert lake.digest() == site.digest
        assert index_rows(index) == wanted
        rows = site.rows(range(4))
        late = assert_conserved(lake.ingest(site.file("4.csv", rows)), lake)
        assert late["records"] == {"decoded": 80, "accepted": 10, "duplicate": 70, "conflict": 0}
        new = assert_conserved(lake.ingest(site.wafers("5.csv", [7])), lake)
        assert new["windows"] == 2
        ids = {row[0] for row in lake.sql("select window_id from windows where wafer = 'W7'").fetchall()}
        assert len(ids) == 2
        assert min(ids) > max(site.ids)
        conflict = assert_conserved(lake.ingest(site.file("6.csv", [site.rows([0], offset=1.0)[3]])), lake)
        assert conflict["records"]["duplicate"] == 1
