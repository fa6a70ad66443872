"""A delivery that is retracted leaves the lake as if it had never come, and may come again."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import loadlock
from ingest.errors import UsageError
from ingest.group import Group
from ingest.recent import Recent
from ingest.sources import from_bytes
from sample_data import secs_encoder as secs
from storage.errors import StoreDown

CONFIG = """
[[sources]]
match = "{tool}/*.hsms"
format = "hsms"

[[sources]]
match = "cmp/*.csv"
format = "table"
table = "polish"

[models.etcher.traces.7]
period = 0.1
sensors = ["power", "pressure"]

[models.etcher.events.1]
values = ["ts", "chamber", "wafer", "step"]
window = "start"

[models.etcher.events.2]
values = ["ts", "chamber", "wafer", "step"]
window = "end"

[tools."E*"]
model = "etcher"

[tables.polish]
tool = "P1"
chamber = "CHAMBER"
time = { column = "TIME", unit = "s", origin = "2026-03-01" }
period = 1.0
key = ["CHAMBER"]
context = { wafer = "WAFER" }
sensors = ["PRESSURE", "NOTE"]
"""


def stime(tenths: int) -> str:
    return f"202603170{tenths // 36000:01d}{tenths // 600 % 60:02d}{tenths // 10 % 60:02d}{tenths % 10}0"


def samples(numbers: Iterable[int], level: float = 1.0, word: str | None = None) -> bytes:
    """Trace messages, one every tenth of a second; ``word`` makes the second value a text."""
    second = [secs.text(word)] if word else [secs.item("F4", level)]
    return b"".join(
        secs.s6f1(secs.item("U1", 7), secs.item("U4", n), stime(n), [secs.item("F4", level * n), *second], system=n) for n in numbers
    )


def step(ceid: int, tenths: int, name: str, chamber: str = "") -> bytes:
    """A step's start (1) or end (2)."""
    values = [secs.text(stime(tenths)), secs.text(chamber), secs.text("W1"), secs.text(name)]
    return secs.s6f11(ceid, [(1, values)], system=tenths)


def table(rows: Iterable[tuple[str, int, str, float, str]]) -> bytes:
    return ("CHAMBER,TIME,WAFER,PRESSURE,NOTE\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)).encode()


PIECES: dict[str, tuple[str, bytes]] = {
    "first": ("E1", step(1, 5, "a") + samples(range(1, 30)) + step(2, 30, "a")),
    "second": ("E1", step(1, 30, "b") + samples(range(30, 55)) + step(2, 60, "b")),
    "a border moved": ("E1", step(2, 12, "a") + step(1, 15, "c")),
    "a gap filled": ("E1", samples(range(56, 70))),
    "conflicting": ("E1", samples(range(20, 40), level=3.0)),
    "conflicting again": ("E1", samples(range(25, 45), level=5.0, word="hot")),
    "rubbish within": ("E1", samples(range(80, 90)) + b"rubbish, not a frame" + samples(range(90, 95))),
    "a chamber named": ("E1", step(1, 40, "d", chamber="B")),
    "wafers": ("cmp", table(("A", t, f"W{t // 10}", t / 8, "") for t in range(40))),
    "a wafer's end": ("cmp", table(("A", t, f"W{t // 10 - 1}", t / 8, "late") for t in range(40, 45))),
    "another wafer": ("cmp", table(("B", t, "W9", t / 8, "x") for t in range(12))),
    "other values": ("cmp", table(("A", t, f"W{t // 10}", t / 4, "") for t in range(5, 25))),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("deliveries")
    (folder / "fab.toml").write_text(CONFIG)
    found = {"config": folder / "fab.toml"}
    for number, (name, (place, data)) in enumerate(PIECES.items()):
        (folder / place).mkdir(exist_ok=True)
        found[name] = folder / place / f"{number}.{'csv' if place == 'cmp' else 'hsms'}"
        found[name].write_bytes(data)
    return found


def deliver(lake: Any, files: dict[str, Path], names: Iterable[str]) -> dict[str, str]:
    """Deliver pieces one by one; return their payload ids."""
    ids = {}
    for name in names:
        receipt = lake.ingest(files[name], config=files["config"]).receipts[0]
        assert receipt.state == "committed", receipt
        ids[name] = receipt.payload_id
    return ids


def sound(lake: Any) -> None:
    assert lake.verify(every_feature=True).faults == []


def index_of(lake: Any) -> tuple[Any, ...]:
    """What the working index knows, but for names that we give."""
    db = lake.store.index._db
    runs = db.execute(
        "SELECT tool, chamber, trace, stream.stream, time_lo, seq_lo, time_hi, seq_hi FROM run JOIN stream ON run.stream = stream.id"
    )
    windows = "SELECT window_id, tool, chamber, lot, wafer, recipe, step, occurrence, started_us, ended_us, complete, revision FROM window"
    return (
        sorted(runs.fetchall()),
        sorted(db.execute("SELECT key, payload_id FROM payload").fetchall()),
        sorted(db.execute(windows).fetchall(), key=str),
        sorted(db.execute("SELECT tool, chamber FROM chamber").fetchall()),
    )


@given(st.permutations(list(PIECES)), st.data())
@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_retracted_delivery_has_never_come(
    files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, order: list[str], drawn: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("lakes")
    count = drawn.draw(st.integers(2, len(order)))
    wrong = drawn.draw(st.sets(st.sampled_from(order[:count]), min_size=1, max_size=2))
    with loadlock.open(folder / "one.lake") as lake, loadlock.open(folder / "other.lake") as other:
        ids = deliver(lake, files, order[:count])
        before = lake.digest()
        lake.retract([ids[name] for name in wrong], "test")
        sound(lake)
        deliver(other, files, [name for name in order[:count] if name not in wrong])
        assert lake.digest() == other.digest()
        rolled = index_of(lake)
        lake.store.index.clear()
        lake.store.ensure_index(60)
        assert index_of(lake) == rolled
        deliver(lake, files, sorted(wrong))
        assert lake.digest() == before
        sound(lake)
    shutil.rmtree(folder)


@pytest.fixture
def filled(lake: Callable[..., Any], files: dict[str, Path]) -> Any:
    opened = lake()
    return opened, deliver(opened, files, PIECES)


def test_every_piece_can_go_and_come_back(filled: Any, files: dict[str, Path]) -> None:
    lake, ids = filled
    before = lake.digest()
    for name in PIECES:
        done = lake.retract(ids[name], "test")
        assert [item["payload_id"] for item in done["retracted"]] == [ids[name]]
        sound(lake)
        for view in ("traces", "texts", "conflicts", "events", "quarantine"):
            assert lake.sql(f"select count(*) from {view} where payload_id = ?", [ids[name]]).fetchall() == [(0,)]
        ids |= deliver(lake, files, [name])
        assert lake.digest() == before
    sound(lake)


def test_all_of_them_at_once_leave_nothing(filled: Any) -> None:
    lake, ids = filled
    lake.retract(ids.values(), "everything was wrong")
    sound(lake)
    for view in ("traces", "texts", "conflicts", "events", "quarantine", "windows", "features", "gaps"):
        assert lake.sql(f"select count(*) from {view}").fetchall() == [(0,)], view
    assert lake.sql("select distinct state from payloads").fetchall() == [("retracted",)]


def test_a_conflict_takes_the_place_of_what_was_retracted(filled: Any) -> None:
    lake, ids = filled
    done = lake.retract(ids["second"], "wrong recipe")
    assert done["promoted"] == {ids["conflicting"]: 20, ids["conflicting again"]: 10}
    rows = lake.sql("select distinct seq, payload_id from traces where tool = 'E1' and seq between 30 and 44 order by seq").fetchall()
    assert rows == [(seq, ids["conflicting" if seq < 40 else "conflicting again"]) for seq in range(30, 45)]
    left = lake.sql("select distinct kept_payload_id from conflicts where tool = 'E1' and seq between 30 and 44").fetchall()
    assert left == [(ids["conflicting"],)]
    texts = lake.sql("select seq from texts where tool = 'E1' order by seq").fetchall()
    assert texts == [(seq,) for seq in range(40, 45)]


def test_what_a_later_delivery_repeated_is_named(lake: Callable[..., Any], files: dict[str, Path]) -> None:
    lake = lake()
    ids = deliver(lake, files, ["first"])
    later = lake.ingest(data=samples(range(20, 35)), tool="E1", format="hsms").receipts[0]
    done = lake.retract(ids["first"], "test")
    assert [item["payload_id"] for item in done["repeated_by"]] == [later.payload_id]
    sound(lake)


def test_the_ledger_says_who_why_and_what(filled: Any, loadlock_command: Callable[..., Any]) -> None:
    import json

    lake, ids = filled
    key = lake.sql("select key from payloads where payload_id = ?", [ids["first"]]).fetchall()[0][0]
    answer = loadlock_command("retract", key, "--reason", "tool mislabelled", "--lake", lake.path, "--json")
    assert answer.code == 0
    action, actor, body = lake.sql("select action, actor, body from ledger order by seq desc limit 1").fetchall()[0]
    assert (action, actor) == ("retract", "tests")
    entry = json.loads(body)
    assert entry["reason"] == "tool mislabelled"
    assert entry["retracted"][0]["payload_id"] == ids["first"]
    assert loadlock_command("retract", key, "--reason", "again", "--lake", lake.path).code == 2
    assert loadlock_command("retract", "nobody", "--reason", "?", "--lake", lake.path).code == 2
    assert loadlock_command("retract", ids["second"], "--reason", " ", "--lake", lake.path).code == 2
    assert "its key is free" in loadlock_command("retract", ids["second"], "--reason", "?", "--lake", lake.path).out


def test_a_replay_and_what_it_replayed_go_in_the_right_order(lake: Callable[..., Any], files: dict[str, Path]) -> None:
    lake = lake()
    cut = len(samples(range(1, 5))) + 9
    data = samples(range(1, 10))
    halves = [
        lake.ingest(data=half, tool="E1", format="hsms", config=files["config"]).receipts[0].payload_id for half in (data[:cut], data[cut:])
    ]
    before = lake.digest()
    replayed = lake.replay().receipts[0]
    assert replayed.state == "committed"
    with pytest.raises(UsageError, match="retract these too"):
        lake.retract(halves[0], "test")
    done = lake.retract(replayed.payload_id, "test")
    assert len(done["reopened"]) == 2
    assert lake.digest() == before
    assert lake.replay().payloads["committed"] == 1
    sound(lake)


@pytest.mark.parametrize("at", ["lock_held", "change_built", "files_removed", "ledger_inserted", "mirror_synced"])
def test_a_retraction_that_fails_changes_nothing(filled: Any, at: str) -> None:
    lake, ids = filled
    before, entries = lake.digest(), lake.store.head()

    def fail(name: str) -> None:
        if name == at:
            raise OSError("no space left on device")

    lake.store.on_step = fail
    with pytest.raises((OSError, StoreDown), match="no space"):
        lake.retract(ids["first"], "test")
    lake.close()
    with loadlock.open(lake.path) as again:
        assert (again.digest(), again.store.head()) == (before, entries)
        again.retract(ids["first"], "test")
        sound(again)


def test_the_mirror_knows_what_was_retracted(filled: Any, loadlock_command: Callable[..., Any]) -> None:
    lake, ids = filled
    lake.retract([ids["second"], ids["wafers"]], "test")
    before = lake.digest()
    accounts = lake.sql("select payload_id, state, samples from payloads order by all").fetchall()
    lake.close()
    for pattern in ("catalog.sqlite*", "index.sqlite*"):
        for file in lake.path.glob(pattern):
            file.unlink()
    assert loadlock_command("restore", "--from-mirror", "--lake", lake.path).code == 0
    with loadlock.open(lake.path) as again:
        assert again.digest() == before
        assert again.sql("select payload_id, state, samples from payloads order by all").fetchall() == accounts
        sound(again)


def test_a_group_that_was_decoded_before_a_retraction_is_decoded_again(lake: Callable[..., Any], files: dict[str, Path]) -> None:
    """Between decoding and the lock somebody retracts what the group's records repeat: they must not be dropped as duplicates."""
    lake = lake()
    ids = deliver(lake, files, ["first"])

    chosen = lake._settings(None)
    group = Group(lake.store, chosen, Recent())
    group.fill(iter([from_bytes(samples(range(10, 20)), chosen.config, tool="E1", format="hsms", key=None, source="again")]), [])
    lake.retract(ids["first"], "test")
    group.settle()
    assert lake.sql("select count(distinct seq) from traces").fetchall() == [(10,)]
    sound(lake)


@pytest.mark.parametrize("harm", ["missing", "flipped"])
def test_a_damaged_file_stops_it_and_nothing_changes(filled: Any, harm: str, loadlock_command: Callable[..., Any]) -> None:
    lake, ids = filled
    entries = lake.store.head()
    [name] = [row[0] for row in lake.sql("select distinct filename from lake.main.traces where payload_id = ?", [ids["first"]]).fetchall()]
    lake.close()
    data = bytearray(Path(name).read_bytes())
    data[len(data) // 2] ^= 1
    Path(name).unlink()
    if harm == "flipped":
        Path(name).write_bytes(data)
    answer = loadlock_command("retract", ids["first"], "--reason", "?", "--lake", lake.path)
    assert answer.code == 6
    assert "audit verify" in answer.err
    with loadlock.open(lake.path) as again:
        assert again.store.head() == entries
        report = again.verify()
        [damage] = report.damaged
        assert ids["first"] in damage.payloads
        assert report.orphans == []


def test_damage_after_a_retraction_names_the_payloads_that_are_left(filled: Any) -> None:
    lake, ids = filled
    lake.retract(ids["second"], "test")
    held = lake.sql(
        "select filename, list(distinct payload_id order by payload_id) from lake.main.traces where payload_id in (?, ?) group by all",
        [ids["conflicting"], ids["conflicting again"]],
    ).fetchall()
    assert held
    for name, payloads in held:
        data = Path(name).read_bytes()
        Path(name).write_bytes(bytes(len(data)))
        [damage] = lake.verify().damaged
        Path(name).write_bytes(data)
        assert set(payloads) <= set(damage.payloads)
        assert ids["second"] not in damage.payloads
        assert damage.tools == ["E1"]
