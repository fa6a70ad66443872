"""HSMS frames (SEMI E37) of one buffer: what each is, the values of its S6F1, and the way back into step after damage.

``walk`` goes on from where ``state`` says and stops when it needs more bytes, more room, or the caller (a dictionary message
changes what follows). It never looks at a byte twice in step; out of step each candidate's walk is paid from a credit that grows
with the bytes passed, so that hostile input costs linear time. What the credit is depends on the payload alone and not on how it
was cut, so the result is the same for any cut.
"""

from __future__ import annotations

import numpy as np

from kernels.jit import inlined, leaf, lean_kernel
from kernels.loads import be16, be32
from kernels.secs_items import (
    BAD_HEADER,
    BAD_LENGTH,
    BAD_SHAPE,
    FRAME_TOO_LARGE,
    KIND,
    NO_SPACE,
    NO_VALUES,
    OK,
    TORN,
    check_item,
    content_fault,
    item_header,
)
from kernels.secs_shapes import SMPLN, STIME, STIME_STOP, VALUES, s5f1_shape, s6f1_head, s6f11_shape
from kernels.secs_text import parse_stime
from kernels.secs_traces import trace_number
from kernels.secs_values import decode_values, f4_list

PREFIX, HEADER = 4, 10
FRAME = PREFIX + HEADER
"""The smallest frame."""

S6F1, S6F11, S5F1, S1F12, S2F23, S2F33, S2F35 = 0x0601, 0x060B, 0x0501, 0x010C, 0x0217, 0x0221, 0x0223
HEADER_ONLY = (0x0101, 0x010F, 0x0111, 0x0211)
"""S1F1, S1F15, S1F17, S2F17: what a scan believes without a body; aborts (function 0) as well."""

NEED, FULL, LEARN, GROW, END = 0, 1, 2, 3, 4
"""Why ``walk`` stopped: more bytes, room in messages, values, sides or spans, a dictionary message (the last span), room for
traces, the end of the payload."""

STATE = 17
(
    MODE,
    POS,
    REGION,
    CODE,
    FAULT_AT,
    FOUND,
    LIMIT,
    CREDIT,
    MESSAGES,
    VALUES_USED,
    SIDES,
    SPANS,
    OTHER_BYTES,
    OTHER_FRAMES,
    NEEDED,
    TRACES,
    NARROW,
) = range(STATE)
"""Fields of ``state``. MODE is 1 out of step: then bytes from REGION to POS are rejected with CODE and its fault. NEEDED: how long
the buffer must be before another call can do more. NARROW is 1 while every value was a single F4 of a list: they are in ``narrow``."""

MESSAGE = 8
START, STOP, TRACE, SEQ, TIME, FLAG, VALUE_START, POSITIONS = range(MESSAGE)
"""Rows of ``messages``, one column per S6F1."""

SPAN = 7
SPAN_START, SPAN_STOP, SPAN_KIND, SPAN_CODE, SPAN_FAULT_AT, SPAN_FOUND, SPAN_LIMIT = range(SPAN)
EVENT, ALARM, DICTIONARY, REJECTED = 1, 2, 3, 4
"""Rows of ``spans``, one column per frame that the caller reads itself or region that is rejected."""

FIRST_CREDIT = 1 << 23
MOST_CREDIT = 1 << 26
CREDIT_PER_BYTE = 16
"""Items that candidate walks may cost: enough at once for the longest frame that a limit of 16 MiB lets in."""


@leaf
def _sound_control(stype):
    return 1 <= stype <= 7 or stype == 9


@leaf
def _add_span(spans, count, start, stop, kind, code, fault):
    spans[SPAN_START, count] = start
    spans[SPAN_STOP, count] = stop
    spans[SPAN_KIND, count] = kind
    spans[SPAN_CODE, count] = code
    spans[SPAN_FAULT_AT, count] = fault[0]
    spans[SPAN_FOUND, count] = fault[1]
    spans[SPAN_LIMIT, count] = fault[2]


@leaf
def _add_region(spans, count, state, stop, code):
    spans[SPAN_START, count] = state[REGION]
    spans[SPAN_STOP, count] = stop
    spans[SPAN_KIND, count] = REJECTED
    spans[SPAN_CODE, count] = code
    spans[SPAN_FAULT_AT, count] = state[FAULT_AT]
    spans[SPAN_FOUND, count] = state[FOUND]
    spans[SPAN_LIMIT, count] = state[LIMIT]


@inlined
def header_fault(buf, p, length, fault):
    """Return the fault of the header of the frame at ``p`` by the rule in step, or OK."""
    ptype = np.int64(buf[p + 8])
    stype = np.int64(buf[p + 9])
    fault[0] = p
    fault[2] = 0
    if ptype != 0:
        fault[0], fault[1] = p + 8, ptype
        return BAD_HEADER
    if stype != 0:
        fault[0], fault[1] = p + 9, stype
        if not _sound_control(stype):
            return BAD_HEADER
        fault[0], fault[1], fault[2] = p, length, HEADER
        return OK if length == HEADER else BAD_LENGTH
    session = np.int64(be16(buf, p + 4))
    fault[0], fault[1] = p + 4, session
    return BAD_HEADER if length == HEADER and session >= 0x8000 else OK


@leaf
def shape_of(buf, message, start, stop, max_children, head):
    """Return OK where the sound body has its message's shape (or the message is none of ours)."""
    if message == S6F1:
        code = s6f1_head(buf, start, stop, max_children, head)
        return OK if code == NO_VALUES else code
    if message == S6F11:
        return s6f11_shape(buf, start, stop)
    if message == S5F1:
        return s5f1_shape(buf, start, stop)
    return OK


WAIT = -1


@leaf
def candidate(buf, p, size, final, limits, credit, stack, head, fault):
    """Return OK where a whole frame at ``p`` is sound by the strict rule of a scan, WAIT where more bytes must tell.

    ``fault[3]`` holds the items walked; ``fault[1]`` how many bytes WAIT needs. At least FRAME bytes lie at ``p``.
    """
    fault[3] = 0
    length = np.int64(be32(buf, p))
    if length < HEADER or length > limits[0] or buf[p + 8] != 0:
        return BAD_LENGTH
    session = np.int64(be16(buf, p + 4))
    stype = np.int64(buf[p + 9])
    if stype != 0:
        return OK if _sound_control(stype) and session == 0xFFFF and length == HEADER else BAD_HEADER
    message = np.int64(be16(buf, p + 6)) & 0x7FFF
    if session >= 0x8000 or message < 0x0100:
        return BAD_HEADER
    if length == HEADER:
        known = message & 0xFF == 0
        for other in HEADER_ONLY:
            known = known or message == other
        return OK if known else BAD_HEADER
    stop = p + PREFIX + length
    if stop > size and final:
        return BAD_LENGTH
    start = p + FRAME
    if start < size and (KIND[buf[start]] == 0 or buf[start] & 3 == 0):
        return BAD_HEADER
    if stop > size:
        if start + 4 <= size:
            code, content, count = item_header(buf, start, size)
            if code != OK or content_fault(np.int64(buf[start]), content, count, stop, limits[2]) != OK:
                return BAD_HEADER
        fault[1] = stop
        return WAIT
    code = check_item(buf, start, stop, limits[1], limits[2], credit, stack, fault)
    if code != OK:
        return code
    return shape_of(buf, message, start, stop, limits[2], head)


@leaf
def _scan(buf, final, limits, state, spans, stack, head, fault):
    """Go on out of step; return OK when a frame was found at state[POS], else why it stopped."""
    size = len(buf)
    p = state[POS]
    credit = state[CREDIT]
    while True:
        if p + FRAME > size:
            state[POS], state[CREDIT], state[NEEDED] = p, credit, p + FRAME
            return END if final else NEED
        code = candidate(buf, p, size, final, limits, credit, stack, head, fault)
        if code == WAIT:
            state[POS], state[CREDIT], state[NEEDED] = p, credit, fault[1]
            return NEED
        if code == OK:
            state[POS], state[CREDIT] = p, credit
            return -1
        if p - state[REGION] >= limits[0] and state[CODE] != TORN:
            if state[SPANS] >= spans.shape[1]:
                state[POS], state[CREDIT] = p, credit
                return FULL
            _add_region(spans, state[SPANS], state, p, state[CODE])
            state[SPANS] += 1
            state[REGION] = p
        credit = min(credit - fault[3] + CREDIT_PER_BYTE, MOST_CREDIT)
        p += 1


@lean_kernel
def walk(buf, final, limits, state, messages, values, narrow, sides, spans, stack, head, fault, pool, starts, slots, small, scratch):
    """Decode the frames of ``buf`` (uint8, read-only) from state[POS] on; return why it stopped.

    ``limits``: frame bytes, depth, children. ``messages`` (MESSAGE, capacity), ``sides`` (SIDE, capacity) and ``spans`` (SPAN,
    capacity) int64, ``values`` float64, ``narrow`` float32, which may be the same memory; the rest is room to work in and the table of
    traces. All offsets count from buf[0].
    """
    size = len(buf)
    while True:
        if state[MODE] == 1:
            why = _scan(buf, final, limits, state, spans, stack, head, fault)
            if why in (NEED, FULL):
                return why
            if state[SPANS] >= spans.shape[1]:
                return FULL
            end = size if why == END else state[POS]
            code = state[CODE] if state[CODE] != TORN or why == END else BAD_LENGTH
            _add_region(spans, state[SPANS], state, end, code)
            state[SPANS] += 1
            state[MODE] = 0
            state[POS] = end
        p = state[POS]
        if p == size and final:
            return END
        if state[SPANS] >= spans.shape[1] or state[MESSAGES] >= messages.shape[1]:
            return FULL
        length = np.int64(0)
        code = OK
        if p + PREFIX <= size:
            length = np.int64(be32(buf, p))
            fault[0], fault[1] = p, length
            if length < HEADER:
                code, fault[2] = BAD_LENGTH, HEADER
            elif length > limits[0]:
                code, fault[2] = FRAME_TOO_LARGE, limits[0]
            elif p + FRAME <= size:
                code = header_fault(buf, p, length, fault)
        else:
            length = np.int64(HEADER)
        stop = p + PREFIX + length
        if code == OK and stop > size:
            if not final:
                state[NEEDED] = stop if p + FRAME <= size else p + FRAME
                return NEED
            code = TORN
            fault[0], fault[1], fault[2] = p, length if p + PREFIX <= size else -1, size - p
        if code == OK and (length == HEADER or buf[p + 9] != 0):
            message = np.int64(be16(buf, p + 6)) & 0x7FFF
            if buf[p + 9] == 0 and (message in (S6F1, S6F11, S5F1)):
                fault[0], fault[1], fault[2] = p + FRAME, message, 0
                _add_span(spans, state[SPANS], p, stop, REJECTED, BAD_SHAPE, fault)
                state[SPANS] += 1
            else:
                state[OTHER_BYTES] += stop - p
                state[OTHER_FRAMES] += 1
        elif code == OK:
            body = p + FRAME
            message = np.int64(be16(buf, p + 6)) & 0x7FFF
            done = False
            afford = message == S6F1 and state[CREDIT] >= length
            if message == S6F1 and not afford:
                afford = check_item(buf, body, stop, limits[1], limits[2], state[CREDIT], stack, fault) == OK
            if afford:
                code = s6f1_head(buf, body, stop, limits[2], head)
                if code == OK:
                    at = state[VALUES_USED]
                    if at + length > len(values):
                        return FULL
                    side = state[SIDES]
                    count = f4_list(buf, head[VALUES], stop, narrow, at) if state[NARROW] == 1 else np.int64(-1)
                    at += max(count, 0)
                    if count < 0:
                        if state[NARROW] == 1 and state[MESSAGES] > 0:
                            return FULL  # what is here stays narrow
                        code, at, side = decode_values(buf, head[VALUES], stop, limits, stack, state[MESSAGES], values, at, sides, side)
                    if code == NO_SPACE:
                        return FULL
                    if code == OK:
                        state[NARROW] = 1 if count >= 0 else 0
                        trace = trace_number(buf, head, state[TRACES], pool, starts, slots, small, scratch)
                        if trace < 0:
                            return GROW
                        if trace == state[TRACES]:
                            state[TRACES] += 1
                        i = state[MESSAGES]
                        flag, time_us = parse_stime(buf, head[STIME], head[STIME_STOP])
                        messages[START, i] = p
                        messages[STOP, i] = stop
                        messages[TRACE, i] = trace
                        messages[SEQ, i] = head[SMPLN]
                        messages[TIME, i] = time_us
                        messages[FLAG, i] = flag
                        messages[VALUE_START, i] = state[VALUES_USED]
                        messages[POSITIONS, i] = at - state[VALUES_USED]
                        state[MESSAGES] += 1
                        state[VALUES_USED] = at
                        state[SIDES] = side
                        done = True
            if not done:
                code = check_item(buf, body, stop, limits[1], limits[2], state[CREDIT], stack, fault)
                if code != OK:
                    state[CREDIT] -= fault[3]
            if not done and code == OK:
                shape = shape_of(buf, message, body, stop, limits[2], head)
                kind = 0
                if shape != OK:
                    kind = REJECTED
                    fault[0], fault[1], fault[2] = body, message, 0
                elif message == S6F11:
                    kind = EVENT
                elif message == S5F1:
                    kind = ALARM
                elif message in (S1F12, S2F23, S2F33, S2F35):
                    kind = DICTIONARY
                if kind in (EVENT, ALARM, REJECTED):
                    _add_span(spans, state[SPANS], p, stop, kind, shape, fault)
                    state[SPANS] += 1
                else:
                    state[OTHER_BYTES] += stop - p
                    state[OTHER_FRAMES] += 1
                if kind == DICTIONARY:
                    _add_span(spans, state[SPANS], p, stop, kind, OK, fault)
                    state[SPANS] += 1
                    state[POS] = stop
                    state[CREDIT] = min(state[CREDIT] + CREDIT_PER_BYTE * (stop - p), MOST_CREDIT)
                    return LEARN
        if code == OK:
            state[POS] = stop
            state[CREDIT] = min(state[CREDIT] + CREDIT_PER_BYTE * (stop - p), MOST_CREDIT)
            continue
        state[MODE] = 1
        state[REGION] = p
        state[CODE] = code
        state[FAULT_AT] = fault[0]
        state[FOUND] = fault[1]
        state[LIMIT] = fault[2]
        state[POS] = p + 1
