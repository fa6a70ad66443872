"""Small lakes to which things happen. Nothing here imports pytest: children run it, too."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from loadlock.lake import Lake

LAKE, NEW = "fab.lake", "new.lake"


def ingest(folder: Path, *names: str) -> Any:
    """Ingest files of the drop folder."""
    with Lake(folder / LAKE) as lake:
        return lake.ingest_all([folder / "drop" / name for name in names], config=folder / "loadlock.toml")


def deliveries(site: Any) -> None:
    """Three files that overlap and contradict each other; of the second, one row can't be read."""
    site.wafers("1.csv", [1])
    site.file("2.csv", [*site.rows([1]), *site.rows([2, 4], offset=1.0), "P1,A,soon,W9,ramp,1,1"])
    site.wafers("3.csv", [4], offset=2.0)


def with_one(site: Any) -> None:
    """The first of them is in the lake."""
    deliveries(site)
    ingest(site.folder, "1.csv")


def with_all(site: Any) -> None:
    """All are, each by a commit of its own."""
    deliveries(site)
    for name in ("1.csv", "2.csv", "3.csv"):
        ingest(site.folder, name)


def lived_in(site: Any) -> None:
    """Small files, replaced revisions, old snapshots, a file that nobody names, and the mark of a batch that died."""
    with_all(site)
    lake = site.folder / LAKE
    for path in (lake / "data" / "main" / "traces" / "orphan.parquet", lake / "staging" / "dead"):
        path.write_bytes(b"left behind")
        os.utime(path, (0, 0))


def expire_and_sweep(lake: Lake) -> None:
    """Let all snapshots but the newest go, and what only they named."""
    clock = lake.store.clock
    lake.store.clock = lambda: clock() + timedelta(seconds=1)
    lake.expire(keep_days=0)
    lake.store.clock = lambda: clock() + timedelta(seconds=2)
    lake.sweep(guard_hours=0)
