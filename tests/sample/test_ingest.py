"""The sample deliveries come out as the manifest says, which the generator worked out without loadlock."""

import json
import math
import random
import shutil
from datetime import datetime
from pathlib import Path

import pytest

import loadlock

SAMPLE = Path(__file__).parents[2] / "sample_data"
MANIFEST = json.loads((SAMPLE / "manifest.json").read_text(encoding="utf-8"))
CONFIG = SAMPLE / "loadlock.toml"


@pytest.fixture(scope="module")
def ingested(tmp_path_factory):
    """The sample in one lake, and the summary of its ingest."""
    lake = loadlock.open(tmp_path_factory.mktemp("sample") / "sample.lake")
    summary = lake.ingest(SAMPLE / "deliveries", config=CONFIG)
    yield lake, summary
    lake.close()


def test_the_account_is_the_manifests(ingested):
    _, summary = ingested
    total, document = MANIFEST["total"], summary.document()
    for group in ("bytes", "records", "frames"):
        assert document[group] == total[group]
    assert (summary.samples, summary.events) == (total["samples"], total["events"])
    assert summary.exit_code == 3


def test_each_payloads_account_is_the_manifests(ingested):
    lake, _ = ingested
    for payload in MANIFEST["payloads"]:
        figures = lake.sql(
            "select bytes_in, bytes_accepted, bytes_duplicate, bytes_conflict, bytes_quarantined, bytes_other, records_decoded, "
            "records_accepted, samples, events from payloads where source like ?",
            [f"%{payload['file']}"],
        ).fetchall()
        names = ("in", "accepted", "duplicate", "conflict", "quarantined", "other")
        expected = [payload["bytes"][name] for name in names] + [payload["records"][name] for name in ("decoded", "accepted")]
        assert figures == [(*expected, payload["samples"], payload["events"])], payload["file"]


def test_windows_and_gaps_are_the_manifests(ingested):
    lake, _ = ingested
    for view in ("windows", "gaps"):
        names = list(MANIFEST[view][0])
        rows = lake.sql(f"select {', '.join(names)} from {view}").fetchall()
        text = lambda v: v.isoformat(timespec="microseconds") if isinstance(v, datetime) else v  # noqa: E731
        found = sorted((tuple(text(value) for value in row) for row in rows), key=repr)
        assert found == sorted((tuple(row[name] for name in names) for row in MANIFEST[view]), key=repr)


def test_named_features_are_the_manifests(ingested):
    lake, _ = ingested
    where = ("tool", "chamber", "wafer", "step", "occurrence", "trace", "sensor")
    for row in MANIFEST["features"]:
        names = [name for name in row if name not in (*where, "position")]
        query = f"select {', '.join(names)} from features where " + " and ".join(f"{name} = ?" for name in where)
        found = lake.sql(query, [row[name] for name in where]).fetchall()
        assert len(found) == 1, row
        expected = [math.nan if row[name] is None else row[name] for name in names]
        assert [math.nan if value is None else value for value in found[0]] == pytest.approx(expected, rel=1e-9, abs=1e-9, nan_ok=True)
    assert lake.sql("select count(*) from features").fetchall() == [(MANIFEST["total"]["features"],)]


def test_quarantine_holds_the_damaged_spans_and_their_bytes(ingested):
    lake, _ = ingested
    for item in MANIFEST["quarantine"]:
        rows = lake.sql(
            "select q.reason, q.bytes from quarantine q join payloads p using (payload_id) "
            "where p.source like ? and start = ? and stop = ?",
            [f"%{item['file']}", item["start"], item["stop"]],
        ).fetchall()
        assert len(rows) == 1, item
        assert (rows[0][0] == "incomplete_tail") == (item["reason_class"] == "incomplete_tail")
        content = (SAMPLE / "deliveries" / item["file"]).read_bytes()
        assert bytes(rows[0][1]) == content[item["start"] : item["stop"]]


def test_a_second_ingest_replays_everything_and_commits_nothing(ingested):
    lake, first = ingested
    before = lake.store.head()
    summary = lake.ingest(SAMPLE / "deliveries", config=CONFIG)
    assert lake.store.head() == before
    assert summary.payloads["replayed"] == summary.payloads["seen"] == first.payloads["committed"]
    assert summary.exit_code == 0
    assert [r.ledger_seq for r in summary.receipts] == [r.ledger_seq for r in first.receipts]


def test_shuffled_and_repeated_deliveries_give_the_same_digest(ingested, tmp_path):
    lake, _ = ingested
    files = [path for path in (SAMPLE / "deliveries").rglob("*") if path.is_file()]
    chance = random.Random(5)
    chance.shuffle(files)
    with loadlock.open(tmp_path / "other.lake") as other:
        for file in [*files, *files[:3]]:
            other.ingest(file, config=CONFIG)
        configured = ("traces", "events", "windows", "features", "gaps")
        assert {part: other.digest()[part] for part in configured} == {part: lake.digest()[part] for part in configured}
        assert other.verify().faults == []


def test_small_row_groups_hold_the_same_rows(ingested, tmp_path):
    """Windows then span the stretches of records that are written together."""
    lake, _ = ingested
    config = tmp_path / "small.toml"
    config.write_text(CONFIG.read_text(encoding="utf-8") + "\n[lake]\nrow_group_rows = 100\n", encoding="utf-8")
    with loadlock.open(tmp_path / "small.lake") as small:
        small.ingest(SAMPLE / "deliveries", config=config)
        assert small.digest() == lake.digest()


def test_replay_joins_the_frame_that_two_payloads_cut(ingested, tmp_path):
    lake, _ = ingested
    path = tmp_path / "copy.lake"
    shutil.copytree(lake.path, path)
    with loadlock.open(path) as copy:
        summary = copy.replay()
        assert summary.payloads["committed"] == 1
        assert summary.records["accepted"] == 5
        joined = copy.sql("select count(*) from quarantine where state = 'replayed'").fetchall()
        assert joined == [(2,)]
        assert copy.verify().faults == []
        assert copy.replay().payloads["seen"] == 0
