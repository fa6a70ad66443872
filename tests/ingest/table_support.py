"""What the table tests share: decoding a payload in chunks, and one comparable whole out of what came."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from itertools import pairwise

from ingest.config import Limits, TableSection
from ingest.formats.table import TableDecoder


@dataclass
class Whole:
    """All records of a payload as tuples, and its account."""

    rows: list = field(default_factory=list)
    frames: list = field(default_factory=list)
    rejected: list = field(default_factory=list)
    texts: list = field(default_factory=list)
    layout: tuple = ()
    streams: list = field(default_factory=list)
    timed: list = field(default_factory=list)
    other: tuple = (0, 0)

    @property
    def reasons(self):
        return [span.reason for span in self.rejected]

    @property
    def names(self):
        return [sensor.name for sensor in self.layout]

    def column(self, place):
        """Values of one position over all rows; NULL and NaN as None."""
        return [None if math.isnan(value) else value for value in (struct.unpack("<d", row[-1][place])[0] for row in self.rows)]


def table(**keys):
    return TableSection.model_validate({"tool": "T1", "time": {"column": "t", "unit": "s"}, **keys})


def decode(data, section, chunk=None, *, tool=None, captured=None, limits=None, zone="UTC"):
    """Decode ``data`` fed ``chunk`` bytes at a time (a number or a list of cuts), prove that it is tiled, and join what came."""
    decoder = TableDecoder("tab", section, "drop/file.csv", tool, captured or {}, lambda _tool: zone, limits or Limits())
    found = []
    cuts = chunk if isinstance(chunk, list) else list(range(chunk or len(data) or 1, len(data), chunk or len(data) or 1))
    for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True):
        found += decoder.feed(data[start:stop])
    found += decoder.finish()
    whole = Whole()
    lines = 0
    for part in found:
        whole.other = (whole.other[0] + part.other_bytes, whole.other[1] + part.other_frames)
        whole.rejected += part.rejected
        first = len(whole.frames)
        whole.frames += list(zip(part.frame_start.tolist(), part.frame_stop.tolist(), strict=True))
        records = part.records
        if records is None:
            continue
        assert records.values.flags.c_contiguous
        whole.layout = records.layouts[0]
        whole.streams += [stream for stream in records.streams if stream not in whole.streams]
        whole.timed = sorted({*whole.timed, *records.timed})
        width = len(whole.layout)
        for row in range(len(records.seq)):
            at = int(records.value_start[row])
            values = [struct.pack("<d", value) for value in records.values[at : at + width].tolist()]
            context = records.contexts[records.context[row]] if records.context[row] >= 0 else None
            frame = int(records.frame[row])
            times = (int(records.seq[row]), int(records.time_us[row]), int(records.late_us[row]))
            whole.rows.append(
                (records.streams[records.stream[row]], context, *times, whole.frames[first + frame] if frame >= 0 else -1, values)
            )
        for row, place, text in zip(
            records.texts.record.tolist(), records.texts.position.tolist(), records.texts.text.to_pylist(), strict=True
        ):
            whole.texts.append((lines + row, place, text))
        lines += len(records.seq)
    spans = sorted(whole.frames + [(span.start, span.stop) for span in whole.rejected if not span.rows])
    for (_, stop), (start, _) in pairwise(spans):
        assert stop <= start, "spans overlap"
    assert sum(stop - start for start, stop in spans) + whole.other[0] == len(data)
    for span in whole.rejected:
        assert span.rows or span.data == data[span.start : span.stop]
    return whole
