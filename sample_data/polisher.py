"""CMP1: a polisher whose logger writes tab-separated slices; windows come from context columns."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from sample_data.expected import TABLE, Frame, Payload, Record, Stream, microseconds

TOOL = "CMP1"
ZONE = "Europe/Berlin"
CONTEXT_COLUMNS = ("LOT_ID", "WAFER_ID", "RECIPE", "STAGE")
PERIOD_MS = 200
STAGE_MS = 56_000
PAUSE_MS = 9_000

SENSORS: dict[str, tuple[tuple[float, float], float, int, int]] = {
    "CARRIER_PRESSURE": ((2.1, 3.4), 0.02, 3, 1),
    "RETAINER_RING_PRESSURE": ((3.2, 4.6), 0.03, 3, 1),
    "CENTER_AIR_BAG_PRESSURE": ((44.0, 61.5), 0.4, 2, 1),
    "SLURRY_FLOW_LINE_A": ((2.2, 0.0), 0.01, 4, 1),
    "SLURRY_FLOW_LINE_B": ((0.0, 1.8), 0.0, 4, 1),
    "HEAD_ROTATION": ((156.8, 160.0), 0.15, 1, 1),
    "STAGE_ROTATION": ((0.0, 8.5), 0.1, 2, 1),
    "PAD_TEMPERATURE": ((31.5, 36.0), 0.05, 2, 10),
    "DRESSING_WATER_STATUS": ((1, 0), 0.0, 0, 1),
}
"""Column to (setpoint of stage P1, of P2), half width of the noise, decimals, readings that one value is held for."""

COLUMNS = ("TIMESTAMP", "MACHINE_ID", "CHAMBER", *CONTEXT_COLUMNS, *SENSORS)
TEMPERATURE = list(SENSORS).index("PAD_TEMPERATURE")
SLICES = ("trace_20260317_c.csv", "trace_20260317_a.csv", "trace_20260317_d.csv", "trace_20260317_b.csv")
"""Files in order of time: their names sort otherwise."""

OVERLAP_ROWS = 25
CONFLICT_ROW = 7
BAD_LINE = "2026-03-17 11:1"
CRLF_SLICE = 2


def rows() -> list[list[str]]:
    """Return all rows in order of time, as text cells."""
    wafers = [("45"[i % 2], f"K{i:02d}") for i in range(1, 9)]
    noise = np.random.RandomState(41).randint(-500, 501, size=(20_000, len(SENSORS), 2)).sum(axis=2) / 1000
    clock = datetime(2026, 3, 17, 11, 2, 30, tzinfo=ZoneInfo(ZONE))
    out: list[list[str]] = []
    for chamber, wafer in wafers:
        for stage, name in enumerate(("P1", "P2")):
            for tick in range(STAGE_MS // PERIOD_MS):
                stamp = f"{clock:%Y-%m-%d %H:%M:%S}.{clock.microsecond // 1000:03d}"
                cells = [stamp, "1", chamber, "L2603-009", wafer, "CU_BULK", name]
                cells += _cells(stage, tick, noise[len(out)].tolist(), out[-1] if tick else None)
                out.append(cells)
                clock += timedelta(milliseconds=PERIOD_MS)
            clock += timedelta(milliseconds=PAUSE_MS)
    return out


def _cells(stage: int, tick: int, noise: list[float], before: list[str] | None) -> list[str]:
    cells = []
    for k, (setpoints, width, digits, hold) in enumerate(SENSORS.values()):
        if before is not None and tick % hold:
            cells.append(before[len(COLUMNS) - len(SENSORS) + k])
            continue
        share = 1.0 if digits == 0 else min(1.0, tick / 10)
        level = setpoints[1 - stage] + (setpoints[stage] - setpoints[1 - stage]) * share + width * noise[k]
        cells.append(f"{max(level, 0.0):.{digits}f}")
    if tick % 97 == 50:
        cells[TEMPERATURE] = ""
    return cells


def frame(cells: list[str], end: str) -> Frame:
    """Return one row as a text line, with what must be read from it."""
    chamber, context = cells[2], tuple(cells[3:7])
    moment = datetime.strptime(cells[0], "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=ZoneInfo(ZONE))
    time_us = microseconds(moment)
    values = tuple(None if cell == "" else float(cell) for cell in cells[7:])
    record = Record(Stream(TOOL, chamber, TABLE, context), time_us, time_us, values, (), context)
    return Frame(("\t".join(cells) + end).encode(), (record,))


def payloads() -> list[Payload]:
    """Return the slices in order of time: each repeats the last rows of the one before, one of them with another value."""
    whole = rows()
    edges = np.linspace(0, len(whole), len(SLICES) + 1).astype(int).tolist()
    out = []
    for number, name in enumerate(SLICES):
        end = "\r\n" if number == CRLF_SLICE else "\n"
        start = max(edges[number] - OVERLAP_ROWS, 0)
        cells = [list(row) for row in whole[start : edges[number + 1]]]
        if number == 1:
            cells[CONFLICT_ROW][-2] = "99.99"
        frames = [Frame(("\t".join(COLUMNS) + end).encode())] + [frame(row, end) for row in cells]
        if number == 3:
            frames.insert(300, Frame((BAD_LINE + end).encode(), reason="malformed"))
        out.append(Payload(f"polisher/{name}", TOOL, frames))
    return out
