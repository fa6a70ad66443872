"""Writing a lake's trace files once more with pyarrow alone: same rows, row groups, encodings, compression and checksums."""

from __future__ import annotations

import time
from pathlib import Path

import pyarrow.parquet as pq

DICTIONARIES = {"PLAIN_DICTIONARY", "RLE_DICTIONARY"}
COLUMN_ENCODINGS = ("BYTE_STREAM_SPLIT", "DELTA_BINARY_PACKED")


def trace_files(lake: Path) -> list[Path]:
    """Return the Parquet files that hold trace rows."""
    return [path for path in sorted(lake.rglob("*.parquet")) if {"sensor", "seq", "value"} <= set(pq.read_schema(path).names)]


def options(file: pq.ParquetFile) -> dict[str, object]:
    """Return the writer options nearest to the file, as its footer tells; a column of several encodings is no dictionary."""
    group = file.metadata.row_group(0)
    columns = [group.column(i) for i in range(group.num_columns)]
    encodings: dict[str, set[str]] = {column.path_in_schema: set() for column in columns}
    for number in range(file.metadata.num_row_groups):
        for i, kinds in enumerate(encodings.values()):
            kinds.update(file.metadata.row_group(number).column(i).encodings)
    dictionary = [name for name, kinds in encodings.items() if kinds & DICTIONARIES and kinds.isdisjoint(COLUMN_ENCODINGS)]
    special = {name: next((kind for kind in COLUMN_ENCODINGS if kind in kinds), "PLAIN") for name, kinds in encodings.items()}
    return {
        "compression": {column.path_in_schema: column.compression.lower() for column in columns},
        "use_dictionary": dictionary,
        "column_encoding": {name: kind for name, kind in special.items() if name not in dictionary},
        "write_statistics": [column.path_in_schema for column in columns if column.is_stats_set],
        "write_page_checksum": True,
        "store_schema": False,
        "version": file.metadata.format_version,
    }


def rewrite(paths: list[Path], target: Path, level: int) -> float:
    """Write all rows of ``paths`` to ``target``; return the CPU seconds of the writing alone, reading left out.

    Texts are handed over as dictionaries, the fastest way in; so the baseline is a hard one.
    """
    seconds = 0.0
    for path in paths:
        schema = pq.read_schema(path)
        texts = [field.name for field in schema if str(field.type) in ("string", "large_string")]
        source = pq.ParquetFile(path, read_dictionary=texts)
        first = source.read_row_group(0)
        settings = options(source)
        start = time.process_time()
        with pq.ParquetWriter(target, first.schema, compression_level=level, **settings) as writer:
            seconds += time.process_time() - start
            for number in range(source.num_row_groups):
                rows = first if number == 0 else source.read_row_group(number).cast(first.schema)
                start = time.process_time()
                writer.write_table(rows, row_group_size=rows.num_rows)
                seconds += time.process_time() - start
            start = time.process_time()
        seconds += time.process_time() - start
        target.unlink()
    return seconds
