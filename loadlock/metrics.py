"""Metrics in Prometheus' text format, read from the lake: totals go on over restarts, because the ledger counts and not a process."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from loadlock import __version__
from storage.errors import StoreDown
from storage.schema import ACCOUNT

if TYPE_CHECKING:
    from loadlock.lake import Lake


class Metric(NamedTuple):
    """A metric's kind, help and labels."""

    kind: str
    help: str
    labels: tuple[str, ...] = ()


METRICS = {
    "loadlock_info": Metric("gauge", "1; the version that wrote these figures.", ("version",)),
    "loadlock_written_timestamp_seconds": Metric("gauge", "When these figures were read from the lake."),
    "loadlock_payloads_total": Metric("counter", "Payloads committed."),
    "loadlock_bytes_total": Metric("counter", "Bytes of committed payloads, decompressed, by what became of them.", ("outcome",)),
    "loadlock_records_total": Metric("counter", "Records of committed payloads by what became of them.", ("outcome",)),
    "loadlock_frames_total": Metric("counter", "Frames that carried no record: quarantined, or understood and no data.", ("outcome",)),
    "loadlock_samples_total": Metric("counter", "Samples accepted."),
    "loadlock_events_total": Metric("counter", "Events accepted."),
    "loadlock_ledger_entries_total": Metric("counter", "Entries of the ledger."),
    "loadlock_last_entry_timestamp_seconds": Metric("gauge", "When the newest ledger entry was written."),
    "loadlock_tool_samples": Metric("gauge", "Samples that the lake holds of a tool.", ("tool",)),
    "loadlock_tool_samples_per_second": Metric("gauge", "Samples of a tool per second, over the last hour.", ("tool",)),
    "loadlock_tool_last_sample_timestamp_seconds": Metric("gauge", "Time of a tool's newest sample, by the tool's clock.", ("tool",)),
    "loadlock_tool_last_commit_timestamp_seconds": Metric("gauge", "When new data of a tool were last committed.", ("tool",)),
    "loadlock_tool_gaps": Metric("gauge", "Open gaps of a tool.", ("tool",)),
    "loadlock_tool_conflicts": Metric("gauge", "Conflicting records of a tool.", ("tool",)),
    "loadlock_tool_quarantined": Metric("gauge", "Quarantined spans of a tool that wait for a decision.", ("tool",)),
    "loadlock_circuit_open": Metric("gauge", "1: open, 0.5: half-open; closed ones are left out.", ("kind", "circuit")),
    "loadlock_quarantine_spans": Metric("gauge", "Quarantined spans that wait for a decision."),
    "loadlock_quarantine_bytes": Metric("gauge", "Bytes of quarantined spans that wait for a decision."),
    "loadlock_features_owed": Metric("gauge", "Windows whose features are still to be computed."),
    "loadlock_data_files": Metric("gauge", "Data files that the newest snapshot names."),
    "loadlock_data_bytes": Metric("gauge", "Bytes of those files."),
    "loadlock_catalog_bytes": Metric("gauge", "Bytes of the catalog."),
}
"""Every metric there is; dashboards, rules and documentation are held against this table by a test."""

OF_TOOL = {
    "samples": "rows",
    "samples_per_second": "samples_per_s",
    "last_sample_timestamp_seconds": "last_ts",
    "last_commit_timestamp_seconds": "last_at",
    "gaps": "gaps",
    "conflicts": "conflicts",
    "quarantined": "quarantined",
}
"""What of a tool's row in the status is which metric."""

Sample = tuple[str, tuple[str, ...], Any]


def _samples(lake: Lake) -> Iterator[Sample]:
    status = lake.status()
    sums = ", ".join(f"coalesce(sum({name}), 0)::BIGINT" for name in ACCOUNT)
    count, *figures = lake.store.rows(f"SELECT count(*), {sums} FROM payloads")[0]
    account = dict(zip(ACCOUNT, figures, strict=True))
    yield "info", (__version__,), 1
    yield "written_timestamp_seconds", (), _seconds(lake.store.clock().isoformat())
    yield "payloads_total", (), count
    for group, outcomes in (
        ("bytes", ("accepted", "duplicate", "conflict", "quarantined", "other")),
        ("records", ("accepted", "duplicate", "conflict")),
        ("frames", ("quarantined", "other")),
    ):
        for outcome in outcomes:
            yield f"{group}_total", (outcome,), account[f"{group}_{outcome}"]
    yield "samples_total", (), account["samples"]
    yield "events_total", (), account["events"]
    yield "ledger_entries_total", (), status["last_entry"]["seq"] + 1
    yield "last_entry_timestamp_seconds", (), _seconds(status["last_entry"]["recorded_at"])
    for tool in status["tools"]:
        for metric, field in OF_TOOL.items():
            value = _seconds(tool[field]) if field.startswith("last") else tool[field]
            yield f"tool_{metric}", (tool["tool"],), value
    for circuit in status["circuits"]:
        yield "circuit_open", (circuit["kind"], circuit["circuit"]), {"open": 1, "half-open": 0.5, "closed": 0}[circuit["state"]]
    yield "quarantine_spans", (), status["quarantine"]["open"]
    yield "quarantine_bytes", (), status["quarantine"]["bytes"]
    yield "features_owed", (), status["features_owed"]
    yield "data_files", (), status["sizes"]["files"]
    yield "data_bytes", (), status["sizes"]["bytes"]
    yield "catalog_bytes", (), status["sizes"]["catalog_bytes"]


def exposition(lake: Lake) -> str:
    """Return the lake's metrics in Prometheus' text format (version 0.0.4)."""
    lines: dict[str, list[str]] = {name: [] for name in METRICS}
    for short, values, value in _samples(lake):
        name = f"loadlock_{short}"
        labels = ",".join(f'{label}="{_escaped(text)}"' for label, text in zip(METRICS[name].labels, values, strict=True))
        if value is not None:
            lines[name].append(f"{name}{{{labels}}} {value}" if labels else f"{name} {value}")
    out = []
    for name, own in lines.items():
        if own:
            out += [f"# HELP {name} {METRICS[name].help}", f"# TYPE {name} {METRICS[name].kind}", *own]
    return "\n".join(out) + "\n"


def write(lake: Lake, path: Path) -> None:
    """Write the metrics to ``path`` as a whole: whoever reads meanwhile gets the old file or the new one."""
    text = exposition(lake)
    temporary = None
    try:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = file.name
            file.write(text)
            os.fchmod(file.fileno(), 0o644)  # the exporter is another user
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise StoreDown(f"{path}: the metrics can't be written ({error.strerror}); the data are committed all the same") from error


def _seconds(text: str | None) -> float | None:
    return None if text is None else datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
