"""The rows that stand beside the traces: texts, records that contradict kept ones, and what could not be understood."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingest.account import Payload
from ingest.keys import Outcome
from ingest.records import Int64, Rejected, StreamKey
from ingest.segment import Registry, Segment
from kernels.missing import NULL_BITS
from storage.ledger import canonical
from storage.schema import arrow_schema, rows_table


def by_tool(table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """Yield (tool, its rows)."""
    tools = table.column("tool").unique().to_pylist()
    if len(tools) == 1:
        yield tools[0], table
        return
    names = table.column("tool").cast(pa.string())
    for tool in tools:
        yield tool, table.filter(pc.equal(names, tool))


def texts_table(segment: Segment, registry: Registry, record: Int64, payload_ids: Sequence[str]) -> pa.Table:
    """Return the rows of ``texts`` for the accepted records ``record``."""
    texts = segment.texts.select(record)
    schema = arrow_schema("texts")
    if not len(texts):
        return schema.empty_table()
    owner = record[texts.record]
    places, place = np.unique(segment.layout[owner].astype(np.int64) << 32 | texts.position, return_inverse=True)
    names = [registry.layouts[at >> 32][at & 0xFFFF_FFFF].name for at in places.tolist()]
    stream = pa.array(segment.stream[owner])
    keys = zip(StreamKey._fields, zip(*registry.streams, strict=True), strict=True)
    columns = {name: pa.array(column, pa.string()).take(stream) for name, column in keys} | {
        "seq": pa.array(segment.seq[owner]),
        "ts": pa.array(segment.time_us[owner]).cast(pa.timestamp("us")),
        "sensor": pa.array(names, pa.string()).take(pa.array(place)),
        "position": pa.array(texts.position + 1),
        "text": texts.text,
        "payload_id": pa.array(payload_ids, pa.string()).take(pa.array(segment.payload[owner])),
    }
    return pa.table([columns[name] for name in schema.names], schema=schema)


def conflicts_table(
    segment: Segment, registry: Registry, outcome: Outcome, record: Int64, window: Int64, payload_ids: Sequence[str]
) -> pa.Table:
    """Return the rows of ``conflicts`` for the conflicting records ``record``; ``window``: the window of each, 0 for none."""
    bits, start, _ = segment.contents(record)
    values = bits.view(np.float64)
    rows = []
    for i, window_id, a in zip(record.tolist(), window.tolist(), start.tolist(), strict=True):
        key = registry.streams[int(segment.stream[i])]
        kept = outcome.kept[i]
        kept_id = payload_ids[kept] if isinstance(kept, int) else kept
        texts = dict(segment.texts.of(i))
        payload = payload_ids[int(segment.payload[i])]
        for p, sensor in enumerate(registry.layouts[int(segment.layout[i])]):
            value = None if bits[a + p] == NULL_BITS else float(values[a + p])
            rows.append(
                (
                    *(*key, int(segment.seq[i]), int(segment.time_us[i]), sensor.name, p + 1, value, window_id or None, payload),
                    *(int(segment.byte_start[i]), texts.get(p), kept_id, outcome.content[i]),
                )
            )
    return rows_table("conflicts", rows)


@dataclass(slots=True)
class Quarantined:
    """One piece of at most 1 MiB."""

    payload: Payload
    rejected: Rejected
    dialect: str | None


def quarantine_row(q: Quarantined, discarded: Set[str] = frozenset()) -> tuple[object, ...]:
    """Return the row of ``quarantine_log`` of one piece; of ``discarded`` entries the digest stands in for the bytes."""
    name = f"{q.payload.payload_id}-{'r' if q.rejected.rows else ''}{q.rejected.start}"
    gone = name in discarded
    return (
        *(name, q.payload.payload_id, q.rejected.tool, q.rejected.start, q.rejected.stop, q.rejected.reason, q.rejected.detail),
        *(None if gone else q.rejected.data, q.rejected.rows, q.payload.format, q.payload.mapping, canonical(q.payload.captured)),
        *(q.dialect, hashlib.sha256(q.rejected.data).hexdigest() if gone else None),
    )
