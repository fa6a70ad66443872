"""Why an HSMS frame or region is rejected: the kernels' codes, the reason that is stored, and the sentence that explains it."""

from __future__ import annotations

from kernels import secs_items as codes

REASONS: dict[int, tuple[str, str]] = {
    codes.BAD_LENGTH: (
        "bad_length",
        "frame length {found} at byte {at}; a frame holds a 10-byte header at least and ends within the payload",
    ),
    codes.FRAME_TOO_LARGE: ("too_large", "frame length {found} at byte {at} is over limits.frame_bytes {limit}"),
    codes.BAD_HEADER: (
        "bad_header",
        "header byte(s) {found:#x} at byte {at}: PType must be 0, SType one of 0-7 and 9, a bare header's session below 0x8000",
    ),
    codes.UNDEFINED_FORMAT: ("bad_item", "format byte {found:#04x} at byte {at} is no SECS-II format"),
    codes.NO_LENGTH_BYTES: ("bad_item", "format byte {found:#04x} at byte {at} has no length bytes"),
    codes.PAST_END: ("bad_item", "the item at byte {at} needs {found} bytes, {limit} are left in its frame"),
    codes.NOT_MULTIPLE: ("bad_item", "the item at byte {at} is {found} bytes long, no multiple of its element's {limit}"),
    codes.TOO_MANY_CHILDREN: ("bad_item", "the list at byte {at} claims {found} children, {limit} bytes are left in its frame"),
    codes.CHILDREN_OVER_LIMIT: ("too_large", "the list at byte {at} has {found} children, limits.children is {limit}"),
    codes.TOO_DEEP: ("too_deep", "the list at byte {at} is nested {found} deep, limits.depth is {limit}"),
    codes.TRAILING_BYTES: ("trailing_bytes", "{found} bytes follow the body's only item at byte {at}"),
    codes.BUDGET_SPENT: ("resync", "the check of the frame at byte {at} was given up: too many items were walked in vain before it"),
    codes.BAD_SHAPE: ("bad_shape", "S{stream}F{function}: the body at byte {at} has not the message's shape"),
    codes.TORN: ("incomplete_tail", "the payload ends {limit} bytes after the start of a frame of length {found}"),
}
"""``found``, ``limit`` and ``at`` are what the kernel's fault holds."""


def explain(code: int, at: int, found: int, limit: int) -> tuple[str, str]:
    """Return (reason, detail) of a kernel's code."""
    reason, template = REASONS[code]
    if code == codes.TORN and found < 0:
        return reason, f"the payload ends {limit} bytes after the start of a frame, within its length"
    return reason, template.format(at=at, found=found, limit=limit, stream=found >> 8, function=found & 0xFF)
