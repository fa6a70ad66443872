"""Old snapshots and loose files go, none that somebody needs; and maintenance runs by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import loadlock
from loadlock.lake import Lake
from storage import expiry, maintenance, sweeping
from storage.points import watched
from storage.schema import rows_table
from tests.storage.maintained import age, content, later, named, on_disk, sound, trace_rows

Run = Callable[..., Any]
VIEWS = ("traces", "samples", "texts", "conflicts", "events", "windows", "features", "gaps", "quarantine", "payloads", "sensors")
INLINED = "SELECT table_name FROM __ducklake_metadata_lake.ducklake_inlined_data_tables"


# --- expire and sweep


def test_expire_forgets_old_snapshots_and_what_only_they_needed(site: Any) -> None:
    with loadlock.open(site.lake) as lake:
        first = lake.store.snapshot()
        lake.compact(everything=True)
        before, digest = content(lake), lake.digest()
        assert lake.expire() == []
        later(lake, days=31)
        gone = lake.expire()
        assert [item["snapshot"] for item in gone][: first + 1] == list(range(first + 1))
        assert [one.action for one in expiry.snapshots(lake.store)] == ["compact", "expire"]
        assert (content(lake), lake.digest()) == (before, digest)
        sound(lake)
        dead = [
            lake.store.rows(f"SELECT count(*) FROM __ducklake_metadata_lake.{name} WHERE end_snapshot IS NOT NULL")[0][0]
            for (name,) in lake.store.rows(INLINED)
        ]
        assert sum(dead) == 0
        assert on_disk(site.lake) > named(lake)
        later(lake, days=0)
        assert lake.sweep() == []  # released a moment ago
        later(lake, days=2)
        swept = lake.sweep()
        assert {item["why"] for item in swept} == {"released"}
        assert on_disk(site.lake) == named(lake)
        assert lake.digest() == digest
        sound(lake)
    with loadlock.open(site.lake, read_only=True) as old, pytest.raises(Exception, match="snapshot"):
        old.as_of(first)


def test_of_older_days_one_snapshot_is_kept(site: Any) -> None:
    with loadlock.open(site.lake) as lake:
        for day in range(1, 4):
            later(lake, days=day)
            lake.ingest(site.wafers(f"d{day}.csv", [20 + day]))
            lake.compact(everything=True)
            digest = lake.digest()
            lake.ingest(site.wafers(f"e{day}.csv", [30 + day]))
            if day == 1:
                then = digest
        later(lake, days=3, hours=1)
        lake.expire()
        days: dict[str, list[int]] = {}
        for one in expiry.snapshots(lake.store):
            days.setdefault(f"{one.time:%Y-%m-%d}", []).append(one.number)
        assert [len(days[day]) for day in sorted(days)][:2] == [1, 1]
        assert len(days[max(days)]) > 2
        wanted = days[sorted(days)[1]][0]
        later(lake, days=5)
        lake.sweep()
        sound(lake)
    with loadlock.open(site.lake, read_only=True) as old:
        old.as_of(wanted)
        assert old.digest() == then


def test_a_reader_keeps_its_snapshot(site: Any) -> None:
    """One whose transaction began before the compaction, and one that asked for an old snapshot which is kept."""
    with (
        loadlock.open(site.lake) as lake,
        loadlock.open(site.lake, read_only=True) as reader,
        loadlock.open(site.lake, read_only=True) as old,
    ):
        digest, snapshot = lake.digest(), lake.store.snapshot()
        old.as_of(snapshot)
        with reader.store.reading():
            assert reader.store.rows("SELECT count(*) FROM traces WHERE tool = 'P2'")[0][0] > 0
            lake.compact(everything=True)
            lake.ingest(site.wafers("new.csv", [40]))
            lake.compact(everything=True)
            later(lake, days=1)
            lake.expire()
            lake.sweep()
            assert old.digest() == digest
            assert reader.digest() == digest
        assert reader.digest() == lake.digest() != digest


def test_sweep_removes_orphans_but_none_that_a_running_batch_staged(site: Any) -> None:
    with loadlock.open(site.lake) as lake:
        stager = lake._upkeep().stager()
        old, young = site.lake / "data/main/traces/old.parquet", site.lake / "data/main/events/young.parquet"
        for path in (old, young):
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"left behind")
        age(old, 10)
        age(young, 0.5)
        staged = stager.write("traces", rows_table("traces", trace_rows(1)))
        assert stager._mark is not None
        age(stager._mark.path, 9)
        age(staged.path, 8)
        assert [Path(item["path"]).name for item in lake.sweep(dry_run=True)] == ["old.parquet"]
        assert old.exists()
        assert [Path(item["path"]).name for item in lake.sweep()] == ["old.parquet"]
        assert not old.exists()
        assert staged.path.exists()
        assert young.exists()
        stager._mark._file.close()  # the process died
        assert [Path(item["path"]).name for item in lake.sweep()] == [staged.path.name]
        assert list((site.lake / "staging").iterdir()) == []
        assert [row[0] for row in lake.store.rows("SELECT body ->> 'orphans' FROM ledger WHERE action = 'sweep'")] == ["1", "1"]
        sound(lake)


def test_what_a_bad_disk_does_not_let_go_of_is_swept_later(site: Any) -> None:
    """A batch that is given up lets go of its mark, whether or not its files could be removed: nobody commits them any more."""

    def bad_disk(name: str, _path: Path | None) -> None:
        if name == "file_forgotten":
            raise OSError(5, "Input/output error")

    with loadlock.open(site.lake) as lake:
        stager = lake._upkeep().stager()
        staged = [stager.write("traces", rows_table("traces", trace_rows(1))) for _ in range(2)]
        mark = stager._mark
        assert mark is not None
        with pytest.raises(OSError, match="Input/output"), watched(bad_disk):
            stager.discard()
        assert mark._file.closed
        assert list((site.lake / "staging").iterdir()) == []
        left = [one.path for one in staged if one.path.exists()]
        assert len(left) == 1
        age(left[0], 10)
        assert [Path(item["path"]) for item in lake.sweep()] == [left[0].relative_to(site.lake)]
        sound(lake)


def test_a_slow_ingest_keeps_its_files(site: Any) -> None:
    """A sweep in the middle of a batch that began, by the clock, ten days ago."""
    seen: list[Any] = []

    def look(step: str) -> None:
        if step == "lock_held" and not seen:
            for path in [*(site.lake / "data/main").rglob("*.parquet"), *(site.lake / "staging").iterdir()]:
                age(path, 10)
            with loadlock.open(site.lake) as other:
                seen.append((sweeping.orphans(other._upkeep()), len(list((site.lake / "staging").iterdir()))))

    with Lake(site.lake, on_step=look) as lake:
        lake.ingest(site.wafers("slow.csv", [50]), config=site.config)
        assert seen == [([], 1)]
        assert list((site.lake / "staging").iterdir()) == []
        sound(lake)


# --- by command, and by itself


@pytest.mark.parametrize("command", ["compact", "expire", "sweep"])
def test_a_dry_run_changes_nothing(command: str, site: Any, loadlock_command: Run) -> None:
    with loadlock.open(site.lake) as lake:
        lake.store.ensure_index(5)
    orphan = site.lake / "data/main/traces/old.parquet"
    orphan.write_bytes(b"left behind")
    age(orphan, 10)
    options = {"compact": ("--all",), "expire": ("--keep-days", "0"), "sweep": ()}[command]
    with loadlock.open(site.lake, read_only=True) as lake:
        head, files = lake.store.head(), on_disk(site.lake)
    dry = loadlock_command(command, *options, "--dry-run", "--json", "--lake", site.lake)
    assert (dry.code, dry.json["schema"], dry.json["dry_run"]) == (0, 1, True)
    with loadlock.open(site.lake, read_only=True) as lake:
        assert (lake.store.head(), on_disk(site.lake)) == (head, files)
    done = loadlock_command(command, *options, "--json", "--lake", site.lake).json["items"]
    key = {"compact": ("table", "tool", "files"), "expire": ("snapshot",), "sweep": ("path",)}[command]
    assert [[item.get(name) for name in key] for item in done] == [[item.get(name) for name in key] for item in dry.json["items"]] != []
    with loadlock.open(site.lake, read_only=True) as lake:
        assert lake.store.rows("SELECT DISTINCT action FROM ledger WHERE seq > ?", [head[0]]) == [(command,)]
        sound(lake)
    again = loadlock_command(command, "--lake", site.lake)
    assert again.code == 0


def test_it_runs_by_itself_when_a_day_is_closed(site: Any) -> None:
    with loadlock.open(site.lake) as lake:
        seq = lake.store.head()[0]
        later(lake, hours=1)
        assert maintenance.run_when_due(lake._upkeep()) is None
        assert lake.store.head()[0] == seq
        later(lake, days=1, hours=2)
        lake.ingest(site.wafers("tomorrow.csv", [60], tool="P3"))
        assert lake.last_upkeep is None
        actions = [row[0] for row in lake.store.rows("SELECT action FROM ledger WHERE seq > ? ORDER BY seq", [seq])]
        assert actions == ["ingest", "compact"]
        lake.ingest(site.wafers("at once.csv", [61], tool="P3"))
        assert lake.store.head()[0] == seq + 3
        sound(lake)


def test_it_runs_by_itself_after_many_commits(site: Any) -> None:
    config = site.config.read_text() + "[maintenance]\ncommits = 5\nquiet_minutes = 0\n"
    site.config.write_text(config)
    with loadlock.open(site.lake) as lake:
        for wafer in range(70, 76):
            lake.ingest(site.wafers(f"{wafer}.csv", [wafer]), config=site.config)
        assert lake.store.rows("SELECT count(*) FROM ledger WHERE action = 'compact'")[0][0] > 0
        sound(lake)
        site.config.write_text(config + "auto = false\n")
        seq = lake.store.head()[0]
        for wafer in range(80, 90):
            lake.ingest(site.wafers(f"{wafer}.csv", [wafer]), config=site.config)
        assert lake.store.rows("SELECT count(*) FROM ledger WHERE seq > ? AND action = 'compact'", [seq]) == [(0,)]


def test_its_failure_is_no_failure_of_the_ingest(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_upkeep: Any) -> None:
        raise OSError(28, "No space left on device")

    with loadlock.open(site.lake) as lake:
        later(lake, days=2)
        monkeypatch.setattr(maintenance, "run", fail)
        assert lake.ingest(site.wafers("x.csv", [60])).payloads["committed"] == 1
        assert "No space left" in str(lake.last_upkeep)
        assert lake.ingest(site.wafers("y.csv", [61])).payloads["committed"] == 1
        assert lake.last_upkeep is None  # tried again in an hour, not at once
        monkeypatch.undo()
        later(lake, days=2, hours=2)
        lake.ingest(site.wafers("z.csv", [62], tool="P3"))
        assert lake.store.rows("SELECT count(*) FROM ledger WHERE action = 'compact'")[0][0] > 0
        sound(lake)
