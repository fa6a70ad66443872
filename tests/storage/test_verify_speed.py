"""`audit verify` reads every byte, for SHA-256 and page checksums alike, at no less than half the speed of SHA-256 alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from storage.filecheck import FileCheck, Recorded
from storage.files import Stager, sha256_of
from storage.schema import arrow_schema

ROWS = 4_000_000
ROUNDS = 7


def cpu_s(work: Callable[[], Any]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def large_file(folder: Path) -> Recorded:
    """A file of traces with values that do not compress."""
    fixed = {"tool": "T1", "chamber": "A", "trace": "7", "stream": "", "sensor": "power", "payload_id": "p"}
    numbers = np.arange(ROWS)
    columns: dict[str, Any] = {
        **{name: pa.DictionaryArray.from_arrays(np.zeros(ROWS, np.int32), [text]) for name, text in fixed.items()},
        **dict.fromkeys(("seq", "byte_start"), numbers),
        "ts": pa.array(numbers, pa.timestamp("us")),
        "position": np.ones(ROWS, np.int32),
        "value": np.random.default_rng(1).random(ROWS),
        "window_id": np.zeros(ROWS, np.int64),
    }
    schema = arrow_schema("traces")
    table = pa.table({name: pa.array(columns[name]) for name in schema.names})
    stager = Stager(folder / "data", lambda: "large", level=1, row_group_rows=262_144, writer="pyarrow")
    staged = stager.write("traces", table)
    stager.release()
    entry = staged.entry(folder)
    return Recorded(str(entry["path"]), "traces", entry, staged.rows, staged.size)


def test_verify_reads_at_half_the_speed_of_sha256_or_more(tmp_path: Path, note: Callable[..., Any]) -> None:
    recorded = large_file(tmp_path)
    path, check = tmp_path / recorded.path, FileCheck()
    assert recorded.size > 20 << 20
    assert check.fault(path, recorded, quick=False) is None
    rounds = [(cpu_s(lambda: sha256_of(path)), cpu_s(lambda: check.fault(path, recorded, quick=False))) for _ in range(ROUNDS)]
    sha_s, check_s = (min(times) for times in zip(*rounds, strict=True))
    note(megabytes=recorded.size >> 20, sha256_mb_s=round(recorded.size / sha_s / 1e6), verify_mb_s=round(recorded.size / check_s / 1e6))
    assert check_s <= 2 * sha_s
