"""Every reason for which a span goes to quarantine: what was found, and what helps."""

from __future__ import annotations

from typing import NamedTuple


class Reason(NamedTuple):
    """Where it arises (hsms, table, any), what was found, and what to do about it."""

    of: str
    found: str
    remedy: str


NEVER = "The bytes are damaged: look at the logger or the transfer. A replay gives the same."
LIMIT = "Raise the limit in `[limits]` if the data are right, then replay."
ROW = "Correct the mapping if it is wrong, then replay; a bad row stays."

REASONS: dict[str, Reason] = {
    "bad_length": Reason("hsms", "A frame's length is below a header's, or leads beyond the payload.", NEVER),
    "bad_header": Reason("hsms", "The ten header bytes are none of HSMS (PType, SType, session).", NEVER),
    "bad_item": Reason("hsms", "A SECS-II item has an undefined format, no length, or a length that does not fit.", NEVER),
    "bad_shape": Reason(
        "hsms", "A sound body that has not the shape of its message, or a group that begins below the 64-bit range.", NEVER
    ),
    "trailing_bytes": Reason("hsms", "Bytes follow the body's only item.", NEVER),
    "too_deep": Reason("hsms", "Lists are nested deeper than `limits.depth`.", LIMIT),
    "too_large": Reason(
        "hsms", "A frame is longer than `limits.frame_bytes`, or a list than `limits.children`.", LIMIT + " A length made of rubbish stays."
    ),
    "resync": Reason("hsms", "The search for the next sound frame was given up: too many items were walked in vain.", NEVER),
    "incomplete_tail": Reason(
        "any",
        "The payload ends inside a frame or a line.",
        "Ingest the payload that goes on where this one ends, then replay: the two are joined.",
    ),
    "group_mismatch": Reason("hsms", "The values of an S6F1 don't divide by REPGSZ.", "Correct `group` of the trace, then replay."),
    "sensor_count": Reason(
        "hsms",
        "An S6F1 holds another number of values than sensors are configured, times the group.",
        "Correct `sensors` or `group` of the trace, then replay.",
    ),
    "no_time": Reason(
        "any",
        "No time: STIME is empty and no timed record of the payload or no period helps, or the time's cell is empty.",
        "Configure `period`, or name another column as `time`, then replay.",
    ),
    "bad_time": Reason(
        "any", "A time that is none of STIME's forms, or not of the configured unit or format.", "Correct `time` of the table, then replay."
    ),
    "bad_seq": Reason("table", "The cell of `seq` holds no integer.", ROW),
    "bad_row": Reason("table", "A line with another number of cells than the header, or a replayed row that lacks mapped values.", ROW),
    "bad_quote": Reason("table", "A quoted cell is not closed, or something follows its quote.", "Set `quote` of the table, then replay."),
    "bad_text": Reason("table", "A mapped cell is not UTF-8.", ROW),
    "too_long": Reason("table", "A line is longer than `limits.line_bytes`.", LIMIT),
    "no_tool": Reason("table", "The tool's cell is empty.", ROW),
    "circuit_open": Reason(
        "table",
        "The row's tool was held off by its circuit when the table came.",
        "Replay once the circuit is closed ([when a circuit opens](how-to/when-a-circuit-opens.md)).",
    ),
    "bad_parquet": Reason("table", "The file can't be read as Parquet.", NEVER),
    "bad_arrow": Reason("table", "The file can't be read as Arrow IPC.", NEVER),
    "bad_compression": Reason(
        "any",
        "A zstd or gzip stream is damaged, or ends before its end. What came out before is decoded.",
        "Have the file sent again: it is another payload, and what is stored already is found as duplicates.",
    ),
}
"""Reason, as the quarantine stores it, to what it means. A test holds it against what the decoders can say."""
