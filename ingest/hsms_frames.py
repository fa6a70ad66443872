"""The kernel ``walk`` with its arrays: buffers in, stretches of columns out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ingest.config import Limits
from ingest.items import plain_text
from ingest.records import Float64, Int64, Samples
from kernels import secs
from kernels.secs_items import FAULT
from kernels.secs_shapes import HEAD
from kernels.secs_traces import SCRATCH, SMALL, rehash
from kernels.secs_values import SIDE

Bytes = npt.NDArray[np.uint8]

MESSAGE_ROOM = 1 << 14
SPAN_ROOM = 1 << 12
SIDE_ROOM = 1 << 14
MOST_VALUES = 1 << 20
"""Values of one stretch where a single frame doesn't need more: 8 MiB, half of it where they are float32."""

_KEPT = (secs.MODE, secs.POS, secs.REGION, secs.CODE, secs.FAULT_AT, secs.FOUND, secs.LIMIT, secs.CREDIT, secs.TRACES, secs.NARROW)
COUNTERS = np.array([row for row in range(secs.STATE) if row not in _KEPT])
"""What of the state starts at 0 at each call; the rest lives on."""


def byte_ranges(buf: Bytes, starts: Int64, stops: Int64) -> pa.BinaryArray:
    """Return ``n`` byte ranges of ``buf`` that ascend without overlap, as an Arrow column."""
    offsets = np.empty(2 * len(starts) + 1, np.int32)
    offsets[:-1:2], offsets[1::2], offsets[-1] = starts, stops, stops[-1] if len(stops) else 0
    both = pa.Array.from_buffers(pa.binary(), 2 * len(starts), [None, pa.py_buffer(offsets), pa.py_buffer(buf)])
    return both.take(pa.array(np.arange(0, 2 * len(starts), 2)))


@dataclass(slots=True)
class Stretch:
    """What one call of ``walk`` came to: columns as ``kernels.secs`` names them; offsets count from the buffer's start."""

    messages: Int64
    values: Samples
    sides: Int64
    spans: Int64
    other_bytes: int
    other_frames: int

    def __bool__(self) -> bool:
        return bool(self.messages.shape[1] or self.spans.shape[1] or self.other_frames)


class FrameWalker:
    """Walks the frames of one payload, buffer by buffer, and numbers its traces.

    With ``reuse`` the values of a stretch hold until the next one only: fresh pages cost more than decoding.
    """

    def __init__(self, limits: Limits, *, reuse: bool = False) -> None:
        self._reuse = reuse
        self._room: Float64 = np.empty(0, np.float64)
        self._limits = np.array([limits.frame_bytes, limits.depth, limits.children], np.int64)
        self.state = np.zeros(secs.STATE, np.int64)
        self.state[secs.CREDIT] = secs.FIRST_CREDIT
        self.state[secs.NARROW] = 1
        self._stack = np.zeros(limits.depth + 1, np.int64)
        self._head = np.zeros(HEAD, np.int64)
        self._fault = np.zeros(FAULT, np.int64)
        self._messages = np.empty((secs.MESSAGE, MESSAGE_ROOM), np.int64)
        self._sides = np.empty((SIDE, SIDE_ROOM), np.int64)
        self._spans = np.empty((secs.SPAN, SPAN_ROOM), np.int64)
        self._least_values = 1 << 12
        self._pool = np.zeros(1 << 12, np.uint8)
        self._starts = np.zeros(1 << 8, np.int64)
        self._slots = np.full(1 << 9, -1, np.int64)
        self._small = np.full(SMALL, -1, np.int64)
        self._scratch = np.zeros(SCRATCH, np.uint8)
        self.traces: list[str] = []
        """The text of each TRID, by its number."""

    @property
    def kept_from(self) -> int:
        """The first byte of the buffer that is still needed."""
        return int(self.state[secs.REGION] if self.state[secs.MODE] else self.state[secs.POS])

    @property
    def scanning(self) -> bool:
        """Whether the walk is out of step."""
        return bool(self.state[secs.MODE])

    def drop(self, count: int) -> None:
        """Let the buffer begin ``count`` bytes later."""
        for row in (secs.POS, secs.REGION, secs.FAULT_AT, secs.NEEDED):
            self.state[row] -= count

    def run(self, buf: np.ndarray[tuple[int], np.dtype[np.uint8]], final: bool) -> tuple[int, Stretch]:
        """Walk on in ``buf``; return why it stopped (NEED, FULL, LEARN or END) and what was found."""
        state = self.state
        state[COUNTERS] = 0
        room = max(min((len(buf) - int(state[secs.POS])) // 4, MOST_VALUES), self._least_values)
        values = self._values(room)
        while True:
            why = int(
                secs.walk(
                    buf,
                    final,
                    self._limits,
                    state,
                    self._messages,
                    values,
                    values.view(np.float32),
                    self._sides,
                    self._spans,
                    self._stack,
                    self._head,
                    self._fault,
                    self._pool,
                    self._starts,
                    self._slots,
                    self._small,
                    self._scratch,
                )
            )
            if why == secs.GROW:
                self._grow_traces()
            elif why == secs.FULL and not (state[secs.MESSAGES] or state[secs.SPANS] or state[secs.OTHER_FRAMES]):
                values = self._grow_room(buf, values)
            else:
                break
        self._name_traces()
        n, used, sides, spans = (int(state[row]) for row in (secs.MESSAGES, secs.VALUES_USED, secs.SIDES, secs.SPANS))
        return why, Stretch(
            self._messages[:, :n].copy(),
            (values.view(np.float32) if state[secs.NARROW] else values)[:used],
            self._sides[:, :sides].copy(),
            self._spans[:, :spans].copy(),
            int(state[secs.OTHER_BYTES]),
            int(state[secs.OTHER_FRAMES]),
        )

    def _values(self, room: int) -> Float64:
        if not self._reuse:
            return np.empty(room, np.float64)
        if len(self._room) < room:
            self._room = np.empty(room, np.float64)
        return self._room[:room]

    def _name_traces(self) -> None:
        for i in range(len(self.traces), int(self.state[secs.TRACES])):
            self.traces.append(plain_text(self._pool[self._starts[i] : self._starts[i + 1]].tobytes()))

    def _grow_room(self, buf: np.ndarray[tuple[int], np.dtype[np.uint8]], values: Float64) -> Float64:
        """Make room for the one frame at POS: no frame has more positions, or sides, than bytes."""
        at = int(self.state[secs.POS])
        length = int.from_bytes(buf[at : at + 4].tobytes(), "big")
        if self._sides.shape[1] < length:
            self._sides = np.empty((SIDE, min(2 * self._sides.shape[1], length)), np.int64)
        return values if len(values) >= length else np.empty(length, np.float64)

    def _grow_traces(self) -> None:
        """Double the table of traces; their numbers stay."""
        self._pool = np.concatenate([self._pool, np.zeros(len(self._pool), np.uint8)])
        self._starts = np.concatenate([self._starts, np.zeros(len(self._starts), np.int64)])
        slots = np.full(2 * len(self._slots), -1, np.int64)
        rehash(int(self.state[secs.TRACES]), self._pool, self._starts, slots)
        self._slots = slots
