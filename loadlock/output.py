"""Query results in the formats of ``loadlock sql``: numbers round-trip, NaN and infinities are null in JSON, BLOBs are hex."""

from __future__ import annotations

import json
import math
import sys
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

import duckdb

from ingest.errors import UsageError


def write_query(lake: Any, query: str, form: str, output: str | None) -> None:
    """Run ``query`` and write the result to ``output`` or standard output; a bad query is a usage error."""
    try:
        relation = lake.sql(query)
        if relation is None:
            return
        if form in ("parquet", "arrow"):
            _binary(relation, form, output)
        elif output:
            with open(output, "w", encoding="utf-8", newline="") as file:
                _text(relation, form, file)
        else:
            _text(relation, form, sys.stdout)
    except duckdb.InterruptException:
        raise
    except duckdb.Error as error:
        raise UsageError(str(error)) from error


def _binary(relation: Any, form: str, output: str | None) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if output is None:
        raise UsageError(f"--format {form} needs --output FILE")
    table = relation.to_arrow_table()
    if form == "parquet":
        pq.write_table(table, output, compression="zstd")
    else:
        with pa.OSFile(str(Path(output)), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)


def _text(relation: Any, form: str, file: IO[str]) -> None:
    if form == "table":
        from loadlock.render import relation_table

        relation_table(relation, file)
        return
    columns = relation.columns
    if form == "csv":
        import csv

        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for row in _rows(relation):
            writer.writerow(["" if value is None else _plain(value) for value in row])
        return
    documents = (dict(zip(columns, (_json_value(value) for value in row), strict=True)) for row in _rows(relation))
    if form == "jsonl":
        for document in documents:
            file.write(json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n")
        return
    file.write("[")
    for i, document in enumerate(documents):
        file.write((",\n " if i else "") + json.dumps(document, ensure_ascii=False, allow_nan=False))
    file.write("]\n")


def _rows(relation: Any) -> Any:
    while batch := relation.fetchmany(10_000):
        yield from batch


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes | bytearray | memoryview) else repr(value) if isinstance(value, float) else value


def _json_value(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    if isinstance(value, date | time | timedelta):
        return str(value)
    if isinstance(value, list | tuple):
        return [_json_value(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _json_value(item) for key, item in value.items()}
    return value if value is None or isinstance(value, bool | int | str) else str(value)
