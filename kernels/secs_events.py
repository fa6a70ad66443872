"""S6F11 and S5F1 of a stretch in two passes: what tells their plans apart, then their values as the plans say.

A plan is a run of tokens, one per V value of all reports and a last one: what the value is, and the text that stands before it in
``vars``. The bodies have been proven sound and of their message's shape.
"""

from __future__ import annotations

import numpy as np

from kernels.jit import leaf, lean_kernel
from kernels.json_text import ODD, float_at, is_long, put, put_item, put_signed, put_text, put_unsigned, same_as_ascii
from kernels.loads import be32
from kernels.secs import ALARM, FRAME, SPAN_KIND, SPAN_START, SPAN_STOP
from kernels.secs_items import FLOAT, JIS, KIND, LIST, SIGNED, TEXT, UNSIGNED, WIDTH, item_header
from kernels.secs_shapes import signed_at, skip_item, unsigned_at
from kernels.secs_text import parse_int, strip

COLUMN = 9
KEY_STOP, FIRST_FLOAT, HAS_DATAID, DATAID, SYSTEM, VARS_STOP, NAMED_STOP, TIME_START, TIME_STOP = range(COLUMN)
"""Rows of ``columns``, one column per event. The stops are those of the event's bytes in ``keys``, ``out`` and ``named``; the time
is a range of the buffer, -1 where the event must be read by the caller."""

VALUE, LAST, TIME = -1, -2, 0
"""What a token is: a value of ``vars``, the end of them, the time; other names count from 1."""

COUNT_BYTES = 3

_ALCD, _ALID, _ALTX = (np.frombuffer(word, np.uint8) for word in (b'{"ALCD":', b',"ALID":', b',"ALTX":'))
_SET, _CLEARED = np.frombuffer(b',"set":true}', np.uint8), np.frombuffer(b',"set":false}', np.uint8)


@leaf
def _copy(buf, start, stop, out, at):
    for i in range(start, stop):
        out[at + i - start] = buf[i]
    return at + stop - start


@leaf
def _id_number(buf, p, content, length):
    """Return (True, value) of an id that is an integer of int64, else (False, 0)."""
    kind = KIND[buf[p]]
    if length == 0 or kind == LIST:
        return False, np.int64(0)
    if kind in (TEXT, JIS):
        first, last = strip(buf, content, content + length)
        return parse_int(buf, first, last)
    width = np.int64(WIDTH[buf[p]])
    if kind == SIGNED:
        return True, np.int64(signed_at(buf, content, width))
    value = np.int64(unsigned_at(buf, content, width))
    return (True, value) if value >= 0 else (False, np.int64(0))


@leaf
def _gather_floats(buf, start, count, stop, floats, at):
    """Go over ``count`` items from ``start`` on; return (where they end, count of the doubles whose text is long)."""
    p = start
    pending = np.int64(count)
    while pending > 0:
        _, content, length = item_header(buf, p, stop)
        pending -= 1
        if KIND[buf[p]] == LIST:
            pending += length
            p = content
            continue
        if KIND[buf[p]] == FLOAT:
            width = np.int64(WIDTH[buf[p]])
            for q in range(content, content + length, width):
                value = float_at(buf, q, width)
                if is_long(value):
                    floats[at] = value
                    at += 1
        p = content + length
    return p, at


@lean_kernel
def event_heads(buf, spans, columns, keys, floats):
    """Fill the first five ``columns`` of ``n`` events; return (bytes of ``keys``, count of ``floats``) written.

    ``spans`` (SPAN, n) as in ``kernels.secs``, EVENT and ALARM only. A key is empty for an alarm, else the item CEID and, for each
    report, the item RPTID and how many values (3 bytes). ``floats`` are the doubles of all values whose text is long, in order.
    ``keys`` has room for as many bytes as the frames have, ``floats`` for a quarter of that.
    """
    used = np.int64(0)
    count = np.int64(0)
    for i in range(spans.shape[1]):
        frame = spans[SPAN_START, i]
        stop = spans[SPAN_STOP, i]
        columns[SYSTEM, i] = np.int64(be32(buf, frame + FRAME - 4))
        columns[FIRST_FLOAT, i] = count
        columns[HAS_DATAID, i] = 0
        columns[DATAID, i] = 0
        if spans[SPAN_KIND, i] != ALARM:
            _, p, _ = item_header(buf, frame + FRAME, stop)
            _, content, length = item_header(buf, p, stop)
            known, number = _id_number(buf, p, content, length)
            columns[HAS_DATAID, i] = 1 if known else 0
            columns[DATAID, i] = number
            start = content if KIND[buf[p]] == LIST else content + length
            p = skip_item(buf, start, stop)
            used = _copy(buf, start, p, keys, used)
            _, p, reports = item_header(buf, p, stop)
            for _ in range(reports):
                _, start, _ = item_header(buf, p, stop)
                p = skip_item(buf, start, stop)
                used = _copy(buf, start, p, keys, used)
                _, content, values = item_header(buf, p, stop)
                for k in range(COUNT_BYTES):
                    keys[used + k] = (values >> (8 * (COUNT_BYTES - 1 - k))) & 255
                used += COUNT_BYTES
                p, count = _gather_floats(buf, content, values, stop, floats, count)
        columns[KEY_STOP, i] = used
    return used, count


@leaf
def _put_alarm(buf, start, stop, out, at):
    """Write the ``vars`` of an S5F1; return where they end, or ODD."""
    _, p, _ = item_header(buf, start, stop)
    _, content, length = item_header(buf, p, stop)
    code = buf[content]
    at = put_unsigned(out, put(out, at, _ALCD), np.uint64(code))
    at = put(out, at, _ALID)
    p = content + length
    _, content, length = item_header(buf, p, stop)
    known, number = _id_number(buf, p, content, length)
    kind = KIND[buf[p]]
    if known:
        at = put_signed(out, at, number)
    elif kind == UNSIGNED:
        out[at] = 34
        at = put_unsigned(out, at + 1, np.uint64(unsigned_at(buf, content, WIDTH[buf[p]])))
        out[at] = 34
        at += 1
    else:
        first, last = strip(buf, content, content + length)
        if not same_as_ascii(buf, kind, first, last):
            return np.int64(ODD)
        at = put_text(out, at, buf, first, last)
    at = put(out, at, _ALTX)
    p = content + length
    _, content, length = item_header(buf, p, stop)
    if length > 0 and not same_as_ascii(buf, KIND[buf[p]], content, content + length):
        return np.int64(ODD)
    at = put_text(out, at, buf, content, content + length)
    return put(out, at, _SET) if code >= 128 else put(out, at, _CLEARED)


@leaf
def _named_fault(buf, p, length, role):
    """Tell whether the caller must read a named value: the time where it is no text, other names where they are no simple item."""
    kind = KIND[buf[p]]
    if length == 0:
        return False
    if role == TIME:
        return kind not in (TEXT, JIS)
    return kind in (LIST, FLOAT)


@leaf
def _put_report(buf, start, stop, tokens, first, prefixes, prefix_at, texts, text_at, nth, stack, out, at, named, name_at, time):
    """Write what the tokens from ``first`` on say of an S6F11; return where ``out`` and ``named`` end, at ODD where they can't be."""
    _, p, _ = item_header(buf, start, stop)
    p = skip_item(buf, skip_item(buf, p, stop), stop)
    _, p, _ = item_header(buf, p, stop)
    token = first
    left = np.int64(0)
    while True:
        while left == 0 and tokens[token] != LAST:
            _, p, _ = item_header(buf, p, stop)
            _, p, left = item_header(buf, skip_item(buf, p, stop), stop)
        role = tokens[token]
        if role < 0:
            at = _copy(prefixes, prefix_at[token], prefix_at[token + 1], out, at)
        if role == LAST:
            return at, name_at
        if role == VALUE:
            p, at, nth = put_item(buf, p, stop, stack, out, at, texts, text_at, nth)
            if at == ODD:
                return at, name_at
        else:
            _, content, length = item_header(buf, p, stop)
            if _named_fault(buf, p, length, role):
                return np.int64(ODD), name_at
            after = content if KIND[buf[p]] == LIST else content + length
            if role == TIME:
                time[0], time[1] = content, after
            else:
                named[name_at] = role
                name_at = _copy(buf, p, after, named, name_at + 1)
            p = after
        token += 1
        left -= 1


@lean_kernel
def event_values(buf, spans, plans, firsts, tokens, prefixes, prefix_at, texts, text_at, stack, columns, out, named, time):
    """Fill the last four ``columns`` of ``n`` events by their ``plans``; return the bytes of (``out``, ``named``) written.

    ``plans`` (n) index ``firsts``, where a plan's ``tokens`` begin, or are -1 where the caller reads the event; a token's text is
    ``prefixes[prefix_at[t] : prefix_at[t + 1]]``. ``texts``, ``text_at`` and ``stack`` as in ``put_item``. ``out`` receives ``vars``: it
    has room for 8 bytes per byte of the frames and for the prefixes; ``named`` receives role and item of each other name, 2 bytes per
    byte. ``time`` is room for 2.
    """
    at = np.int64(0)
    name_at = np.int64(0)
    for i in range(spans.shape[1]):
        start = spans[SPAN_START, i] + FRAME
        stop = spans[SPAN_STOP, i]
        time[0], time[1] = start, start
        if plans[i] < 0:
            after, name_after = np.int64(ODD), name_at
        elif spans[SPAN_KIND, i] == ALARM:
            after, name_after = _put_alarm(buf, start, stop, out, at), name_at
        else:
            nth = columns[FIRST_FLOAT, i]
            first = firsts[plans[i]]
            after, name_after = _put_report(
                buf, start, stop, tokens, first, prefixes, prefix_at, texts, text_at, nth, stack, out, at, named, name_at, time
            )
        if after == ODD:
            time[0], time[1] = -1, -1
        else:
            at, name_at = after, name_after
        columns[VARS_STOP, i] = at
        columns[NAMED_STOP, i] = name_at
        columns[TIME_START, i] = time[0]
        columns[TIME_STOP, i] = time[1]
    return at, name_at
