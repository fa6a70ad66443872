"""What a person reads: receipts, overviews and tables, plain when not on a terminal."""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import IO, Any

from ingest.receipts import Summary

MOST_NAMES = 3
"""Payloads or batches that a receipt names of many that have the same to tell."""

MOST_REASONS = 10


def _line(label: str, text: str) -> None:
    line = f"  {label:<12} {text}"
    width = _width()
    print("\n".join(textwrap.wrap(line, width, subsequent_indent=" " * 15)) if width and len(line) > width else line)


def _width() -> int | None:
    """Return the columns of the terminal that is written to; elsewhere lines are as long as they are."""
    return max(40, shutil.get_terminal_size().columns) if sys.stdout.isatty() else None


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def receipt(summary: Summary, options: argparse.Namespace) -> None:
    """Print a summary as a receipt: what came in, what was kept, what was not and why, what to do next."""
    counts, records, size = summary.payloads, summary.records, summary.bytes
    seen = ", ".join(f"{number:,} {state}" for state, number in counts.items() if number and state != "seen")
    print(
        f"{counts['seen']:,} payload{'' if counts['seen'] == 1 else 's'}: {seen or 'nothing to do'}"
        + (" (dry run: nothing was written)" if getattr(options, "dry_run", False) else "")
    )
    if counts["committed"]:
        _line("in", f"{size['in']:,} bytes, {records['decoded']:,} records")
        _line("kept", f"{records['accepted']:,} records = {summary.samples:,} samples, {summary.events:,} events")
        _line("derived", f"{summary.windows:,} windows, {summary.features:,} feature rows, {summary.gaps:,} gaps open")
        _line("duplicate", f"{records['duplicate']:,} records (seen before, same content)")
        if records["conflict"]:
            _line("conflict", f"{records['conflict']:,} records (same key, other content): select * from conflicts")
        if summary.frames["quarantined"]:
            part = _share(size["quarantined"], size["in"])
            why = ", ".join(
                f"{count:,} {reason}" for reason, count in sorted(summary.reasons.items(), key=lambda item: (-item[1], item[0]))
            )
            _line("quarantined", f"{summary.frames['quarantined']:,} spans, {size['quarantined']:,} bytes ({part}): {why}")
        _line("other", f"{summary.frames['other']:,} frames, {size['other']:,} bytes (understood, no data)")
        total = " + ".join(f"{size[name]:,} {name}" for name in ("accepted", "duplicate", "conflict", "quarantined", "other"))
        _line("balance", f"{size['in']:,} = {total}")
        rate = summary.samples / summary.seconds if summary.seconds else 0
        _line("time", f"{summary.seconds:.2f} s, {rate:,.0f} samples/s, batches {_some(summary.batches)}")
    for line in _left_out(summary):
        print(line)
    advice = _advice(summary, options)
    if advice:
        print(f"next: {advice}")


def _left_out(summary: Summary) -> Iterator[str]:
    """Yield what was refused or deferred and why: payloads of one reason together, the first few by name."""
    together: dict[tuple[str, str], list[str]] = {}
    for item in summary.receipts:
        if item.state in ("refused", "deferred"):
            reason = str(item.reason).replace(f"{item.source}: ", "")
            together.setdefault((item.state, reason), []).append(item.source)
    kinds = list(together.items())
    for (state, reason), sources in kinds[:MOST_REASONS]:
        if len(sources) == 1:
            yield f"  {state} {sources[0]}: {reason}"
            continue
        yield f"  {state} {len(sources):,} payloads: {reason}"
        yield f"    {_some(sources)}{'' if len(sources) <= MOST_NAMES else '; --json names all'}"
    rest = sum(len(sources) for _, sources in kinds[MOST_REASONS:])
    if rest:
        yield f"  and {rest:,} payloads more, for other reasons; --json names all"


def _some(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more:,} more" if more > 0 else "")


def _advice(summary: Summary, options: argparse.Namespace) -> str:
    """Return the next useful command: about what went wrong, the gravest first, else about what came in."""
    lake = f"--lake {shlex.quote(str(getattr(options, 'lake', None)))}"
    if summary.busy:
        return "the same command again"
    if summary.payloads["refused"]:
        return f'deliver it under a key of its own, or undo the first: loadlock retract KEY --reason "..." {lake}'
    if summary.payloads["deferred"]:
        return f"mend what the reason names (loadlock config check FILE; loadlock circuits list {lake}), then the same command again"
    if getattr(options, "dry_run", False):
        return "the same command without --dry-run" if summary.payloads["committed"] else ""
    if summary.frames["quarantined"]:
        return f"loadlock quarantine list {lake}"
    if summary.records["conflict"]:
        return f'loadlock sql "select * from conflicts" {lake}'
    if summary.payloads["committed"]:
        return f'loadlock sql "select tool, trace, count(*) as samples from traces group by all" {lake}'
    return f"loadlock status {lake}" if summary.payloads["replayed"] else ""


def batch_line(summary: Summary, waiting: int, moment: datetime) -> str:
    """Return a batch of ``watch`` on one line: what became of its files, what was kept, what was not, how long it took."""
    states = ", ".join(f"{number} {state}" for state, number in summary.payloads.items() if number and state != "seen")
    parts = [states or "nothing", f"{summary.records['accepted']:,} records, {summary.samples:,} samples"]
    walled = (
        (summary.records["duplicate"], "duplicate"),
        (summary.records["conflict"], "conflicts"),
        (summary.frames["quarantined"], "quarantined"),
        (waiting, "files waiting"),
    )
    parts += [f"{number:,} {name}" for number, name in walled if number]
    parts += sorted({str(receipt.reason) for receipt in summary.receipts if receipt.state in ("refused", "deferred")})[:1]
    return f"{moment:%Y-%m-%d %H:%M:%S} {'; '.join(parts)}; {summary.seconds:.2f} s"


def overview(document: dict[str, Any]) -> None:
    """Print a status document."""
    rows, sizes, last = document["rows"], document["sizes"], document["last_entry"]
    print(f"{document['lake']} (format {document['format_version']})")
    _line("rows", ", ".join(f"{number:,} {name}" for name, number in rows.items() if number))
    _line("payloads", f"{document['payloads']['count']:,}, {document['payloads']['bytes']:,} bytes delivered")
    _line("stored", f"{sizes['bytes']:,} bytes in {sizes['files']:,} files, catalog {sizes['catalog_bytes']:,} bytes")
    _line("quarantine", f"{document['quarantine']['open']:,} open, {document['quarantine']['bytes']:,} bytes")
    _line("last entry", f"{last['seq']} {last['action']} at {last['recorded_at']} UTC")
    for file in document["missing"]:
        places = f"tools {', '.join(file['tools'])}; wafers {', '.join(file['wafers']) or 'none known'}"
        _line("MISSING", f"rows of {file['table']} ({places}) of payloads {', '.join(file['missing_payloads'])}: see loadlock repair")
    if document["features_owed"]:
        _line("owed", f"features of {document['features_owed']:,} windows, made up by one of the next ingests")
    for circuit in document["circuits"]:
        until = "overridden under approval" if circuit["override"] else f"tried again at {circuit['retry_at']} UTC"
        _line(f"circuit {circuit['state']}", f"{circuit['circuit']}: {circuit['reason']}; {until}")
    for jump in document["time_jumps"]:
        _line("time jump", f"{jump['tool']} {jump['trace']} {jump['stream']}: more than a day without data inside an epoch")
    if document["tools"]:
        print()
        tools, width = [_tool(tool) for tool in document["tools"]], _width()
        if width and _wide(tools) > width:  # lag says it, too
            tools = [{name: value for name, value in tool.items() if name != "last sample"} for tool in tools]
        table(tools, "")


def _wide(items: list[dict[str, Any]]) -> int:
    """Return the columns that ``items`` take as a table."""
    return sum(2 + max(len(name), *(len(_cell(item[name])) for item in items)) for name in items[0]) - 2


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    """Return a tool's row for people: times to the second, spans of time in their largest unit."""
    return {
        "tool": tool["tool"],
        "rows": f"{tool['rows']:,}",
        "last sample": (tool["last_ts"] or "")[:19],
        "arrived": f"{span(tool['silent_s'])} ago" if tool["silent_s"] is not None else "",
        "lag": span(tool["lag_s"]),
        "samples/s": f"{tool['samples_per_s']:,.1f}",
        **{name: tool[name] for name in ("gaps", "conflicts", "quarantined", "circuit")},
    }


def span(seconds: float | None) -> str:
    """Return a span of time in its largest whole unit."""
    if seconds is None:
        return ""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if abs(seconds) >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:,.0f} s"


def table(items: list[dict[str, Any]], empty: str) -> None:
    """Print rows as aligned columns."""
    if not items:
        print(empty)
        return
    _aligned(list(items[0]), [[_cell(value) for value in item.values()] for item in items], sys.stdout)


def relation_table(relation: Any, file: IO[str], most: int = 10_000) -> None:
    """Print a query's result as aligned columns, at most ``most`` rows."""
    columns = relation.columns
    rows = relation.fetchmany(most + 1)
    _aligned(columns, [[_cell(value) for value in row] for row in rows[:most]], file)
    if len(rows) > most:
        print(f"... more than {most} rows; --format csv, json or parquet writes all", file=sys.stderr)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bytes):
        return value[:16].hex() + ("..." if len(value) > 16 else "")
    text = str(value).replace("\n", "\\n")
    return text if len(text) <= 80 else text[:77] + "..."


def _aligned(columns: list[str], rows: list[list[str]], file: IO[str]) -> None:
    widths = [max(len(name), *(len(row[i]) for row in rows)) if rows else len(name) for i, name in enumerate(columns)]
    numeric = [bool(rows) and all(_is_number(row[i]) for row in rows) for i in range(len(columns))]
    print("  ".join(name.rjust(w) if n else name.ljust(w) for name, w, n in zip(columns, widths, numeric, strict=True)).rstrip(), file=file)
    print("  ".join("-" * w for w in widths), file=file)
    for row in rows:
        print("  ".join(cell.rjust(w) if n else cell.ljust(w) for cell, w, n in zip(row, widths, numeric, strict=True)).rstrip(), file=file)


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "") or 0)
    except ValueError:
        return False
    return True
