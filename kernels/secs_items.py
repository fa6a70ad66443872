"""SECS-II items (SEMI E5): the table of formats and the check that a body is exactly one sound item.

Codes of faults are small integers; ``fault`` receives (offset, what was found, the limit, items walked). Offsets are indices
into the buffer. Every read is preceded by a comparison with ``stop``, and ``stop <= len(buf)``.
"""

from __future__ import annotations

import numpy as np

from kernels.jit import inlined, leaf
from kernels.loads import be16

OK = 0
BAD_LENGTH = 1
FRAME_TOO_LARGE = 2
BAD_HEADER = 3
UNDEFINED_FORMAT = 4
NO_LENGTH_BYTES = 5
PAST_END = 6
NOT_MULTIPLE = 7
TOO_MANY_CHILDREN = 8
CHILDREN_OVER_LIMIT = 9
TOO_DEEP = 10
TRAILING_BYTES = 11
BUDGET_SPENT = 12
BAD_SHAPE = 13
TORN = 14
NO_VALUES = 15
"""A sound S6F1 without values: nothing to record."""
NO_SPACE = 16
"""An output buffer is full: not a fault of the input."""

LIST, TEXT, JIS, LOCALIZED, BINARY, BOOLEAN, SIGNED, UNSIGNED, FLOAT = 1, 2, 3, 4, 5, 6, 7, 8, 9

FORMATS = (  # octal format code, kind, element width in bytes
    (0o00, LIST, 1),
    (0o10, BINARY, 1),
    (0o11, BOOLEAN, 1),
    (0o20, TEXT, 1),
    (0o21, JIS, 1),
    (0o22, LOCALIZED, 1),
    (0o30, SIGNED, 8),
    (0o31, SIGNED, 1),
    (0o32, SIGNED, 2),
    (0o34, SIGNED, 4),
    (0o40, FLOAT, 8),
    (0o44, FLOAT, 4),
    (0o50, UNSIGNED, 8),
    (0o51, UNSIGNED, 1),
    (0o52, UNSIGNED, 2),
    (0o54, UNSIGNED, 4),
)

KIND = np.zeros(256, np.uint8)
"""Kind by format byte (code << 2 | number of length bytes); 0 where E5 defines none."""
WIDTH = np.ones(256, np.int64)
for _code, _kind, _width in FORMATS:
    KIND[_code << 2 : (_code << 2) + 4] = _kind
    WIDTH[_code << 2 : (_code << 2) + 4] = _width

FAULT = 4
"""Length of a ``fault`` array."""


@inlined
def item_header(buf, p, stop):
    """Return (fault code, offset of the item's content, its length field) of the item at ``p``."""
    if p + 2 > stop:
        return PAST_END, p, np.int64(2)
    form = np.int64(buf[p])
    if KIND[form] == 0:
        return UNDEFINED_FORMAT, p, form
    count = form & 3
    if count == 0:
        return NO_LENGTH_BYTES, p, form
    if count == 1:
        return OK, p + 2, np.int64(buf[p + 1])
    if p + 1 + count > stop:
        return PAST_END, p, 1 + count
    length = np.int64(be16(buf, p + 1))
    if count == 3:
        length = length << 8 | np.int64(buf[p + 3])
    return OK, p + 1 + count, length


@inlined
def content_fault(form, content, length, stop, max_children):
    """Return the fault of an item whose header was read, or OK: the content fits, in whole elements."""
    kind = KIND[form]
    if kind == LIST:
        if 2 * length > stop - content:
            return TOO_MANY_CHILDREN
        return CHILDREN_OVER_LIMIT if length > max_children else OK
    if length > stop - content:
        return PAST_END
    if length & (WIDTH[form] - 1) != 0 or (kind == LOCALIZED and length == 1):
        return NOT_MULTIPLE
    return OK


@leaf
def check_item(buf, start, stop, max_depth, max_children, budget, stack, fault):
    """Return OK where ``buf[start:stop]`` is exactly one sound item, else the code of the first fault met.

    ``stack`` holds at least ``max_depth`` + 1 int64; at most ``budget`` items are walked.
    """
    p = start
    depth = 0
    pending = np.int64(1)
    items = np.int64(0)
    code = OK
    found = np.int64(0)
    limit = np.int64(0)
    while True:
        while pending == 0 and depth > 0:
            depth -= 1
            pending = stack[depth]
        if pending == 0:
            break
        if items >= budget:
            code, found, limit = BUDGET_SPENT, items, budget
            break
        items += 1
        pending -= 1
        code, content, length = item_header(buf, p, stop)
        if code != OK:
            found, limit = length, stop - p
            break
        form = np.int64(buf[p])
        code = content_fault(form, content, length, stop, max_children)
        if code != OK:
            found = length
            limit = max_children if code == CHILDREN_OVER_LIMIT else WIDTH[form] if code == NOT_MULTIPLE else stop - content
            break
        if KIND[form] != LIST:
            p = content + length
            continue
        if depth >= max_depth:
            code, found, limit = TOO_DEEP, np.int64(depth + 1), max_depth
            break
        stack[depth] = pending
        depth += 1
        pending = length
        p = content
    if code == OK and p != stop:
        code, found, limit = TRAILING_BYTES, stop - p, np.int64(0)
    fault[0] = p
    fault[1] = found
    fault[2] = limit
    fault[3] = items
    return code
