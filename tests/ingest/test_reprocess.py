"""Payloads decoded anew: what comes out is what a first ingest with today's configuration would have given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import loadlock
from ingest.errors import UsageError
from tests.ingest.test_retract import CONFIG, PIECES, samples, step, table


@pytest.fixture
def site(tmp_path: Path) -> Any:
    """Deliveries of one tool and one table, and a configuration that was wrong."""
    (tmp_path / "E1").mkdir()
    (tmp_path / "cmp").mkdir()
    files = [tmp_path / "E1" / "1.hsms", tmp_path / "E1" / "2.hsms", tmp_path / "cmp" / "3.csv"]
    files[0].write_bytes(step(1, 5, "a") + samples(range(1, 30)) + step(2, 30, "a"))
    files[1].write_bytes(samples(range(20, 40)))
    files[2].write_bytes(table(("A", t, f"W{t // 10}", t / 8, "") for t in range(40)))
    right, wrong = tmp_path / "right.toml", tmp_path / "wrong.toml"
    right.write_text(CONFIG)
    wrong.write_text(
        CONFIG.replace('window = "start"', "").replace("period = 0.1", "period = 0.1\ngroup = 2").replace('unit = "s"', 'unit = "ms"')
    )
    return tmp_path, files, right, wrong


def fill(lake: Any, site: Any, config: Path) -> list[str]:
    return [lake.ingest(file, config=config).receipts[0].payload_id for file in site[1]]


def test_a_wrong_configuration_is_undone(site: Any) -> None:
    folder, files, right, wrong = site
    with loadlock.open(folder / "a.lake") as lake, loadlock.open(folder / "b.lake") as other:
        ids = fill(lake, site, wrong)
        fill(other, site, right)
        assert lake.digest() != other.digest()
        done = lake.reprocess(ids, config=right)
        assert [item["supersedes"] for item in done["payloads"]] == ids
        assert lake.digest() == other.digest()
        assert lake.verify(every_feature=True).faults == []
        assert lake.ingest(files).payloads["replayed"] == 3
        states = lake.sql("select state, count(*), count(distinct key) from payloads group by all order by all").fetchall()
        assert states == [("committed", 3, 3), ("superseded", 3, 3)]


def test_with_the_same_configuration_nothing_changes_but_the_generation(site: Any) -> None:
    folder, _, right, _ = site
    with loadlock.open(folder / "a.lake") as lake:
        ids = fill(lake, site, right)
        before = lake.digest()
        done = lake.reprocess(ids)
        assert lake.digest() == before
        assert {row[0] for row in lake.sql("select distinct payload_id from traces").fetchall()} <= {
            p["payload_id"] for p in done["payloads"]
        }
        action, body = lake.sql("select action, body from ledger order by seq desc limit 1").fetchall()[0]
        assert action == "reprocess"
        assert all(name in body for name in ids)
        assert lake.verify(every_feature=True).faults == []


def test_what_a_retraction_took_with_it_comes_back(site: Any) -> None:
    """The second delivery repeats records of the first: they were stored once, and went with it."""
    folder, files, right, _ = site
    with loadlock.open(folder / "a.lake") as lake, loadlock.open(folder / "b.lake") as other:
        ids = fill(lake, site, right)
        done = lake.retract(ids[0], "test")
        assert [item["payload_id"] for item in done["repeated_by"]] == [ids[1]]
        lake.reprocess(ids[1])
        for file in files[1:]:
            other.ingest(file, config=right)
        assert lake.digest() == other.digest()
        assert lake.verify(every_feature=True).faults == []


def test_bytes_come_from_the_lake_or_from_a_named_file_or_nothing_changes(site: Any, loadlock_command: Callable[..., Any]) -> None:
    folder, files, right, _ = site
    keeping = folder / "keeping.toml"
    keeping.write_text(right.read_text() + "\n[lake]\nkeep_payloads = true\n")
    with loadlock.open(folder / "a.lake") as lake:
        kept = lake.ingest(files[0], config=keeping).receipts[0].payload_id
        plain = lake.ingest(files[1], config=right).receipts[0].payload_id
        before, seq = lake.digest(), lake.store.head()[0]
        moved = files[1].rename(folder / "moved.bin")
        files[0].unlink()
        with pytest.raises(UsageError, match="not at hand"):
            lake.reprocess([kept, plain])
        assert lake.store.head()[0] == seq
        lake.reprocess(kept)
        assert loadlock_command("reprocess", plain, "--lake", lake.path).code == 2
        answer = loadlock_command("reprocess", plain, "--from", moved, "--lake", lake.path)
        assert answer.code == 0, answer.err
        assert f"supersedes {plain}" in answer.out
        assert lake.digest() == before
        assert lake.verify(every_feature=True).faults == []


def test_every_piece_decoded_anew_leaves_the_lake_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "fab.toml").write_text(CONFIG)
    with loadlock.open(tmp_path / "a.lake") as lake:
        ids = []
        for number, (place, data) in enumerate(PIECES.values()):
            (tmp_path / place).mkdir(exist_ok=True)
            file = tmp_path / place / f"{number}.{'csv' if place == 'cmp' else 'hsms'}"
            file.write_bytes(data)
            ids.append(lake.ingest(file, config=tmp_path / "fab.toml").receipts[0].payload_id)
        before = lake.digest()
        lake.reprocess(ids)
        assert lake.digest() == before
        assert lake.verify(every_feature=True).faults == []


def test_payloads_of_one_commit_are_decoded_in_their_order(tmp_path: Path) -> None:
    """Of five contents of the same records the first one was kept; it is kept again."""
    (tmp_path / "E1").mkdir()
    (tmp_path / "fab.toml").write_text(CONFIG)
    for number in range(5):
        (tmp_path / "E1" / f"{number}.hsms").write_bytes(samples(range(1, 10), level=number))
    kept = "select distinct source, value from traces join payloads using (payload_id) where seq = 9 order by all"
    with loadlock.open(tmp_path / "fab.lake") as lake:
        summary = lake.ingest(tmp_path / "E1", config=tmp_path / "fab.toml")
        assert len(summary.batches) == 1
        before = lake.sql(kept).fetchall()
        lake.reprocess([receipt.payload_id for receipt in summary.receipts][::-1])
        assert lake.sql(kept).fetchall() == before
        assert lake.verify(every_feature=True).faults == []
