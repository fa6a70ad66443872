"""Compaction changes no answer: now, at older snapshots, after a rebuild, and beside other writers."""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import loadlock
from ingest.config import parse
from ingest.group import Group
from sample_data import secs_encoder as secs
from storage import compaction, logmerge
from storage.errors import IntegrityError
from storage.files import Stager
from storage.index import IndexDelta
from storage.schema import COLUMNS, rows_table
from storage.store import Change
from storage.tracemerge import NotMergeable, gather
from tests.storage.maintained import content, named, on_disk, sound, trace_rows

Run = Callable[..., Any]
VIEWS = ("traces", "samples", "texts", "conflicts", "events", "windows", "features", "gaps", "quarantine", "payloads", "sensors")
INLINED = "SELECT table_name FROM __ducklake_metadata_lake.ducklake_inlined_data_tables"


# --- compact


def test_compact_changes_no_answer(site: Any, loadlock_command: Run, assert_conserved: Run) -> None:
    with loadlock.open(site.lake) as lake:
        before, digest, snapshot = content(lake), lake.digest(), lake.store.snapshot()
        assert lake.store.rows("SELECT count(*) FROM lake.main.superseded")[0][0] > 0
        done = lake.compact(everything=True)
        assert {item["table"] for item in done} >= {"traces", "windows_log", "features_log", "superseded", "ledger", "payloads"}
        assert (content(lake), lake.digest()) == (before, digest)
        sound(lake)
        assert lake.store.rows("SELECT tool, count(DISTINCT filename) FROM lake.main.traces GROUP BY 1 ORDER BY 1") == [
            ("P1", 1),
            ("P2", 1),
        ]
        actions = lake.store.rows("SELECT action, count(*) FROM ledger WHERE action = 'compact' GROUP BY 1")
        assert actions == [("compact", len({item["ledger_seq"] for item in done}))]
        assert_conserved(lake.ingest_all(site.drop), lake)  # everything is a replay
        assert lake.digest() == digest
        lake.ingest(site.wafers("more.csv", [7]))
    with loadlock.open(site.lake, read_only=True) as old:
        old.as_of(snapshot)
        assert (content(old), old.digest()) == (before, digest)
    for pattern in ("catalog.sqlite*", "index.sqlite*"):
        for file in site.lake.glob(pattern):
            file.unlink()
    (site.lake / "lake.json").unlink()
    assert loadlock_command("restore", "--from-mirror", "--lake", site.lake).code == 0
    with loadlock.open(site.lake) as lake:
        assert_conserved(lake.ingest_all(site.drop), lake)
        lake.store.rows("SELECT 1")


def test_superseded_revisions_are_dropped_and_none_that_count(site: Any) -> None:
    with loadlock.open(site.lake) as lake:
        rows = {table: lake.store.rows(f"SELECT count(*) FROM lake.main.{table}")[0][0] for table in COLUMNS}
        shown = {view: lake.store.rows(f"SELECT count(*) FROM {view}")[0][0] for view in ("windows", "features", "gaps")}
        lake.compact(everything=True)
        left = {table: lake.store.rows(f"SELECT count(*) FROM lake.main.{table}")[0][0] for table in COLUMNS}
        assert rows["features_log"] > shown["features"]
        assert {name: left[f"{name}_log"] for name in shown} == shown
        assert left["superseded"] == 0
        assert lake.store.rows("SELECT count(*) FROM lake.main.streams_log WHERE op < 0") == [(0,)]
        kept = set(COLUMNS) - {"windows_log", "features_log", "gaps_log", "superseded", "streams_log", "ledger"}
        assert {table: left[table] for table in kept} == {table: rows[table] for table in kept}


def test_a_revision_in_a_file_that_is_not_merged_stays_superseded(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with loadlock.open(site.lake) as lake:
        lake.compact(everything=True)
        lake.ingest(site.file("again.csv", site.rows([0], offset=7.0)[5:6]), config=site.config)  # a conflict: no window changes
        lake.ingest(site.file("longer.csv", [site.rows([9])[3]]))
        before, digest = content(lake), lake.digest()
        assert lake.store.rows("SELECT count(*) FROM lake.main.superseded")[0][0] > 0
        with monkeypatch.context() as patch:
            patch.setattr(logmerge, "MERGED_ROWS", 20)
            lake.compact(everything=True)
        assert (content(lake), lake.digest()) == (before, digest)
        assert lake.store.rows("SELECT count(*) FROM lake.main.superseded")[0][0] > 0
        lake.compact(everything=True)
        assert (content(lake), lake.digest()) == (before, digest)
        idle = (
            "FROM lake.main.superseded s ANTI JOIN (SELECT window_id, revision FROM lake.main.windows_log UNION ALL "
            "SELECT window_id, revision FROM lake.main.features_log) v ON s.window_id = v.window_id AND s.revision = v.revision "
            "WHERE s.subject = 'window'"
        )
        assert lake.store.rows(idle) == []
        sound(lake)


def index_of(lake: Any) -> list[Any]:
    index = lake.store.index
    streams = sorted(index.streams())
    places = sorted({(tool, chamber) for tool, chamber, *_ in streams})
    contexts = [(None, f"W{wafer}", None, step) for wafer in range(10) for step in ("ramp", "main")]
    windows = [index.windows_of_contexts([(*place, context)]) for place in places for context in contexts]
    assert any(windows)
    return [streams, [index.runs(*stream[:4]) for stream in streams], windows]


@pytest.mark.parametrize("lost", ["all of it", "what came after a copy"])
def test_an_index_that_missed_a_compaction_is_built_anew(lost: str, site: Any, tmp_path: Path) -> None:
    with loadlock.open(site.lake) as lake:
        lake.store.ensure_index(5)
    for file in site.lake.glob("index.sqlite*"):
        shutil.copy(file, tmp_path / file.name)
    with loadlock.open(site.lake) as lake:
        for i, wafer in enumerate((9, 12)):
            lake.ingest(site.file(f"late{i}.csv", site.rows([wafer])[3:9]))
        lake.compact(everything=True)
        whole = index_of(lake)
    for file in site.lake.glob("index.sqlite*"):
        file.unlink()
    if lost != "all of it":
        for file in tmp_path.glob("index.sqlite*"):
            shutil.copy(file, site.lake / file.name)
    with loadlock.open(site.lake) as lake:
        lake.store.ensure_index(5)
        assert index_of(lake) == whole


def test_rows_that_arrive_during_a_merge_stay(site: Any, monkeypatch: pytest.MonkeyPatch, loadlock_process: Run) -> None:
    """Another process ingests after the files were written and before the lock is taken."""
    arrived = site.wafers("between.csv", [20])
    with loadlock.open(site.lake) as lake, loadlock.open(site.lake.with_name("twin.lake")) as twin:
        for path in [*(site.drop / f"{i}.csv" for i in range(20) if (site.drop / f"{i}.csv").exists()), arrived]:
            twin.ingest(path, config=site.config)
        locked, runs = lake.store.locked, []

        def between(wait_s: float) -> Any:
            if not runs:
                runs.append(loadlock_process("ingest", arrived, "--lake", site.lake).code)
            return locked(wait_s)

        for work in (compaction.compact_days, logmerge.compact_logs):
            with monkeypatch.context() as patch:
                patch.setattr(type(lake.store), "locked", lambda _self, wait_s: between(wait_s))
                assert work(lake._upkeep(), everything=True)
            runs[:] = runs[:1]
        assert runs == [0]
        assert lake.digest() == twin.digest()
        sound(lake)
        assert on_disk(site.lake) >= named(lake)


def test_a_merge_whose_input_was_replaced_meanwhile_is_discarded(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with loadlock.open(site.lake) as lake, loadlock.open(site.lake) as other:
        digest = lake.digest()
        upkeep = lake._upkeep()
        proven, done = compaction.prove_same, []

        def first_another(*arguments: Any) -> None:
            proven(*arguments)
            if not done:
                done.append(True)
                done[:] = other.compact(everything=True)

        monkeypatch.setattr(compaction, "prove_same", first_another)
        assert compaction.compact_days(upkeep, everything=True) == []
        assert lake.digest() == digest
        assert on_disk(site.lake) == {Path(item).name for item in catalog_paths(lake)}
        sound(lake)


def catalog_paths(lake: Any) -> list[str]:
    return [row[0] for row in lake.store.rows("SELECT path FROM __ducklake_metadata_lake.ducklake_data_file")]


ETCHER = parse(
    """
[models.etcher.traces.7]
chamber = "A"
period = 1.0
sensors = ["power"]
[models.etcher.events.2]
values = ["ts", "chamber", "wafer", "step"]
window = "start"
[tools.T]
model = "etcher"
"""
)


def moment(second: int) -> str:
    return f"2026031708{second // 60:02d}{second % 60:02d}00"


def etched(seconds: range) -> bytes:
    return b"".join(secs.s6f1(secs.item("U1", 7), secs.item("U4", s + 1), moment(s), [secs.item("F8", s)]) for s in seconds)


def started(second: int, wafer: str) -> bytes:
    return secs.s6f11(2, [(1, [secs.text(value) for value in (moment(second), "A", wafer, "main")])])


def test_a_late_event_meets_files_that_were_merged_while_it_was_decoded(lake: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch has rewritten a file, for rows that move to another window, which a compaction then replaces."""
    deliveries = [started(0, "W1") + etched(range(10)), etched(range(10, 20)), started(5, "W2")]
    merged, plain = lake("merged.lake"), lake("plain.lake")
    other = lake("merged.lake")
    settle, done = Group.settle, []

    def after_a_compaction(group: Group) -> None:
        done.append(other.compact(everything=True))
        settle(group)

    for number, delivery in enumerate(deliveries):
        for each in (merged, plain):
            with monkeypatch.context() as patch:
                if each is merged and number == 2:
                    patch.setattr(Group, "settle", after_a_compaction)
                each.ingest(data=delivery, tool="T", format="hsms", config=ETCHER)
    assert {item["table"] for item in done[0]} >= {"traces"}
    assert merged.store.rows("SELECT wafer, count(*) FROM samples GROUP BY 1 ORDER BY 1") == [("W1", 5), ("W2", 15)]
    assert merged.digest() == plain.digest()
    sound(merged)


def test_a_commit_can_not_remove_a_file_twice(site: Any) -> None:
    with loadlock.open(site.lake) as lake:
        paths = [Path(row[0]) for row in lake.store.rows("SELECT DISTINCT filename FROM lake.main.traces")]
        lake.compact(everything=True)
        digest = lake.digest()
        with lake.store.locked(5), pytest.raises(IntegrityError, match="another commit removed"):
            lake.store.commit(lambda _seq: Change("test", "tests", "", {}, IndexDelta(0, ""), removed={"traces": paths[:1]}))
        assert lake.digest() == digest
        sound(lake)


def test_a_damaged_file_is_not_merged(site: Any) -> None:
    with loadlock.open(site.lake) as lake:
        path = Path(lake.store.rows("SELECT filename FROM lake.main.traces WHERE tool = 'P1' LIMIT 1")[0][0])
        data = bytearray(path.read_bytes())
        data[len(data) // 4] ^= 1
        path.write_bytes(data)
        before = named(lake)
        with pytest.raises(Exception, match=r"(?i)crc|checksum|corrupt|deserialize"):
            lake.compact(everything=True)
        assert named(lake) == before
        assert on_disk(site.lake) == before


# --- the order and form of merged traces


def stage(lake: Any, rows: list[tuple[Any, ...]], row_group_rows: int = 4) -> Path:
    stager = Stager(lake.store.data, iter(map(str, range(10**9))).__next__, level=1, row_group_rows=row_group_rows)
    stager._name = lambda: f"t{time.monotonic_ns()}"
    path = stager.write("traces", rows_table("traces", rows)).path
    stager.release()
    return path


@pytest.mark.parametrize("cut", [5, 64, 100_000])
@pytest.mark.parametrize("writer", ["pages", "pyarrow"])
def test_merged_traces_are_sorted_as_the_ingest_sorts_them(cut: int, writer: str, lake: Run) -> None:
    lake = lake()
    files = [stage(lake, trace_rows(seed)) for seed in range(5)]
    gathered = gather(files)
    stager = Stager(lake.store.data, lambda: "merged", level=1, row_group_rows=cut, writer=writer)
    optional, some = gathered.optional(), gathered.sample()
    staged = stager.write_traces(gathered.pieces(cut), optional, some)
    compaction.prove_same(lake.store, "traces", files, staged)
    merged = pq.ParquetFile(staged.path, page_checksum_verification=True).read().to_pylist()
    assert len(merged) == sum(pq.ParquetFile(file).metadata.num_rows for file in files)
    groups: list[tuple[Any, ...]] = []
    for row in merged:
        key = (row["chamber"] or "", row["trace"])
        if not groups or groups[-1] != key:
            groups.append(key)
    assert groups == sorted(set(groups))
    if cut == 100_000:  # one piece a layout: within it sensor by sensor, each stream by stream as they begin, those in order of time
        begin: dict[tuple[Any, ...], Any] = {}
        for row in sorted(merged, key=lambda row: row["ts"]):
            begin.setdefault((row["chamber"], row["trace"], row["stream"]), row["ts"])
        steps = [
            (
                *(row["chamber"] or "", row["trace"], row["sensor"], row["position"]),
                *(begin[row["chamber"], row["trace"], row["stream"]], row["stream"], row["ts"], row["seq"]),
            )
            for row in merged
        ]
        falls = sum(a > b for a, b in itertools.pairwise(steps))
        assert falls <= 2 * len(groups)  # three layouts, two borders
    stager.discard()


def test_a_merge_notices_other_rows(lake: Run) -> None:
    lake = lake()
    first, second = stage(lake, trace_rows(1)), stage(lake, trace_rows(2))
    stager = Stager(lake.store.data, lambda: "merged", level=1, row_group_rows=1000)
    staged = stager.write("traces", rows_table("traces", trace_rows(1)))
    compaction.prove_same(lake.store, "traces", [first], staged)
    with pytest.raises(IntegrityError, match="other rows"):
        compaction.prove_same(lake.store, "traces", [second], staged)
    stager.discard()


@pytest.mark.parametrize(
    "change", [{0: "U"}, {9: 99}, {11: 99}, {7: 1}], ids=["two tools", "two windows", "two places in the payload", "one position twice"]
)
def test_what_the_ingest_does_not_write_is_not_merged(change: dict[int, Any], lake: Run) -> None:
    row = ("T", "A", "7", "x", 1, 0, "s", 1, 1.0, 7, "p", 0)
    other = tuple(change.get(i, value) for i, value in enumerate((*row[:6], "t", 2, *row[8:])))
    files = [stage(lake(), [row, other], row_group_rows=1)]
    with pytest.raises(NotMergeable):
        list(gather(files).pieces(10))
