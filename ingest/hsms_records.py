"""S6F1 columns to ``Records``: groups, names, times and texts, whole columns at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ingest.hsms_frames import Stretch
from ingest.hsms_settings import NO_COUNT, Settings
from ingest.hsms_sides import texts_beside
from ingest.items import plain_text
from ingest.records import Int64, Layout, Records, Samples, StreamKey
from ingest.zone import to_utc
from kernels import secs
from kernels.secs_text import EMPTY, LOCAL, UNREADABLE
from storage.texts import Texts, texts_of

LOWEST = int(np.iinfo(np.int64).min)
Bytes = npt.NDArray[np.uint8]

SOUND, MISGROUPED, MISCOUNTED, BAD_TIME, UNTIMED, BAD_SEQ = 0, 1, 2, 3, 4, 5
WHY = {MISGROUPED: "group_mismatch", MISCOUNTED: "sensor_count", BAD_TIME: "bad_time", UNTIMED: "no_time", BAD_SEQ: "bad_shape"}


@dataclass(slots=True)
class Messages:
    """``n`` S6F1 in payload order; ``start`` and ``stop`` are bytes of the payload, ``value_start`` counts in ``values``."""

    start: Int64
    stop: Int64
    trace: Int64
    setting: Int64
    seq: Int64
    time_us: Int64
    late_us: Int64
    value_start: Int64
    positions: Int64
    values: Samples
    texts: Texts

    def select(self, keep: npt.NDArray[np.bool_]) -> Messages:
        """Return the messages where ``keep`` holds, their values moved together."""
        if keep.all():
            return self
        positions = self.positions[keep]
        return Messages(
            self.start[keep],
            self.stop[keep],
            self.trace[keep],
            self.setting[keep],
            self.seq[keep],
            self.time_us[keep],
            self.late_us[keep],
            np.cumsum(positions) - positions,
            positions,
            self.values[np.repeat(keep, self.positions)],
            self.texts.select(np.flatnonzero(keep)),
        )


def messages_of(stretch: Stretch, buf: Bytes, base: int, settings: Settings, traces: list[str], zone: str) -> tuple[Messages, Int64]:
    """Return the S6F1 of a stretch and what the time of each came to (flag)."""
    m = stretch.messages
    flag, time_us = m[secs.FLAG], m[secs.TIME]
    late_us = time_us
    if zone != "UTC" and len(flag):
        local = flag == LOCAL
        early, late = to_utc(time_us[local], zone)
        time_us, late_us = time_us.copy(), time_us.copy()
        time_us[local], late_us[local] = early, late
    out = Messages(
        m[secs.START] + base,
        m[secs.STOP] + base,
        m[secs.TRACE],
        settings.of(m[secs.TRACE], traces),
        m[secs.SEQ],
        time_us,
        late_us,
        m[secs.VALUE_START],
        m[secs.POSITIONS],
        stretch.values,
        texts_beside(stretch.sides, buf, m[secs.VALUE_START], stretch.values),
    )
    return out, flag


def faults_of(messages: Messages, flag: Int64, settings: Settings) -> npt.NDArray[np.int8] | None:
    """Return SOUND or why not, per message, or None: all are sound and timed. An empty time is sound here where a period can make one."""
    if not len(flag):
        return None
    timed = flag.min() > EMPTY and flag.max() < UNREADABLE
    if timed and alike(messages, settings):
        setting = settings.all[int(messages.setting[0])]
        if setting.group == 1 and setting.count in (NO_COUNT, int(messages.positions[0])):
            return None
    fault = np.zeros(len(flag), np.int8)
    group, period, count = settings.columns(messages.setting)
    fault[(flag == EMPTY) & (period == 0)] = UNTIMED
    fault[flag == UNREADABLE] = BAD_TIME
    if int(group.max()) > 1:
        fault[(group > 1) & (period == 0)] = UNTIMED
        fault[messages.seq < LOWEST + group] = BAD_SEQ
        fault[(count != NO_COUNT) & (messages.positions != count * group)] = MISCOUNTED
        fault[messages.positions % group != 0] = MISGROUPED
    else:
        fault[(count != NO_COUNT) & (messages.positions != count)] = MISCOUNTED
    return fault


def _expand(m: Messages, group: Int64, period: Int64, per: Int64) -> tuple[Any, Any, Any, Any, Any]:
    """Return (message, seq, time, late, value start) of each record of groups."""
    message = np.repeat(np.arange(len(group)), group)
    first = np.cumsum(group) - group
    nth = np.arange(len(message)) - first[message]
    back = group[message] - 1 - nth
    shift = back * period[message]
    return (
        message,
        m.seq[message] - back,
        m.time_us[message] - shift,
        m.late_us[message] - shift,
        m.value_start[message] + nth * per[message],
    )


def uniform(column: Int64) -> bool:
    """Tell whether all of ``n`` >= 1 numbers are the same."""
    return bool(column[0] == column[-1] and (column == column[0]).all())


def alike(m: Messages, settings: Settings) -> bool:
    """Tell whether all of ``n`` >= 1 messages have one setting and as many values."""
    return (len(settings.all) == 1 or uniform(m.setting)) and uniform(m.positions)


def records_of(m: Messages, settings: Settings, frames: Int64) -> Records:
    """Return the records of sound, timed messages; ``frames`` numbers their frames in the stretch."""
    same = alike(m, settings)
    some = slice(0, 1) if same else slice(None)
    group, period, _ = settings.columns(m.setting[some])
    grouped = int(group.max()) > 1
    if same and grouped:
        group, period = np.repeat(group, len(m.setting)), np.repeat(period, len(m.setting))
        some = slice(None)
    per = m.positions[some] // group if grouped else m.positions[some]
    pairs, inverse = m.setting[some] << 32 | per, np.zeros(1, np.int64)
    if len(pairs) > 1:
        pairs, inverse = np.unique(pairs, return_inverse=True)
    streams: dict[StreamKey, int] = {}
    layouts: dict[int, int] = {}
    named: list[Layout] = []
    periods: list[int] = []
    stream_of = np.empty(len(pairs), np.int32)
    layout_of = np.empty(len(pairs), np.int32)
    for i, pair in enumerate(pairs.tolist()):
        setting = settings.all[pair >> 32]
        stream_of[i] = streams.setdefault(setting.key, len(streams))
        if len(streams) > len(periods):
            periods.append(setting.period_us)
        layout = setting.layout(pair & 0xFFFF_FFFF)
        layout_of[i] = layouts.setdefault(id(layout), len(layouts))
        if len(layouts) > len(named):
            named.append(layout)
    stream, layout = stream_of[inverse], layout_of[inverse]
    if len(stream) < len(m.setting):
        stream, layout = np.zeros(len(m.setting), np.int32), np.zeros(len(m.setting), np.int32)
    seq, time_us, late_us, value_start = m.seq, m.time_us, m.late_us, m.value_start
    texts = m.texts
    if grouped:
        message, seq, time_us, late_us, value_start = _expand(m, group, period, per)
        stream, layout, frames = stream[message], layout[message], frames[message]
        first = np.cumsum(group) - group
        nth = texts.position // per[texts.record]
        texts = texts_of(first[texts.record] + nth, texts.position - nth * per[texts.record], texts.text)
    return Records(
        streams=list(streams),
        layouts=named,
        contexts=[],
        stream=stream,
        layout=layout,
        context=np.full(len(seq), -1, np.int32),
        seq=seq,
        time_us=time_us,
        late_us=late_us,
        frame=frames,
        value_start=value_start,
        values=m.values,
        texts=texts,
        timed=[False] * len(streams),
        period_us=periods,
    )


def fault_detail(fault: int, m: Messages, i: int, settings: Settings, stime: bytes) -> str:
    """Say what was found in message ``i`` and what was expected."""
    setting = settings.all[int(m.setting[i])]
    at = f"S6F1 TRID {setting.key.trace} SMPLN {int(m.seq[i])}"
    found = int(m.positions[i])
    details = {
        MISGROUPED: f"{at}: {found} values don't divide by the group (REPGSZ) {setting.group}",
        MISCOUNTED: f"{at}: {found} values, but {setting.count} sensors x group {setting.group} are configured",
        BAD_TIME: f"{at}: STIME {plain_text(stime[:48])!r} is no time of 12, 14 or 16 digits or of the form YYYY-MM-DDThh:mm:ss",
        UNTIMED: f"{at}: no period is configured or learned to derive the time from",
        BAD_SEQ: f"{at}: the group's first SMPLN is below the 64-bit range",
    }
    return details[fault]
