"""Several processes ingest into one lake at once: none fails for the others' sake, and everything is there exactly once."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import loadlock

RUN = Callable[..., Any]
PROCESSES = 4

CONTENT = {
    "traces": "select tool, chamber, trace, stream, seq, ts, position, value from traces",
    "windows": "select tool, chamber, wafer, step, occurrence, started_at, ended_at from windows",
}


def at_once(site: Any, lake: Path, calls: Sequence[Sequence[Path]], *more: str) -> list[dict[str, Any]]:
    """Run one ``loadlock ingest`` for each of ``calls`` at the same time; all end with 0 or 3; return their answers."""
    command = [sys.executable, "-m", "loadlock.cli", "ingest", "--json", "--config", str(site.config), "--lake", str(lake), *more]
    children = [
        subprocess.Popen([*command, *map(str, sources)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for sources in calls
    ]
    ended = [(*child.communicate(timeout=240), child.returncode) for child in children]
    for _, error, code in ended:
        assert (code in (0, 3), error) == (True, ""), error
    return [json.loads(out) for out, _, _ in ended]


def once(lake_path: Path, answers: Sequence[dict[str, Any]], wanted: dict[str, str], assert_conserved: RUN) -> None:
    """Assert that each payload was committed by exactly one of the calls, and that the lake is what one process makes of them."""
    for answer in answers:
        assert_conserved(answer)
    states = Counter((receipt["key"], receipt["state"]) for answer in answers for receipt in answer["receipts"])
    keys = {key for key, _ in states}
    assert all(states[key, "committed"] == 1 for key in keys)
    assert {state for _, state in states} <= {"committed", "replayed"}
    ids = {(r["key"], r["payload_id"], r["ledger_seq"]) for answer in answers for r in answer["receipts"]}
    assert len(ids) == len(keys)
    with loadlock.open(lake_path, read_only=True) as lake:
        assert lake.verify().faults == []
        for query in CONTENT.values():
            assert lake.sql(
                f"select count(*) - count(distinct r) from ({query.replace('select ', 'select (', 1).replace(' from', ') as r from', 1)})"
            ).fetchall() == [(0,)]
        assert lake.sql("select count(*), count(distinct key) from payloads").fetchall() == [(len(keys), len(keys))]
        batches = [row[0] for row in lake.sql("select batch_id from ledger where action = 'ingest'").fetchall()]
        assert len(batches) == len(set(batches))
        assert sorted(batches) == sorted(batch for answer in answers for batch in answer["batches"])
        assert lake.digest() == wanted
        left = {path.name for path in (lake_path / "data").rglob("*") if path.is_file()}
        named = {Path(row[0]).name for row in lake.sql("select path from __ducklake_metadata_lake.ducklake_data_file").fetchall()}
        assert left == named


def digest_of(site: Any, path: Path, sources: Sequence[Path], assert_conserved: RUN) -> dict[str, str]:
    """What one process makes of ``sources``."""
    with loadlock.open(path) as lake:
        assert_conserved(lake.ingest(sources, config=site.config), lake)
        digest: dict[str, str] = lake.digest()
        return digest


def test_the_same_payloads_of_one_tool_where_no_lake_is_yet(polisher: RUN, tmp_path: Path, assert_conserved: RUN) -> None:
    site = polisher(tmp_path)
    files = [site.wafers(f"{i}.csv", range(i, i + 2)) for i in range(4)]
    rotated = [files[i:] + files[:i] for i in range(PROCESSES)]
    wanted = digest_of(site, tmp_path / "alone.lake", files, assert_conserved)
    answers = at_once(site, tmp_path / "fab.lake", rotated)
    once(tmp_path / "fab.lake", answers, wanted, assert_conserved)
    with loadlock.open(tmp_path / "fab.lake", read_only=True) as lake:
        assert lake.sql("select count(*) from ledger where action in ('init', 'configure')").fetchall() == [(2,)]


def test_different_tools_and_shared_payloads(polisher: RUN, tmp_path: Path, assert_conserved: RUN) -> None:
    site = polisher(tmp_path)
    shared = site.wafers("shared.csv", [90], tool="P9")
    calls = []
    for i in range(PROCESSES):
        own = [site.wafers(f"{i}-{k}.csv", [3 * k, 3 * k + 1, 3 * k + 2], tool=f"P{i}") for k in range(2)]
        contested = site.wafers(f"{i}-c.csv", [50, 51 + i], tool="P8", offset=i / 2)
        calls.append([*own, contested, shared])
    answers = at_once(site, tmp_path / "fab.lake", calls)
    sources = [path for call in calls for path in call[:-1]] + [shared]
    wanted = digest_of(site, tmp_path / "alone.lake", sources, assert_conserved)
    assert sum(answer["records"]["conflict"] for answer in answers) == 3 * 20
    with loadlock.open(tmp_path / "fab.lake", read_only=True) as lake:
        found = lake.digest()
    # Which of four contradicting deliveries came first is theirs to race for: windows that hold a conflict are in no feature digest.
    assert found == wanted
    once(tmp_path / "fab.lake", answers, wanted, assert_conserved)


def test_init_by_several_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "loadlock.cli", "init", "--json", "--lake", str(tmp_path / "fab.lake")]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(PROCESSES)]
    ended = [(*child.communicate(timeout=120), child.returncode) for child in children]
    assert [end[1:] for end in ended] == [("", 0)] * PROCESSES
    assert sorted(json.loads(out)["created"] for out, _, _ in ended) == [False] * (PROCESSES - 1) + [True]
    with loadlock.open(tmp_path / "fab.lake", read_only=True) as lake:
        assert [row[0] for row in lake.sql("select action from ledger").fetchall()] == ["init"]


HOLD = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()"


def test_a_lock_that_another_process_holds(polisher: RUN, tmp_path: Path, loadlock_command: RUN, assert_conserved: RUN) -> None:
    site = polisher(tmp_path)
    lake = tmp_path / "fab.lake"
    with loadlock.open(lake) as opened:
        assert_conserved(opened.ingest(site.wafers("1.csv", [1]), config=site.config), opened)
        before = opened.store.head(), opened.digest()
    files = sorted(path for path in (lake / "data").rglob("*") if path.is_file())
    site.wafers("2.csv", [2])
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lake / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        answer = loadlock_command("ingest", site.drop, "--wait", "0.2", "--lake", lake, "--json")
        reading = loadlock_command("status", "--lake", lake)
        holder.communicate("")
    assert answer.code == 5
    assert "--wait" in answer.err + answer.out
    document = assert_conserved(json.loads(answer.out))
    assert document["batches"] == []
    assert document["payloads"]["committed"] == 0
    assert reading.code == 0
    assert sorted(path for path in (lake / "data").rglob("*") if path.is_file()) == files
    with loadlock.open(lake, read_only=True) as opened:
        assert (opened.store.head(), opened.digest()) == before
    again = loadlock_command("ingest", site.drop, "--lake", lake, "--json")
    assert again.code == 0
    assert assert_conserved(again.json)["payloads"] == {"seen": 2, "committed": 1, "replayed": 1, "refused": 0, "deferred": 0, "skipped": 0}


def test_a_lock_that_is_held_while_there_is_no_lake(tmp_path: Path, polisher: RUN, loadlock_command: RUN) -> None:
    site = polisher(tmp_path)
    lake = tmp_path / "fab.lake"
    lake.mkdir()
    fd = os.open(lake / "lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    answer = loadlock_command("ingest", site.wafers("1.csv", [1]), "--config", site.config, "--wait", "0.2", "--lake", lake)
    assert answer.code == 5
    assert os.listdir(lake) == ["lock"]
    os.close(fd)


@pytest.mark.parametrize("readers", [2])
def test_readers_see_whole_commits_only(readers: int, polisher: RUN, tmp_path: Path, assert_conserved: RUN) -> None:
    """While one process commits payload after payload, others read: each payload is there with all its rows or not at all."""
    site = polisher(tmp_path)
    lake = tmp_path / "fab.lake"
    with loadlock.open(lake) as opened:
        assert_conserved(opened.ingest(site.wafers("0.csv", [0]), config=site.config), opened)
    script = (
        "import sys, loadlock\n"
        "while True:\n"
        "  with loadlock.open(sys.argv[1], read_only=True) as lake:\n"
        "    c = lake.store.connection; c.execute('begin')\n"
        "    seen = [c.execute(q).fetchall()[0][0] for q in ('select count(*) from payloads', 'select count(*) from traces', "
        "'select count(*) from windows', 'select count(*) from features')]\n"
        "    c.execute('commit')\n"
        "    assert seen == [seen[0], seen[0] * 40, seen[0] * 2, seen[0] * 4], seen\n"
        "  if seen[0] == 12: break\n"
    )
    watching = [subprocess.Popen([sys.executable, "-c", script, str(lake)], stderr=subprocess.PIPE, text=True) for _ in range(readers)]
    with loadlock.open(lake) as opened:
        for i in range(1, 12):
            assert_conserved(opened.ingest(site.wafers(f"{i}.csv", [i])))
    for child in watching:
        _, error = child.communicate(timeout=120)
        assert child.returncode == 0, error
