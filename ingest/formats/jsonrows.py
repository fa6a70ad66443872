"""Rejected rows of Parquet and Arrow files, decoded again: each line of the payload is a row as JSON, and a frame."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from ingest.config import Limits
from ingest.formats.arrow_json import batch_of, read_row
from ingest.formats.columnar import ArrowRows, bind
from ingest.mapping import Bound, TableMapping
from ingest.records import Decoded, Rejected

READ_BYTES = 1 << 20
"""Bytes that are gathered before rows are decoded."""


class RowsDecoder:
    """Decodes lines of JSON by the schema of the file that they were rows of, and by today's mapping.

    ``dialect``: what that file's decoder settled, see ``ingest.formats.columnar``. A row that JSON does not hold whole is rejected.
    """

    def __init__(self, mapping: TableMapping, limits: Limits, dialect: dict[str, Any]) -> None:
        self.mapping = mapping
        self.limits = limits
        self.dialect = dialect
        self._schema: pa.Schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(dialect["schema"])))
        self._bound: Bound | None = None
        self._used: list[int] = []
        self._pending = bytearray()
        self._offset = 0  # of the first pending byte in the payload

    def feed(self, data: bytes) -> Iterator[Decoded]:
        """Take the next bytes; yield the rows that became whole."""
        self._pending += data
        if len(self._pending) >= READ_BYTES:
            yield from self._advance(self._pending.rfind(b"\n") + 1)

    def finish(self) -> Iterator[Decoded]:
        """Yield the rest; the last row needs no line end."""
        yield from self._advance(len(self._pending))

    def _advance(self, stop: int) -> Iterator[Decoded]:
        lines = bytes(self._pending[:stop]).splitlines(keepends=True)
        if not lines:
            return
        del self._pending[:stop]
        if self._bound is None:
            self._bound = self._bind()
        yield self._decode(lines, self._bound)
        self._offset += stop

    def _bind(self) -> Bound:
        """Bind today's mapping to the file's columns."""
        names = self._schema.names
        if len(names) > self.limits.columns:
            self.mapping.fail(f"{len(names)} columns, the limit is {self.limits.columns} (limits.columns)")
        if len(set(names)) < len(names):
            self.mapping.fail("several columns have the same name, of which a row as JSON holds one")
        bound = bind(self.mapping, self._schema)
        if self.mapping.table.sensors == "*":
            if self.dialect["numeric"] is None:
                self.mapping.fail('nobody judged which of the file\'s columns are numeric; name the sensors instead of "*"')
            bound = self.mapping.with_sensors(bound, np.array(self.dialect["numeric"], np.int64), names)
        parts = (bound.tool, bound.chamber, *bound.key, *bound.context)
        used = {bound.time, bound.seq, *(part.column for part in parts), *bound.sensors.tolist()}
        self._used = sorted(used - {None})
        return bound

    def _decode(self, lines: list[bytes], bound: Bound) -> Decoded:
        stops = self._offset + np.cumsum([len(line) for line in lines], dtype=np.int64)
        starts = np.concatenate([np.array([self._offset], np.int64), stops[:-1]])
        rows = [read_row(line, self._schema, self._used) for line in lines]
        sound = np.flatnonzero([row is not None for row in rows])
        rejected = [
            Rejected(int(starts[i]), int(stops[i]), "bad_row", "the row as JSON does not hold every mapped value", lines[i])
            for i, row in enumerate(rows)
            if row is None
        ]
        batch = batch_of([row for row in rows if row is not None], self._schema, self._used)
        records, kept, refused = self.mapping.records(ArrowRows(batch, self.mapping), bound)
        for row, reason, detail, tool in refused:
            i = int(sound[row])
            rejected.append(Rejected(int(starts[i]), int(stops[i]), reason, detail, lines[i], tool))
        rejected.sort(key=lambda span: span.start)
        frames = sound[kept]
        return Decoded(starts[frames], stops[frames], records, None, rejected, 0, 0)
