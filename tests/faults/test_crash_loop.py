"""A child ingests and is killed at random moments, again and again; an oracle outside the lake holds the receipts it gave out."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import loadlock
from tests.faults.nursery import Nursery
from tests.faults.soak import new_seed, scaled

Run = Callable[..., Any]
ROUND = 6
"""Files that come new in each round of kills."""


def receipts(oracle: Path) -> dict[str, tuple[str, int]]:
    """Key -> (payload id, ledger seq) of what was acknowledged; a torn last line is none."""
    known: dict[str, tuple[str, int]] = {}
    for line in oracle.read_text(encoding="utf-8").splitlines() if oracle.exists() else ():
        try:
            key, payload_id, state, seq = json.loads(line)
        except ValueError:
            continue
        assert state in ("committed", "replayed")
        assert known.setdefault(key, (payload_id, seq)) == (payload_id, seq), "two receipts of one key differ"
    return known


def acknowledged_are_there(lake: Any, oracle: Path) -> int:
    """Assert that each receipt's payload is in the lake, once, under its ledger entry; return their number."""
    known = receipts(oracle)
    found = {key: (payload_id, seq) for key, payload_id, seq in lake.sql("select key, payload_id, ledger_seq from payloads").fetchall()}
    assert {key: found.get(key) for key in known} == known
    assert lake.sql("select count(*) - count(distinct key) from payloads").fetchall() == [(0,)]
    return len(known)


def crash_loop(kills: int, seed: int, site: Any, nursery: Nursery, check_conserved: Run) -> dict[str, int]:
    """Kill ``kills`` children; after each, look at the lake from outside; at the end all is there as without a kill."""
    chance = random.Random(seed)
    lake, oracle = site.folder / "fab.lake", site.folder / "oracle"
    sources: list[str] = []
    done = acknowledged = 0
    longest_s = 1.5
    while done < kills:
        if done % ROUND == 0:  # some overlap with what came before, some rows contradict it, some can't be read
            for _ in range(ROUND):
                wafer = len(sources)
                rows = [*site.rows([wafer, max(0, wafer - 1)]), *site.rows([wafer // 2], offset=1.0)[:3], "P1,A,soon,W9,ramp,1,1"]
                sources.append(str(site.file(f"{wafer}.csv", rows)))
        delay_s = chance.uniform(0.0, longest_s)
        began, known = time.monotonic(), len(receipts(oracle))
        child = nursery.start("feed", lake=str(lake), config=str(site.config), sources=sources, oracle=str(oracle), seed=chance.random())
        while time.monotonic() - began < delay_s and Path(f"/proc/{child}").exists():
            time.sleep(0.001)
        os.kill(child, signal.SIGKILL)  # the nursery has not waited for it yet: the number is still its own
        status = nursery.wait(child)
        assert status in (0, -signal.SIGKILL)
        if status == 0:  # all was done before the kill
            longest_s = max(0.1, 0.8 * (time.monotonic() - began))
            continue
        done += 1
        if len(receipts(oracle)) == known:  # too early for any receipt: a slow machine
            longest_s *= 1.2
        if (lake / "lake.json").exists() and (done % 5 == 0 or done == kills):
            with loadlock.open(lake, read_only=True) as reader:
                acknowledged = acknowledged_are_there(reader, oracle)
                assert reader.verify().faults == []
    with loadlock.open(lake) as opened:
        check_conserved(opened.ingest_all(sources, config=site.config), opened)
        assert acknowledged_are_there(opened, oracle) > 0
        digest = opened.digest()
        order = [row[0] for row in opened.sql("select source from payloads order by ledger_seq, source").fetchall()]
        assert len(order) == len(sources)
    with loadlock.open(site.folder / "undisturbed.lake") as opened:
        for source in order:  # which of two contradicting rows is kept is a matter of which came first
            opened.ingest_all(source, config=site.config)
        assert opened.digest() == digest
    return {"kills": done, "payloads": len(sources), "acknowledged before the last kill": acknowledged}


def test_thirty_kills(polisher: Run, tmp_path: Path, nursery: Nursery, assert_conserved: Run, note: Run) -> None:
    seed = new_seed()
    note(seed=seed, **crash_loop(30, seed, polisher(tmp_path), nursery, assert_conserved))


@pytest.mark.slow
def test_many_kills(polisher: Run, tmp_path: Path, nursery: Nursery, assert_conserved: Run, note: Run) -> None:
    seed, left, rounds = new_seed(), scaled(250), 0
    total = {"kills": 0, "payloads": 0}
    while left > 0:
        site = polisher(tmp_path / str(rounds))
        counts = crash_loop(min(left, 50), seed + rounds, site, nursery, assert_conserved)
        total = {name: total[name] + counts[name] for name in total}
        left, rounds = left - counts["kills"], rounds + 1
        shutil.rmtree(site.folder)
    note(seed=seed, lakes=rounds, **total)
