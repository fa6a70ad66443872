"""Ingest every format, with what is odd in each: run as ``every_format.py FOLDER``; prints how often each kernel was found and compiled."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import loadlock
from ingest.config import Config
from kernels.downsample import extremes
from kernels.jit import KERNELS
from sample_data.secs_encoder import item, s6f1

SAMPLE = Path(__file__).parents[2] / "sample_data"
TABLES = ("text", "elapsed")
ROWS = [
    {"TIME": f"2026-03-17T08:00:{i:02d}Z", "SEQ": i, "WAFER": f'W"{i // 8}"', "P": i / 7, "NOTE": "odd" if i % 3 else "ok", "N": None}
    for i in range(32)
]


def configuration(time: dict[str, str]) -> Config:
    """Return the configuration of both tables; ``time`` says how the texts are read."""
    tables = {
        "text": {"tool": "T1", "time": time, "seq": "SEQ", "context": {"wafer": "WAFER"}},
        "elapsed": {"tool": "T2", "time": {"column": "TIME", "unit": "s"}, "context": {"wafer": "WAFER"}},
    }
    sources = [{"match": f"{name}/*", "format": "table", "table": name} for name in TABLES] + [{"match": "*.hsms", "format": "hsms"}]
    return Config.model_validate({"sources": sources, "tables": tables})


def delimited(rows: list[dict]) -> bytes:
    """Text with every field quoted, quotes doubled, a row that is short, and the header once more."""
    cells = [list(rows[0]), *([("" if cell is None else str(cell)) for cell in row.values()] for row in rows), ["short"], list(rows[0])]
    return "".join(",".join('"' + cell.replace('"', '""') + '"' for cell in line) + "\n" for line in cells).encode()


def write_tables(folder: Path) -> None:
    """Write the same rows as text, Parquet and both kinds of Arrow, once with text times and once with seconds; one can't be read."""
    for name in TABLES:
        (folder / name).mkdir(parents=True)
        rows = [*ROWS] if name == "text" else [row | {"TIME": f"{i}.25"} for i, row in enumerate(ROWS)]
        rows.append(rows[-1] | {"TIME": "never"})
        table = pa.Table.from_pylist(rows)
        (folder / name / "rows.csv").write_bytes(delimited(rows))
        pq.write_table(table, folder / name / "rows.parquet")
        for kind, writer in (("file", pa.ipc.new_file), ("stream", pa.ipc.new_stream)):
            with pa.OSFile(str(folder / name / f"{kind}.arrow"), "wb") as sink, writer(sink, table.schema) as out:
                out.write_table(table.slice(3))


def write_traces(path: Path) -> None:
    """Write one message each of so many traces that their table grows."""
    messages = [s6f1(item("U4", trace), item("U4", 1), "2026031708000000", [item("F4", 1.5)], wait=True) for trace in range(2000)]
    path.write_bytes(b"".join(messages))


def main(folder: Path) -> None:
    """Ingest the sample by both writers, replay what it rejects, prove the lake; then the other formats."""
    sample = (SAMPLE / "loadlock.toml").read_text(encoding="utf-8")
    for writer in ("pages", "pyarrow"):
        (folder / "loadlock.toml").write_text(f'{sample}\n[lake]\nwriter = "{writer}"\n', encoding="utf-8")
        with loadlock.open(folder / f"{writer}.lake") as lake:
            late = SAMPLE / "deliveries" / "ETCH01" / "0006.hsms"
            early = [path for path in sorted((SAMPLE / "deliveries").rglob("*.*")) if path != late]
            first = lake.ingest(early, config=folder / "loadlock.toml")
            assert lake.ingest(late).records["duplicate"]  # read back and compared
            assert first.records["conflict"]
            assert lake.replay().payloads["seen"]
            assert not lake.verify().faults
            drawn = lake.sql("SELECT epoch_us(ts) AS at, value FROM traces WHERE tool = 'ETCH01' ORDER BY ts").fetchnumpy()
            assert len(extremes(drawn["at"], drawn["value"].filled(np.nan), int(np.ptp(drawn["at"])) // 20)) <= 6 * 21
    write_tables(folder / "drop")
    write_traces(folder / "drop" / "many.hsms")
    with loadlock.open(folder / "narrow.lake") as lake:
        lake.ingest(folder / "drop" / "many.hsms", tool="P1", format="hsms")  # F4 alone
    with loadlock.open(folder / "odd.lake") as lake:
        summary = lake.ingest(folder / "drop", config=configuration({"column": "TIME", "format": "%d.%m.%Y"}), tool="T3")
        states = {receipt.source: receipt.state for receipt in summary.receipts}
        assert set(states.values()) == {"committed"}, states
        assert len(states) == 9, states
        replayed = lake.replay(config=configuration({"column": "TIME"}))  # rejected rows of Parquet and Arrow are kept as JSON
        assert replayed.records["accepted"] == len(ROWS)
        assert replayed.records["duplicate"]
    counts = {name: kernel.stats for name, kernel in KERNELS.items()}
    used = {name: [sum(stats.cache_hits.values()), sum(stats.cache_misses.values())] for name, stats in counts.items()}
    print(json.dumps(used))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
