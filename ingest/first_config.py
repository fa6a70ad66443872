"""Writes a first configuration from a survey: what was found as keys, what can't be known as comments that say what to fill in."""

from __future__ import annotations

import json

from ingest.config import parse
from ingest.survey import Kind, Survey
from ingest.survey_captures import EventSeen, ToolSeen, TraceSeen
from ingest.survey_tables import TableSeen, TimeSeen

SHOWN = 20
"""Files and values that a comment lists at most."""


def first_config(survey: Survey) -> str:
    """Return the text of a configuration that holds what the survey found; it is valid as it stands."""
    lines = [f"# A first configuration, from a look at {_text(survey.folder.name)[1:-1]}."]
    lines += ["# Correct what is wrong; '?' marks what to fill in. Check it with: loadlock config check FILE", ""]
    for pattern in survey.patterns:
        lines += ["[[sources]]", f"match = {_text(pattern)}   # the folder is taken for the tool", 'format = "hsms"', ""]
    for kind in survey.kinds:
        for pattern in kind.patterns:
            lines += ["[[sources]]", f"match = {_text(pattern)}{_captures(kind)}", 'format = "table"', f"table = {_text(kind.name)}", ""]
    for name, tools in _models(survey).items():
        lines += _model(name, tools, survey.tools[tools[0]])
    for kind in survey.kinds:
        lines += _table(kind)
    if survey.left:
        lines += ["# Not covered by this configuration:"]
        lines += [f"# - {_text(name)[1:-1]}: {_comment(reason)}" for name, reason in survey.left[:SHOWN]]
        lines += [f"# - and {len(survey.left) - SHOWN} more"] if len(survey.left) > SHOWN else []
    text = "\n".join(lines).rstrip("\n") + "\n"
    parse(text, "the configuration just written")  # it must stand as it is
    return text


def _text(value: str) -> str:
    """Return a TOML string."""
    return json.dumps(value.encode("utf-8", "replace").decode(), ensure_ascii=False).replace("\x7f", "\\u007f")


def _comment(value: str) -> str:
    """Return text as it may stand in a comment: on one line, without control characters."""
    return "".join(char if char.isprintable() else "?" for char in value)


def _captures(kind: Kind) -> str:
    guessed = [f"{{{name}}}" for name in sorted(kind.guessed)]
    if not guessed:
        return ""
    return f"   # ? {' and '.join(guessed)}: a guess; say what this part of the path is (tool, chamber, lot, wafer, recipe, step)"


# --- captures


def _models(survey: Survey) -> dict[str, list[str]]:
    """Return a name for each model and its tools: tools that send the same traces and events share one."""
    alike: dict[str, list[str]] = {}
    for tool, seen in survey.tools.items():
        alike.setdefault("\n".join(_model("", [], seen)), []).append(tool)
    return {f"model_{number}": tools for number, tools in enumerate(alike.values(), 1)}


def _model(name: str, tools: list[str], seen: ToolSeen) -> list[str]:
    lines = [f"[models.{name}]", 'timezone = "UTC"   # ? of times without a zone; captures do not say it, e.g. "Europe/Berlin"', ""]
    if seen.partly:
        lines.insert(0, f"# Only the first {seen.files} files were looked at.")
    for trid, trace in sorted(seen.traces.items()):
        lines += [*_trace(name, trid, trace, seen), ""]
    for ceid, event in sorted(seen.events.items(), key=lambda item: int(item[0])):
        lines += [*_event(name, ceid, event), ""]
    for tool in tools:
        lines += [f"[tools.{_text(tool)}]", f"model = {_text(name)}", ""]
    return lines


def _trace(model: str, trid: str, trace: TraceSeen, seen: ToolSeen) -> list[str]:
    learned = seen.dictionary.traces.get(trid)
    lines = [f"[models.{model}.traces.{_text(trid)}]", '# chamber = "A"   # ? the chamber whose trace this is']
    if learned is not None and learned.period_s:
        lines.append(f"period = {learned.period_s!r}   # seconds, as S2F23 asked for")
    elif trace.period_s:
        lines.append(f"# period = {trace.period_s!r}   # ? seconds; measured between messages")
    if learned is not None:
        lines.append(f"group = {max(1, learned.group)}   # REPGSZ, as S2F23 asked for")
    widths = ", ".join(f"{width} ({count} times)" for width, count in trace.widths.most_common(4))
    named = trace.named
    if named is not None:
        lines.append("sensors = [   # as the captures name them (S2F23, S1F12)")
        lines += [_sensor(sensor.name, sensor.unit) for sensor in named]
        return [*lines, "]"]
    if len(trace.widths) > 1 or any(sensor.source == "learned" for layout in trace.layouts for sensor in layout):
        return [*lines, f"# The names or their number change in the captures ({widths} values); they are learned as they come."]
    width = next(iter(trace.widths))
    lines.append(f"# ? {width} values a message, without names. Name them in order; set group where a message holds several samples:")
    return [*lines, f"# sensors = [{', '.join(_text(f'sv{place + 1:04d}') for place in range(min(width, 64)))}{', ...' * (width > 64)}]"]


def _sensor(name: str, unit: str | None) -> str:
    return f"  {{ name = {_text(name)}, unit = {_text(unit)} }}," if unit else f"  {_text(name)},"


def _event(model: str, ceid: str, event: EventSeen) -> list[str]:
    lines = [f"[models.{model}.events.{ceid}]   # seen {event.count} times", '# name = "?"']
    if len(event.widths) == 1 and event.names:
        example = ", ".join(_text(text[:40]) for text in event.examples[0])
        lines += [f"# e.g. {_comment(example)}", "# ? name the values in order: ts, chamber, lot, wafer, recipe, step become context"]
        lines.append(f"values = [{', '.join(map(_text, event.values()))}]")
    return [*lines, '# window = "start"   # ? or "end": whether it opens or closes a window']


# --- tables


def _table(kind: Kind) -> list[str]:
    seen, time = kind.seen, kind.seen.time
    assert time is not None
    lines = [f"[tables.{kind.name}]   # {len(kind.files)} files, e.g. {_comment(str(kind.files[0]))}", *_tool(kind), *_chamber(kind)]
    lines += [*_time(time), *_context(kind)]
    if seen.counter:
        lines.append(f"# seq = {_text(seen.counter)}   # ? counts by ones: a sample number? Without seq the time is the sequence")
    if time.period_s:
        lines.append(f"# period = {time.period_s:.6g}   # ? seconds, measured; with it steps over 1.5 periods are recorded as gaps")
    nameless = not seen.sheet.header or all(name.isdigit() for name in seen.sheet.columns)
    lines.append('sensors = "*"   # every other numeric column:')
    if nameless:
        lines.append("# ? the columns have no names. Name them, and give units:")
        lines += ["# sensors = [", *(f'#   {{ column = {_text(name)}, name = "?", unit = "?" }},' for name in seen.sensors), "# ]"]
    else:
        lines += [f"#   {_comment(name)}" for name in seen.sensors]
    if seen.texts:
        lines.append(f"# columns of text, which are left out: {_comment(', '.join(seen.texts[:SHOWN]))}")
    return [*lines, *_writing(seen), ""]


def _tool(kind: Kind) -> list[str]:
    if kind.seen.tool is not None:
        if kind.seen.tool_is_number:
            return [f'tool = {{ column = {_text(kind.seen.tool)}, prefix = "TOOL" }}   # ? the prefix makes names of its numbers']
        return [f"tool = {{ column = {_text(kind.seen.tool)} }}"]
    if "tool" in kind.captured:
        return ["# the tool is taken from the path"]
    return [f"tool = {_text(kind.name.upper())}   # ? no column names the tool: what is it called?"]


def _chamber(kind: Kind) -> list[str]:
    if kind.seen.chamber is not None:
        return [f"chamber = {_text(kind.seen.chamber)}"]
    return [] if "chamber" in kind.captured else ['# chamber = "A"   # ? a column, or a constant']


def _time(time: TimeSeen) -> list[str]:
    doubt = "" if time.by_name else "   # ? taken for the time because of its values, not its name"
    column = f"column = {_text(time.column)}"
    if time.unit is not None:
        if not time.restarts:
            # an origin without a zone would be local to the tool
            return [f'time = {{ {column}, unit = "{time.unit}", origin = "1970-01-01T00:00Z" }}   # numbers since 1970{doubt}']
        note = "# ? the time counts from a beginning that the files do not name: set unit and origin"
        return [note, f'time = {{ {column}, unit = "{time.unit}", origin = "1970-01-01" }}{doubt}']
    layout = "" if time.layout is None else f", format = {_text(time.layout)}"
    zoned = time.zoned or (time.layout is not None and "%z" in time.layout)
    lines = [f"time = {{ {column}{layout} }}{doubt}"]
    if time.other_layout is not None:
        lines.append(f"# ? is the day first, or the month? {_text(time.other_layout)} would fit as well")
    if not zoned:
        lines.append('# ? these times carry no zone, and are read as UTC; if they are local, add to time: timezone = "Europe/Berlin"')
    return lines


def _context(kind: Kind) -> list[str]:
    seen = kind.seen
    mapped = ", ".join(f"{name} = {_text(column)}" for name, column in seen.context.items())
    lines = [f"context = {{ {mapped} }}"] if mapped else []
    if not mapped and seen.steps:
        lines.append(f"# context = {{ step = {_text(seen.steps[0])} }}   # ? few whole numbers that stand for long: a recipe step?")
    if not mapped and not kind.captured & {"lot", "wafer", "recipe", "step"}:
        lines.append('# context = { wafer = "?" }   # ? no column is named like a lot, wafer, recipe or step: no windows')
    return lines


def _writing(seen: TableSeen) -> list[str]:
    """Return the keys of how the file is written, where the defaults do not do."""
    lines = []
    if seen.missing:
        lines.append(f"missing = [{', '.join(map(_text, ['', 'NaN', *seen.missing]))}]")
    if seen.decimal != ".":
        lines.append(f"decimal = {_text(seen.decimal)}")
    if not seen.sheet.header:
        lines += [f"delimiter = {_text(seen.sheet.delimiter)}", "header = false   # columns by their number, from 0"]
    return lines
