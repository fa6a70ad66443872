"""Fuzzing that is guided by coverage (atheris): the decoders and the kernels as plain Python, so that every branch taken is seen.

``python -m tests.faults.guided TARGET FOLDER RUNS SEED`` runs with ``NUMBA_DISABLE_JIT=1``; ``FOLDER`` keeps the inputs that reached
something new. It ends with an error where a target raises, and leaves the input that did it beside the folder.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import atheris

MOST_BYTES = 1_500
"""No input is longer: plain Python is slow, and what is long is the business of ``test_fuzz``."""


def hsms() -> tuple[Callable[[bytes], object], list[bytes]]:
    """Captures."""
    with atheris.instrument_imports(include=["ingest", "kernels"]):
        from tests.faults.test_fuzz import FRAMES, decode_hsms

    return lambda data: decode_hsms(data, len(data)), [*FRAMES, b"".join(FRAMES)]


def tables() -> tuple[Callable[[bytes], object], list[bytes]]:
    """Text tables, and files that say that they are Parquet or Arrow."""
    import pyarrow as pa
    import pyarrow.ipc
    import pyarrow.parquet as pq

    with atheris.instrument_imports(include=["ingest", "kernels"]):
        from ingest.errors import MappingMissing
        from tests.faults.test_fuzz import SECTION, TEXT
        from tests.ingest.table_support import decode

    rows = pa.table({"t": [1.0, 2.0], "w": ["a", "b"], "a": [0.5, None]})
    parquet, arrow = io.BytesIO(), io.BytesIO()
    pq.write_table(rows, parquet)
    with pa.ipc.new_file(arrow, rows.schema) as writer:
        writer.write_table(rows)

    def run(data: bytes) -> None:
        with suppress(MappingMissing):  # a mapped column is not there: the payload is deferred
            decode(data, SECTION, 64 if len(data) % 2 else None)

    return run, [TEXT[:200], b"t\tw\ta\r\n1\tx\t2\r\n", b't;w;a\n1;"x;""y""";2\n', parquet.getvalue(), arrow.getvalue()]


def planted() -> tuple[Callable[[bytes], object], list[bytes]]:
    """A fault behind four bytes in a row: chance needs four thousand million tries, whoever sees the branches some thousands."""

    def run(data: bytes) -> None:
        if data[:1] == b"\x9d" and data[1:2] == b"\x07" and data[2:3] == b"\xe1" and data[3:4] == b"\x5a":
            raise RuntimeError("the planted fault was found")

    return atheris.instrument_func(run), [b"0000"]


TARGETS = {function.__name__: function for function in (hsms, tables, planted)}


def main(target: str, folder: Path, runs: str, seed: str) -> None:
    """Run one target; libFuzzer ends the process."""
    run, examples = TARGETS[target]()
    folder.mkdir(parents=True, exist_ok=True)
    for number, example in enumerate(examples):
        (folder / f"example-{number}").write_bytes(example)
    options = [f"-runs={runs}", f"-seed={seed}", f"-max_len={MOST_BYTES}", "-rss_limit_mb=4096", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *options, "-timeout=300", f"-artifact_prefix={folder.parent}/", str(folder)], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
