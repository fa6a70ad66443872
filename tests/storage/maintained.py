"""What tests of maintenance share: a lake of several small commits, and ways to look at all of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from storage.rebuild import compare
from storage.store import utc_now

Run = Callable[..., Any]
VIEWS = ("traces", "samples", "texts", "conflicts", "events", "windows", "features", "gaps", "quarantine", "payloads", "sensors")
INLINED = "SELECT table_name FROM __ducklake_metadata_lake.ducklake_inlined_data_tables"


def content(lake: Any) -> dict[str, list[str]]:
    return {view: sorted(map(repr, lake.store.rows(f"SELECT * FROM {view}"))) for view in VIEWS}


def later(lake: Any, **ahead: float) -> Any:
    lake.store.clock = lambda: utc_now() + timedelta(**ahead)
    return lake


def on_disk(path: Path) -> set[str]:
    return {file.name for file in (path / "data" / "main").rglob("*") if file.is_file()}


def named(lake: Any) -> set[str]:
    query = "SELECT path FROM __ducklake_metadata_lake.ducklake_data_file WHERE end_snapshot IS NULL"
    return {Path(row[0]).name for row in lake.store.rows(query)}


def sound(lake: Any) -> None:
    assert lake.verify().faults == []
    assert compare(lake.store) == []


def age(path: Path, days: float) -> None:
    stamp = time.time() - days * 86_400
    os.utime(path, (stamp, stamp))


def trace_rows(seed: int) -> list[tuple[Any, ...]]:
    """Records of two chambers (or none), two traces, three streams and layouts, with NULL, NaN and text where they can be."""
    random = np.random.default_rng(seed)
    rows = []
    for record in range(60):
        chamber, trace = [None, "A", "B"][record % 3], "79"[record % 2]
        names = [("b", "a", "c"), ("a",), ("b", "b")][int(random.integers(3))]
        window = [None, 7, 8][int(random.integers(3))]
        ts, stream = int(random.integers(40)) * 1_000_000, "xyz"[int(random.integers(3))]
        for position, name in enumerate(names, start=1):
            value = [None, float("nan"), float(random.normal())][int(random.integers(3))]
            rows.append(("T", chamber, trace, stream, 1000 * seed + record, ts, name, position, value, window, f"p{record % 4}", record))
    return [rows[i] for i in random.permutation(len(rows))]
