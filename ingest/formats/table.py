"""Tables by a mapping in the configuration: Parquet and Arrow IPC by their first bytes, delimited text else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from typing import Any

from ingest.config import Limits, TableSection
from ingest.formats.columnar import ARROW_FILE, ARROW_STREAM, PARQUET, ColumnarDecoder
from ingest.formats.delimited import DelimitedDecoder
from ingest.formats.jsonrows import RowsDecoder
from ingest.mapping import TableMapping
from ingest.records import Decoded

MAGICS = (PARQUET, ARROW_FILE, ARROW_STREAM)
"""First bytes of the containers; everything else is text."""


class TableDecoder:
    """Decodes one payload of a table, as ``ingest.records.Decoder`` promises.

    ``name`` is the mapping's name and the trace; ``source`` names the file in messages; ``tool`` overrides the mapping's (``--tool``)
    unless it is the captured one; ``captured`` is what the source's pattern took from the path; ``zone_of`` tells a tool's time zone where
    the mapping names none.
    ``dialect``: what another decoder settled about a file (see the property); the payload is then nothing but rows of that file, lines of
    text or lines of JSON. ``walled``: tools whose rows are rejected, because their circuit is open.
    Raises MappingMissing, from ``feed`` or ``finish``, where a mapped column is missing or no tool can be told.
    """

    def __init__(
        self,
        name: str,
        table: TableSection,
        source: str,
        tool: str | None,
        captured: Mapping[str, str],
        zone_of: Callable[[str], str],
        limits: Limits,
        dialect: dict[str, Any] | None = None,
        walled: Set[str] = frozenset(),
    ) -> None:
        self._mapping = TableMapping(name, table, source, tool, captured, zone_of, walled)
        self._limits = limits
        self._head = b""
        self._decoder: DelimitedDecoder | ColumnarDecoder | RowsDecoder | None = None
        if dialect is not None:
            rows_of = RowsDecoder if "schema" in dialect else DelimitedDecoder
            self._decoder = rows_of(self._mapping, limits, dialect=dialect)
        self._fed = 0
        self._told = 0

    @property
    def dialect(self) -> dict[str, Any] | None:
        """What was settled about the file, fit for JSON: the tool named at delivery, columns, and which are numeric; None before."""
        settled = self._decoder.dialect if self._decoder else None
        return None if settled is None else {"tool": self._mapping.tool, **settled}

    def feed(self, data: bytes) -> Iterator[Decoded]:
        """Take the next bytes of the payload; yield what became whole."""
        self._fed += len(data)
        if self._decoder is None:
            self._head += data
            if any(len(self._head) < len(magic) and magic.startswith(self._head) for magic in MAGICS):
                return
            data = self._choose()
        assert self._decoder is not None
        yield from self._counted(self._decoder.feed(data))

    def finish(self) -> Iterator[Decoded]:
        """Yield the rest: the payload has ended."""
        if self._decoder is None:
            data = self._choose()
            assert self._decoder is not None
            yield from self._counted(self._decoder.feed(data))
        yield from self._counted(self._decoder.finish())
        assert self._told == self._fed, f"{self._told} bytes accounted for, {self._fed} fed"

    def _choose(self) -> bytes:
        head, self._head = self._head, b""
        container = next((magic for magic in MAGICS if head.startswith(magic)), None)
        if container is None:
            self._decoder = DelimitedDecoder(self._mapping, self._limits)
        else:
            self._decoder = ColumnarDecoder(self._mapping, self._limits, container)
        return head

    def _counted(self, found: Iterator[Decoded]) -> Iterator[Decoded]:
        """Pass on, and count the bytes that are accounted for."""
        for decoded in found:
            self._told += int((decoded.frame_stop - decoded.frame_start).sum()) + decoded.other_bytes
            self._told += sum(span.stop - span.start for span in decoded.rejected if not span.rows)
            yield decoded
