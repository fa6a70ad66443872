"""What each key of the configuration means: for the JSON Schema that editors read, and for the page of the reference."""

from __future__ import annotations

from typing import Any

MEANINGS: dict[str, dict[str, str]] = {
    "Config": {
        "sources": "Which files are what; the first pattern that fits wins. Without any, `{tool}/*.hsms` holds.",
        "models": "Tools of one kind: what their traces and events hold.",
        "tools": "Tool, or glob of tools, to its model; exact names come first.",
        "tables": "Mappings of the columns of delimited text, Parquet and Arrow files.",
        "circuit": "When deliveries of a tool, or a dependency, are held off.",
        "approval": "Who must sign before something is destroyed.",
        "lake": "How the lake is written.",
        "maintenance": "When the lake keeps itself in order, and what it keeps.",
        "limits": "Hard limits on every length that is read from outside.",
    },
    "SourceSection": {
        "match": "Pattern of n segments, held against the last n of the path; `**` is none or more folders; "
        "`{tool}` `{chamber}` `{lot}` `{wafer}` `{recipe}` `{step}` capture a segment or a part of one.",
        "format": "`hsms` or `table`.",
        "table": "The mapping in `tables`, for tables.",
    },
    "Model": {
        "timezone": "IANA zone of times without a zone.",
        "traces": "TRID to what the trace holds.",
        "events": "CEID to what the event means.",
    },
    "TraceModel": {
        "chamber": "The chamber that the trace is of.",
        "period": "Seconds between two samples.",
        "group": "REPGSZ: samples per message; SMPLN and STIME are those of the last.",
        "sensors": "Names in the order of the SV list, each a text or `{ name, unit }`. Without it they are learned, or `sv0001`...",
    },
    "EventModel": {
        "name": "What the event is called.",
        "values": "The report's V values in order: `ts`, `chamber`, `lot`, `wafer`, `recipe`, `step` are context, others land in `vars`.",
        "window": "Whether it opens or closes a window; without it, it only sets the context.",
        "chamber": "The chamber that it speaks of, where the report names none.",
    },
    "SensorName": {
        "name": "The sensor's name.",
        "unit": "Its unit.",
        "column": "Its column in a table, or the column's index where there are no names.",
    },
    "ToolSection": {"model": "The model in `models`."},
    "TableSection": {
        "tool": "The tool, as text or from a column; without it the captured one.",
        "chamber": "A column if the file has one of that name, else a constant; or `{ column, prefix }`.",
        "time": "The column of time.",
        "seq": "An integer column that numbers the records; without it the time in microseconds is the sequence.",
        "period": "Seconds: a step over 1.5 of it is a gap, where the time is the sequence.",
        "key": "Columns whose values tell streams apart; without it all context, captured context included.",
        "context": "Context to column: `lot`, `wafer`, `recipe`, `step`. Each distinct context of a chamber is a window.",
        "sensors": '`"*"`: every other numeric column; or a list of `"COLUMN"` and `{ column, name, unit }`.',
        "missing": "Cells that hold no number.",
        "delimiter": "One character; found by itself where not given.",
        "header": "Whether the first line names the columns; found by itself where not given.",
        "quote": "One character, or empty for none.",
        "decimal": "The decimal mark.",
    },
    "ToolColumn": {"column": "The column.", "prefix": "What is put before its value."},
    "TimeColumn": {
        "column": "The column.",
        "unit": "The column holds numbers of this unit since `origin`.",
        "origin": "ISO 8601; without a zone it is local to the tool.",
        "format": "The column holds text of this strptime format.",
        "timezone": "IANA zone of times without a zone.",
    },
    "CircuitSection": {
        "ratio": "Share of quarantined bytes above which a delivery is rubbish; 1.0 switches it off.",
        "conflict_ratio": "Share of conflicting records above which it is; 1.0 switches it off.",
        "minimum_bytes": "A delivery is judged by its shares from this size on,",
        "minimum_frames": "or from this number of frames on.",
        "failures": "Smaller ones are committed and counted: so many in a row open the circuit.",
        "cool_down": "Seconds until one payload is tried; doubled each time that it fails.",
        "cool_down_max": "Seconds that it is doubled to at most.",
        "tools": "Any of these for a tool, or a glob; exact names come first.",
    },
    "ApprovalSection": {
        "threshold": "How many trusted keys must sign a plan.",
        "actions": "Another number for one kind of plan: `purge`, `discard`, `override`.",
        "keys": "Names of the keys that may; without it all trusted ones.",
        "expiry": "Seconds that a plan holds.",
    },
    "LakeSection": {
        "compression_level": "zstd's level.",
        "row_group_rows": "Rows of a row group of traces.",
        "writer": "Of traces: our page writer, or pyarrow's (slower, larger files, the same rows).",
        "batch_bytes": "Delivered bytes after which a group of payloads is committed,",
        "batch_seconds": "or seconds after which it is.",
        "keep_payloads": "Keep the delivered bytes in `LAKE/payloads`, for `audit trace`, `reprocess` and `repair`.",
        "catalog": "Reserved: the URL of a catalog that is not in the lake's folder. Nothing reads it yet.",
        "data": "Reserved: the URI of a data store that is not in the lake's folder. Nothing reads it yet.",
    },
    "MaintenanceSection": {
        "auto": "After an ingest, when due; else only by command.",
        "keep_days": "Days that one snapshot a day is kept.",
        "keep_all_hours": "Hours that all snapshots are kept.",
        "guard_hours": "Age in hours from which files that no snapshot names are removed.",
        "quiet_minutes": "A tool-day is closed when it is over, and nothing came for so long.",
        "commits": "Due again after so many, beside once a day.",
    },
    "Limits": {
        "frame_bytes": "Bytes of an HSMS message.",
        "depth": "Nesting of SECS-II lists.",
        "children": "Items of one list.",
        "line_bytes": "Bytes of one line of text.",
        "columns": "Columns of a table.",
    },
}
"""Model of ``ingest.config`` to key to sentence. ``Overrides`` and ``Thresholds`` share the keys of ``CircuitSection``."""

SHARED = {"Overrides": "CircuitSection", "Thresholds": "CircuitSection"}


def described(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON Schema of the configuration with what each of its keys means."""
    sections = {"Config": schema, **schema.get("$defs", {})}
    for name, section in sections.items():
        known = MEANINGS.get(SHARED.get(name, name), {})
        for key, content in section.get("properties", {}).items():
            if key in known:  # a test sees to it that all are
                content["description"] = known[key]
    return schema
