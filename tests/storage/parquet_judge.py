"""A Parquet file of ours against pyarrow's of the same rows: pyarrow, DuckDB and polars must read the same, and find the same promises."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from tests.storage.parquet_walk import walk


def read(data):
    return pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)


def bits(table):
    """Return ``table`` with its doubles as integers: -0.0 and every NaN count."""
    for i, field in enumerate(table.schema):
        if field.type == pa.float64():
            column = table.column(i).combine_chunks()
            mask = np.asarray(column.is_null())
            seen = np.where(mask, 0, np.asarray(column.fill_null(0.0)).view(np.int64))
            table = table.set_column(i, field.name, pa.array(seen, mask=mask))
    return table


def statistics(column):
    found = column.statistics
    if found is None:
        return None
    bounds = (found.min_raw, found.max_raw) if found.has_min_max else None
    return bounds, found.null_count, found.has_min_max, found.num_values


def same_to_pyarrow(mine: bytes, judge: bytes, names: Sequence[str]) -> None:
    """Schema, rows, row groups and statistics are those of ``judge``, and each byte of ``mine`` has its place."""
    walk(mine)
    left, right = read(mine), read(judge)
    assert left.schema_arrow.equals(right.schema_arrow)
    assert str(left.schema).split("\n")[1:] == str(right.schema).split("\n")[1:]
    assert bits(left.read()).equals(bits(right.read()))
    assert left.metadata.num_row_groups == right.metadata.num_row_groups
    for number in range(left.metadata.num_row_groups):
        groups = left.metadata.row_group(number), right.metadata.row_group(number)
        assert groups[0].num_rows == groups[1].num_rows
        for i, name in enumerate(names):
            assert statistics(groups[0].column(i)) == statistics(groups[1].column(i)), name


def same_to_duckdb_and_polars(folder: Path, mine: bytes, judge: bytes, where: str) -> None:
    """All rows are the same, and as many fit ``where``."""
    paths = folder / "ours.parquet", folder / "pyarrow.parquet"
    for path, data in zip(paths, (mine, judge), strict=True):
        path.write_bytes(data)
    with duckdb.connect() as connection:
        duck = [bits(connection.sql(f"SELECT * FROM '{path}'").to_arrow_table()) for path in paths]
        some = [connection.sql(f"SELECT count(*) FROM '{path}' WHERE {where}").fetchall() for path in paths]
    assert duck[0].equals(duck[1])
    assert some[0] == some[1]
    polars = [bits(pl.read_parquet(path).to_arrow()) for path in paths]
    assert polars[0].equals(polars[1])
