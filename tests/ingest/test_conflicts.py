"""Conflicts: every content of a key is kept once, however many there are and however they are delivered again."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import loadlock
from sample_data import secs_encoder as secs
from storage.index import IndexDelta
from storage.store import Change
from tests.ingest.test_retract import CONFIG, samples, step


def record(*items):
    return secs.s6f1(secs.item("U1", 7), secs.item("U4", 1), "2026032908300000", list(items))


TEXTS = [record(secs.text(word), secs.item("F4", 1.0)) for word in ("aa", "bb", "cc")]
VALUES = [record(secs.item("F8", value)) for value in (0.0, -0.0, 2.0)] + [record(secs.item("F8"))]


@pytest.mark.parametrize("contents", [TEXTS, VALUES], ids=["texts", "values"])
def test_every_content_of_a_key_is_kept_once(tmp_path, contents):
    with loadlock.open(tmp_path / "t.lake") as lake:
        first = lake.ingest(data=b"".join(contents), tool="T")
        assert (first.records["accepted"], first.records["conflict"]) == (1, len(contents) - 1)
        digest = lake.digest()
        for content in reversed(contents):
            again = lake.ingest(data=content + secs.control("Linktest.req"), tool="T")
            assert again.records["duplicate"] == 1
        assert lake.digest() == digest
        assert lake.verify().faults == []


def test_which_content_came_first_does_not_matter(tmp_path):
    digests = []
    for name, order in (("a", TEXTS), ("b", TEXTS[::-1])):
        with loadlock.open(tmp_path / f"{name}.lake") as lake:
            for content in order:
                lake.ingest(data=content, tool="T")
            digests.append(lake.digest())
    assert digests[0] == digests[1]


PLACES = (
    "SELECT c.tool, c.seq, c.position, c.value, w.step, w.started_at FROM conflicts c LEFT JOIN windows w "
    "ON c.window_id = w.window_id AND c.tool = w.tool ORDER BY ALL"
)


def deliveries(folder):
    """Two tools with a step, and conflicts within; then events that move its borders. Returns the files of each delivery."""
    named = {
        "steps": step(1, 5, "a") + samples(range(1, 30)) + step(2, 30, "a"),
        "conflicting": samples(range(1, 40), level=3.0),
        "late": step(2, 12, "a") + step(1, 15, "c"),
    }
    for tool in ("E1", "E2"):
        (folder / tool).mkdir()
        for name, data in named.items():
            (folder / tool / f"{name}.hsms").write_bytes(data)
    (folder / "fab.toml").write_text(CONFIG + "\n[lake]\nbatch_seconds = 60\n")
    return {name: [folder / tool / f"{name}.hsms" for tool in ("E1", "E2")] for name in named}


def mix_conflicts(lake):
    """Put all conflicts into one file, as earlier versions did that committed several tools at once."""
    files = [Path(row[0]) for row in lake.sql("SELECT DISTINCT filename FROM lake.main.conflicts").fetchall()]
    stager = lake._upkeep().stager()
    staged = stager.write("conflicts", pa.concat_tables([pq.read_table(path) for path in files], promote_options="permissive"))
    body = {"files": [staged.entry(lake.store.path)], "removed": [path.relative_to(lake.store.path).as_posix() for path in files]}
    with lake.store.locked(60):
        lake.store.commit(lambda _seq: Change("compact", "tests", "", body, IndexDelta(0, ""), [staged], {"conflicts": files}))
    stager.release()


def test_late_events_move_the_conflicts_of_their_own_tool(tmp_path):
    """A file of conflicts may hold several tools: each row goes to the window of its own, whichever tools have late events."""
    files = deliveries(tmp_path)
    for late in ([0], [1], [0, 1]):
        with loadlock.open(tmp_path / f"{late}.lake") as lake, loadlock.open(tmp_path / f"{late} in order.lake") as other:
            events = [files["late"][i] for i in late]
            for some in (files["steps"], files["conflicting"]):
                lake.ingest(some, config=tmp_path / "fab.toml")
            mix_conflicts(lake)
            lake.ingest(events)
            for some in (events, files["steps"], files["conflicting"]):
                other.ingest(some, config=tmp_path / "fab.toml")
            assert lake.sql(PLACES).fetchall() == other.sql(PLACES).fetchall()
            assert lake.digest() == other.digest()
            assert lake.verify(every_feature=True).faults == []


def test_a_file_of_conflicts_holds_one_tool(tmp_path):
    """Files of a tool's day are merged: a file of several tools would never be."""
    files = deliveries(tmp_path)
    with loadlock.open(tmp_path / "t.lake") as lake:
        lake.ingest([path for some in files.values() for path in some], config=tmp_path / "fab.toml")
        assert lake.sql("SELECT count(DISTINCT tool) FROM lake.main.conflicts GROUP BY filename").fetchall() == [(1,), (1,)]
