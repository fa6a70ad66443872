"""The tables of a lake, as data: names, columns and types that storage and ingest share.

``*_log`` tables are append-only; the views of ``views.sql`` show their newest state under the names of the public surface.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

FORMAT_VERSION = 2
"""Version of the lake's layout; newer code migrates, older code refuses."""

ARROW = {
    "VARCHAR": pa.string(),
    "BIGINT": pa.int64(),
    "INTEGER": pa.int32(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "TIMESTAMP": pa.timestamp("us"),
    "BLOB": pa.binary(),
}

_WHERE = "tool VARCHAR, chamber VARCHAR, trace VARCHAR, stream VARCHAR"
_CONTEXT = "lot VARCHAR, wafer VARCHAR, recipe VARCHAR, step VARCHAR"
_TRACE = f"{_WHERE}, seq BIGINT, ts TIMESTAMP, sensor VARCHAR, position INTEGER, value DOUBLE, window_id BIGINT, payload_id VARCHAR, byte_start BIGINT"

ACCOUNT = (
    "bytes_in",
    "bytes_accepted",
    "bytes_duplicate",
    "bytes_conflict",
    "bytes_quarantined",
    "bytes_other",
    "records_decoded",
    "records_accepted",
    "records_duplicate",
    "records_conflict",
    "frames_quarantined",
    "frames_other",
    "samples",
    "events",
    "ambiguous_time",
)
"""The figures of a payload's account, in the order of the columns."""

STATISTICS = ("first", "last", "min", "max", "mean", "std", "median", "p05", "p95", "slope", "area")
"""The statistics of a feature row beside ``n`` and ``missing``."""

_DEFINITIONS = {
    "traces": _TRACE,
    "conflicts": f"{_TRACE}, text VARCHAR, kept_payload_id VARCHAR, content VARCHAR",
    "texts": f"{_WHERE}, seq BIGINT, ts TIMESTAMP, sensor VARCHAR, position INTEGER, text VARCHAR, payload_id VARCHAR",
    "events": "tool VARCHAR, chamber VARCHAR, event VARCHAR, ceid BIGINT, dataid BIGINT, ts TIMESTAMP, vars VARCHAR, payload_id VARCHAR, "
    f"byte_start BIGINT, {_CONTEXT}, role VARCHAR, system_bytes BIGINT, body_digest VARCHAR",
    "windows_log": f"window_id BIGINT, tool VARCHAR, chamber VARCHAR, {_CONTEXT}, occurrence BIGINT, started_at TIMESTAMP, ended_at TIMESTAMP, "
    "complete BOOLEAN, source VARCHAR, ordinal BIGINT, revision BIGINT",
    "features_log": f"window_id BIGINT, tool VARCHAR, chamber VARCHAR, trace VARCHAR, {_CONTEXT}, occurrence BIGINT, sensor VARCHAR, position INTEGER, "
    f"n BIGINT, missing BIGINT, {', '.join(f'{name} DOUBLE' for name in STATISTICS)}, started_at TIMESTAMP, ended_at TIMESTAMP, "
    "complete BOOLEAN, revision BIGINT",
    "gaps_log": f"gap_id VARCHAR, {_WHERE}, first_missing BIGINT, last_missing BIGINT, missing BIGINT, after_ts TIMESTAMP, before_ts TIMESTAMP, revision BIGINT",
    "superseded": "subject VARCHAR, id VARCHAR, window_id BIGINT, revision BIGINT, by_revision BIGINT",
    "quarantine_log": "quarantine_id VARCHAR, payload_id VARCHAR, tool VARCHAR, start BIGINT, stop BIGINT, reason VARCHAR, detail VARCHAR, bytes BLOB, "
    "rows BOOLEAN, format VARCHAR, mapping VARCHAR, captured VARCHAR, dialect VARCHAR, sha256 VARCHAR",
    "quarantine_states": "quarantine_id VARCHAR, state VARCHAR, revision BIGINT",
    "payloads": "payload_id VARCHAR, key VARCHAR, sha256 VARCHAR, tool VARCHAR, format VARCHAR, source VARCHAR, state VARCHAR, committed_at TIMESTAMP, "
    f"batch_id VARCHAR, config_digest VARCHAR, {', '.join(f'{name} BIGINT' for name in ACCOUNT)}, size BIGINT, ledger_seq BIGINT",
    "ledger": "seq BIGINT, recorded_at TIMESTAMP, actor VARCHAR, action VARCHAR, batch_id VARCHAR, body VARCHAR, prev_hash VARCHAR, hash VARCHAR",
    "circuits_log": "tool VARCHAR, state VARCHAR, reason VARCHAR, opened_at TIMESTAMP, retry_at TIMESTAMP, failures BIGINT, kind VARCHAR, revision BIGINT, "
    "override VARCHAR, override_until TIMESTAMP",
    "features_owed_log": "window_id BIGINT, tool VARCHAR, owed BOOLEAN, revision BIGINT",
    "sensors": "tool VARCHAR, trace VARCHAR, position INTEGER, sensor VARCHAR, unit VARCHAR, svid VARCHAR, source VARCHAR, valid_from TIMESTAMP, "
    "valid_to TIMESTAMP",
    "streams_log": f"{_WHERE}, timed BOOLEAN, period_us BIGINT, op INTEGER, time_lo BIGINT, seq_lo BIGINT, time_hi BIGINT, seq_hi BIGINT, revision BIGINT",
    "dictionaries": "tool VARCHAR, body VARCHAR, revision BIGINT",
    "configs": "digest VARCHAR, body VARCHAR, revision BIGINT",
}

COLUMNS: dict[str, dict[str, str]] = {
    table: {column.split()[0]: column.split()[1] for column in text.split(",")} for table, text in _DEFINITIONS.items()
}
"""table -> column -> SQL type."""


def arrow_schema(table: str) -> pa.Schema:
    """Return the Arrow schema of ``table``."""
    return pa.schema([(name, ARROW[kind]) for name, kind in COLUMNS[table].items()])


def fitted(table: pa.Table, name: str) -> pa.Table:
    """Return ``table`` with the columns and types of the lake's table ``name``; NULL stands for those that an older format lacked."""
    schema = arrow_schema(name)
    columns = [table.column(field.name) if field.name in table.column_names else pa.nulls(table.num_rows, field.type) for field in schema]
    return pa.table(columns, names=schema.names).cast(schema)


def create_statements() -> list[str]:
    """Return the statements that create every table in the attached catalog ``lake``."""
    return [
        f"CREATE TABLE lake.main.{table} ({', '.join(f'{_quote(name)} {kind}' for name, kind in columns.items())})"
        for table, columns in COLUMNS.items()
    ]


def _quote(name: str) -> str:
    return f'"{name}"'


def rows_table(name: str, rows: Sequence[tuple[object, ...]]) -> pa.Table:
    """Build rows of the lake's table ``name``; times are given in microseconds."""
    schema = arrow_schema(name)
    columns = list(zip(*rows, strict=True)) if rows else [() for _ in schema]
    arrays = [
        pa.array(column, pa.int64()).cast(field.type) if pa.types.is_timestamp(field.type) else pa.array(column, field.type)
        for column, field in zip(columns, schema, strict=True)
    ]
    return pa.table(arrays, schema=schema)
