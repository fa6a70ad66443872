"""HSMS captures: SEMI E37 frames with SECS-II bodies, decoded a buffer at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from ingest.config import Limits, Model
from ingest.dictionary import Dictionary
from ingest.hsms_events import EventReader
from ingest.hsms_frames import FrameWalker, Stretch
from ingest.hsms_held import Anchor, Dated, Waiting
from ingest.hsms_reasons import explain
from ingest.hsms_records import SOUND, WHY, Messages, fault_detail, faults_of, messages_of, records_of
from ingest.hsms_settings import Settings
from ingest.items import read
from ingest.records import Decoded, Int64, Rejected
from kernels import secs
from kernels.secs_text import EMPTY

Bytes = npt.NDArray[np.uint8]
SCAN_BYTES = 1 << 18
"""What is added to the buffer at a time out of step, where nothing says how much is needed."""


def _array(data: bytes | bytearray | memoryview) -> Bytes:
    """Return the bytes as a read-only array: one type for the kernels, whatever the buffer is."""
    array = np.frombuffer(data, np.uint8)
    array.flags.writeable = False
    return array


class HsmsDecoder:
    """Decodes one payload of one tool (``ingest.records.Decoder``).

    ``captured`` may hold the chamber that the source's path gave; lot, wafer and the like come from events only. ``dictionary`` is
    extended by the dictionary messages of the payload, from where they stand. With ``reuse`` the values of each ``Decoded`` hold until
    the next one is asked for.
    """

    def __init__(
        self,
        tool: str,
        captured: Mapping[str, str],
        model: Model | None,
        dictionary: Dictionary,
        limits: Limits,
        *,
        reuse: bool = False,
    ) -> None:
        self.dictionary = dictionary.copy()
        self._before = dictionary.to_json()
        self._tool = tool
        self._zone = model.timezone if model is not None else "UTC"
        chamber = captured.get("chamber")
        self._limits = limits
        self._walker = FrameWalker(limits, reuse=reuse)
        self._settings = Settings(tool, chamber, model, self.dictionary)
        self._events = EventReader(tool, chamber, model, self.dictionary, limits)
        self._waiting = Waiting()
        self._pending = bytearray()
        self._base = 0
        """Where in the payload the current buffer begins."""
        self._needed = 0
        self._bytes_in = 0
        self._bytes_out = 0

    @property
    def learned(self) -> bool:
        """Whether the payload changed the dictionary."""
        return self.dictionary.to_json() != self._before

    def feed(self, data: bytes) -> Iterator[Decoded]:
        """Take the next bytes of the payload; yield what became whole."""
        self._bytes_in += len(data)
        rest = memoryview(data)
        while rest:
            if not self._pending:
                yield from self._drain(_array(rest), final=False)
                self._pending += rest[self._drop() :]
                return
            # Only the frame that straddles the cut is copied; out of step there's no telling how much will do.
            missing = self._needed - len(self._pending)
            take = max(missing, SCAN_BYTES) if self._walker.scanning else missing
            self._pending += rest[: max(take, 1)]
            rest = rest[max(take, 1) :]
            if len(self._pending) >= self._needed:
                yield from self._drain(_array(self._pending), final=False)
                del self._pending[: self._drop()]

    def finish(self) -> Iterator[Decoded]:
        """Yield the rest, a torn tail as one rejected span: the payload has ended."""
        yield from self._drain(_array(self._pending), final=True)
        for part in self._emit_dated(self._waiting.finish()):
            yield self._counted(part)
        if self._bytes_out != self._bytes_in:
            raise AssertionError(f"frames, rejected and other bytes come to {self._bytes_out}, the payload has {self._bytes_in}")

    def _drop(self) -> int:
        """Forget the bytes of the buffer that are done with; return how many."""
        count = self._walker.kept_from
        self._walker.drop(count)
        self._needed = int(self._walker.state[secs.NEEDED])
        self._base += count
        return count

    def _drain(self, buf: Bytes, final: bool) -> Iterator[Decoded]:
        """Decode all that ``buf`` holds: stretch by stretch, and then the events of all of them at once."""
        events: list[Int64] = []
        while True:
            why, stretch = self._walker.run(buf, final)
            if stretch:
                kinds = stretch.spans[secs.SPAN_KIND]
                if (kinds <= secs.ALARM).any():
                    events.append(stretch.spans[:, kinds <= secs.ALARM])
                dated: list[Dated] = []
                decoded = self._decode(stretch, buf, dated)
                for part in (decoded, *self._emit_dated(dated)):
                    part.more = bool(events)
                    yield self._counted(part)
            if events and why != secs.FULL:
                yield self._counted(self._read_events(np.concatenate(events, axis=1), buf))
                events.clear()
            if why == secs.LEARN:
                self._learn(stretch, buf)
            elif why in (secs.NEED, secs.END):
                return

    def _counted(self, decoded: Decoded) -> Decoded:
        frames = int((decoded.frame_stop - decoded.frame_start).sum())
        self._bytes_out += frames + decoded.other_bytes + sum(r.stop - r.start for r in decoded.rejected)
        return decoded

    def _learn(self, stretch: Stretch, buf: Bytes) -> None:
        start, stop = stretch.spans[: secs.SPAN_STOP + 1, -1].tolist()
        message = int.from_bytes(buf[start + 6 : start + 8].tobytes(), "big") & 0x7FFF
        self.dictionary.learn(message, read(buf[start + secs.FRAME : stop].tobytes()))
        self._settings.forget()
        self._events.forget()

    def _rejected(self, start: int, stop: int, reason: str, detail: str, data: bytes) -> Rejected:
        return Rejected(start, stop, reason, detail, data, self._tool)

    def _spans(self, spans: Int64, buf: Bytes) -> list[Rejected]:
        """Return the rejected regions."""
        rejected = []
        for start, stop, _, code, at, found, limit in spans.T.tolist():
            reason, detail = explain(code, self._base + at, found, limit)
            rejected.append(self._rejected(self._base + start, self._base + stop, reason, detail, buf[start:stop].tobytes()))
        return rejected

    def _read_events(self, spans: Int64, buf: Bytes) -> Decoded:
        """Return the events; reject those whose time can't be read."""
        found = self._events.read(buf, spans)
        rejected = []
        for bad in found.bad:
            data = buf[bad.start : bad.stop].tobytes()
            rejected.append(self._rejected(self._base + bad.start, self._base + bad.stop, "bad_time", bad.detail, data))
        return Decoded(found.starts + self._base, found.stops + self._base, None, found.columns, rejected, 0, 0)

    def _decode(self, stretch: Stretch, buf: Bytes, dated: list[Dated]) -> Decoded:
        """Return all of a stretch but its events."""
        kinds = stretch.spans[secs.SPAN_KIND]
        rejected = self._spans(stretch.spans[:, kinds == secs.REJECTED], buf)
        messages, flag = messages_of(stretch, buf, self._base, self._settings, self._walker.traces, self._zone)
        keep = self._judge(messages, flag, buf, rejected, dated)
        if keep is not None:
            messages = messages.select(keep)
        rejected.sort(key=lambda r: r.start)
        records = records_of(messages, self._settings, np.arange(len(messages.start))) if len(messages.start) else None
        return Decoded(messages.start, messages.stop, records, None, rejected, stretch.other_bytes, stretch.other_frames)

    def _judge(
        self, messages: Messages, flag: Int64, buf: Bytes, rejected: list[Rejected], dated: list[Dated]
    ) -> npt.NDArray[np.bool_] | None:
        """Tell which messages are records now (None: all); reject the faulty, hold those without a time."""
        fault = faults_of(messages, flag, self._settings)
        if not self._waiting.traces and (fault is None or not (fault.any() or (flag == EMPTY).any())):
            self._anchor(messages)
            return None
        if fault is None:
            fault = np.zeros(len(flag), np.int8)
        for i in np.flatnonzero(fault).tolist():
            start, stop = int(messages.start[i]), int(messages.stop[i])
            frame = buf[start - self._base : stop - self._base].tobytes()
            detail = fault_detail(int(fault[i]), messages, i, self._settings, frame)
            rejected.append(self._rejected(start, stop, WHY[int(fault[i])], detail, frame))
        sound = fault == SOUND
        empty = flag == EMPTY
        held = sound & empty
        if held.any() or self._waiting.traces:
            self._wait(messages, sound, held, buf, rejected, dated)
        else:
            self._anchor(messages, sound)
        keep: npt.NDArray[np.bool_] = sound & ~empty
        return keep

    def _anchor(self, m: Messages, sound: npt.NDArray[np.bool_] | slice = slice(None)) -> None:
        self._waiting.anchor_all(m.trace[sound], m.seq[sound], m.time_us[sound], m.late_us[sound])

    def _wait(
        self,
        messages: Messages,
        sound: npt.NDArray[np.bool_],
        held: npt.NDArray[np.bool_],
        buf: Bytes,
        rejected: list[Rejected],
        dated: list[Dated],
    ) -> None:
        """Go through the messages of a stretch that holds some without a time, in payload order."""
        period = self._settings.columns(messages.setting)[1]
        for i in np.flatnonzero(sound).tolist():
            trace, seq = int(messages.trace[i]), int(messages.seq[i])
            if not held[i]:
                dated += self._waiting.anchor(trace, Anchor(seq, int(messages.time_us[i]), int(messages.late_us[i])))
                continue
            start = int(messages.start[i])
            frame = buf[start - self._base : int(messages.stop[i]) - self._base].tobytes()
            if not self._waiting.hold(start, frame, trace, int(messages.setting[i]), seq, int(period[i])):
                detail = f"S6F1 SMPLN {seq}: too many bytes without a time wait before it"
                rejected.append(self._rejected(start, start + len(frame), "no_time", detail, frame))

    def _emit_dated(self, dated: list[Dated]) -> Iterator[Decoded]:
        """Yield frames that were held: decoded again, with the times that were derived."""
        hopeless = [d.held for d in dated if d.time_us is None]
        if hopeless:
            detail = "S6F1 SMPLN {}: STIME is empty and no record of the trace near it has a time"
            spans = [self._rejected(h.start, h.start + len(h.frame), "no_time", detail.format(h.seq), h.frame) for h in hopeless]
            none = np.empty(0, np.int64)
            yield Decoded(none, none, None, None, spans, 0, 0)
        left = [d for d in dated if d.time_us is not None]
        if not left:
            return
        walker = FrameWalker(self._limits)
        buf = _array(b"".join(d.held.frame for d in left))
        while left:
            _, stretch = walker.run(buf, True)
            count = stretch.messages.shape[1]
            some, left = left[:count], left[count:]
            messages, _ = messages_of(stretch, buf, 0, self._settings, self._walker.traces, "UTC")
            messages.setting = np.array([d.held.setting for d in some], np.int64)
            messages.start = np.array([d.held.start for d in some], np.int64)
            messages.stop = messages.start + np.array([len(d.held.frame) for d in some], np.int64)
            messages.time_us = np.array([d.time_us for d in some], np.int64)
            messages.late_us = np.array([d.late_us for d in some], np.int64)
            records = records_of(messages, self._settings, np.arange(count))
            yield Decoded(messages.start, messages.stop, records, None, [], 0, 0)
