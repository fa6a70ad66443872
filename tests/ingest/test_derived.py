"""Features that can't be computed are owed: traces, events and ledger are committed, and the features are made up later."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest

import ingest.closing
import ingest.derived
import ingest.features
import ingest.tracefile
import loadlock
from storage.circuits import CLOSED, DEPENDENCY, DERIVED, OPEN
from storage.featurepages import FeaturePages
from storage.index import Index
from storage.rollforward import roll_forward

SAMPLE = Path(__file__).resolve().parents[2] / "sample_data"
WINDOWS = "select window_id, tool, revision from windows order by all"


def broken(*_arguments, **_options):
    raise ZeroDivisionError("a statistic went wrong")


@pytest.fixture
def site(tmp_path, polisher):
    made = polisher(tmp_path)
    made.paths = [made.wafers(f"{i}.csv", [i]) for i in range(4)]
    return made


@pytest.fixture
def lake(tmp_path, site):
    with loadlock.open(tmp_path / "fab.lake") as opened:
        opened.store.clock = lambda clock=opened.store.clock: clock() + opened.later
        opened.later = timedelta()
        yield opened
        assert opened.verify().faults == []


def derived(lake):
    found = [c for c in lake.store.index.circuits() if (c.kind, c.tool) == (DEPENDENCY, DERIVED)]
    return found[0].state if found else CLOSED


def sound(tmp_path, site, paths):
    """The digest of a lake in which nothing failed."""
    with loadlock.open(tmp_path / "sound.lake") as other:
        other.ingest(paths, config=site.config)
        return other.digest()


@pytest.mark.parametrize(
    ("place", "name", "inline"),
    [
        (ingest.tracefile, "reduce_windows", 512),
        (ingest.features, "collect", 512),
        (ingest.features, "_rows", 512),
        (FeaturePages, "add", 0),
        (FeaturePages, "finish", 0),
    ],
)
def test_the_core_commits_and_the_next_ingest_makes_up(lake, site, tmp_path, monkeypatch, assert_conserved, place, name, inline):
    monkeypatch.setattr(ingest.closing, "INLINE_ROWS", inline)
    with monkeypatch.context() as patched:
        patched.setattr(place, name, broken)
        summary = lake.ingest(site.paths[:2], config=site.config)
    document = assert_conserved(summary, lake)
    assert (document["payloads"]["committed"], document["features"], summary.exit_code) == (2, 0, 3)
    assert lake.sql("select count(*) from traces").fetchall() == [(2 * 2 * 20,)]
    assert lake.sql("select count(*) from features").fetchall() == [(0,)]
    assert (
        lake.sql("select window_id, tool from features_owed order by all").fetchall()
        == lake.sql("select window_id, tool from windows order by all").fetchall()
    )
    assert derived(lake) == OPEN
    assert "a statistic went wrong" in lake.sql("select reason from circuits where kind = 'dependency'").fetchall()[0][0]

    summary = lake.ingest(site.paths[2], config=site.config)  # still open: not even tried
    assert (summary.features, summary.exit_code) == (0, 3)
    assert len(lake.sql("from features_owed").fetchall()) == len(lake.sql(WINDOWS).fetchall()) == 6

    lake.later = timedelta(hours=1)
    summary = lake.ingest(site.paths[3], config=site.config)
    assert (summary.exit_code, derived(lake)) == (0, CLOSED)
    assert lake.sql("from features_owed").fetchall() == []
    assert lake.digest() == sound(tmp_path, site, site.paths)
    assert [row[0] for row in lake.sql("select action from ledger where action = 'features'").fetchall()] == ["features"]


def test_what_was_made_up_goes_with_its_window(lake, site, tmp_path, monkeypatch):
    """A window is revised after its features were made up: the old ones are not shown beside the new ones."""
    rows = site.rows([0])
    early, late = site.file("early.csv", rows[:15]), site.file("late.csv", rows[15:])
    with monkeypatch.context() as patched:
        patched.setattr(ingest.features, "collect", broken)
        lake.ingest(early, config=site.config)
    lake.later = timedelta(hours=1)
    lake.ingest(late, config=site.config)
    assert lake.digest() == sound(tmp_path, site, [early, late])


def test_a_window_that_is_revised_meanwhile_is_owed_no_longer(lake, site, tmp_path, monkeypatch):
    rows = site.rows([0])
    early, late = site.file("early.csv", rows[:15]), site.file("late.csv", rows[15:])
    with monkeypatch.context() as patched:
        patched.setattr(ingest.features, "collect", broken)
        lake.ingest(early, config=site.config)
    lake.later = timedelta(hours=1)
    with monkeypatch.context() as patched:
        patched.setattr(ingest.derived, "make_up", lambda *_: 0)
        lake.ingest(late, config=site.config)
    owed = lake.sql("select w.step from features_owed join windows w using (window_id)").fetchall()
    assert owed == [("ramp",)]  # the later rows are all of the other step
    lake.ingest(site.paths[1], config=site.config)
    assert lake.digest() == sound(tmp_path, site, [early, late, site.paths[1]])


def test_failing_again_waits_longer_and_force_does_not_wait(lake, site, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(ingest.features, "collect", broken)
        lake.ingest(site.paths[0], config=site.config)
        lake.later = timedelta(hours=1)
        lake.ingest(site.paths[1], config=site.config)
        circuit = next(c for c in lake.store.index.circuits() if c.tool == DERIVED)
        assert (circuit.state, circuit.failures) == (OPEN, 2)
        assert circuit.retry_us - circuit.opened_us == 600_000_000
        assert list((lake.store.data / "main" / "features_log").glob("*")) == []
    settings = lake._settings(None)
    assert ingest.derived.make_up(lake.store, settings) == 0
    assert ingest.derived.make_up(lake.store, settings, force=True) == 4
    assert lake.sql("from features_owed").fetchall() == []
    assert derived(lake) == CLOSED
    assert ingest.derived.make_up(lake.store, settings, force=True) == 0


def test_events_and_ledger_of_a_capture_go_on_without_features(lake, tmp_path, monkeypatch):
    folder = tmp_path / "drop"
    shutil.copytree(SAMPLE / "deliveries" / "ETCH02", folder / "ETCH02")
    with monkeypatch.context() as patched:
        patched.setattr(ingest.tracefile, "reduce_windows", broken)
        summary = lake.ingest(folder, config=SAMPLE / "loadlock.toml")
    assert summary.payloads["committed"] == summary.payloads["seen"] > 0
    assert lake.sql("select count(*) > 0 from events").fetchall() == [(True,)]
    lake.later = timedelta(hours=1)
    lake.ingest(folder, config=SAMPLE / "loadlock.toml")
    with loadlock.open(tmp_path / "sound.lake") as other:
        other.ingest(folder, config=SAMPLE / "loadlock.toml")
        assert other.digest() == lake.digest()


def test_a_rebuilt_index_knows_what_is_owed(lake, site, tmp_path, monkeypatch):
    monkeypatch.setattr(ingest.features, "collect", broken)
    lake.ingest(site.paths[:2], config=site.config)
    fresh = Index(tmp_path / "fresh.sqlite")
    roll_forward(lake.store.connection, fresh)
    assert fresh.owed(100) == lake.store.index.owed(100) != []
    fresh.close()
