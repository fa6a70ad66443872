"""ETCH03, for the tutorial: two lots of twelve wafers, one of them etched while air leaked into the chamber.

    python -m sample_data.leak FOLDER

writes FOLDER/ETCH03/0001.hsms and so on, a capture a wafer, the same bytes every time. The tool holds its pressure, so the leak shows in
the throttle valve that does the holding. One frame is damaged, and one capture begins with the end of the one before.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from sample_data.etch01 import corrupted
from sample_data.etcher import Etcher, Message, Trace
from sample_data.expected import Frame
from sample_data.secs_encoder import s1f12, s2f23
from sample_data.sensors import ETCH01_SENSORS, Sensor, Step, readings, wafer_steps

TOOL = "ETCH03"
LOTS = ("L2604-001", "L2604-002")
WAFERS = 12
CYCLE_DS = 700
LENGTHS_DS = (100, 400, 100)
STEP_NAMES: dict[str, str | int] = {"stabilise": "stabilise", "main": "main", "overetch": "overetch"}

SENSORS = ETCH01_SENSORS[:12]
LEAKY = (LOTS[1], 8)
LEAK_DRIFTS = {"throttle_position": 0.09, "endpoint_intensity": -19.0}
"""Change per second in the leaky wafer: the valve opens to hold the pressure, and the plasma's light fades faster."""

DAMAGED, REPEATING, REPEATED_FRAMES = 4, 8, 20
"""Captures, counted from 0."""


def sensors_of(lot: str, wafer: int) -> tuple[Sensor, ...]:
    """Return the sensors as they behave while a wafer is processed."""
    if (lot, wafer) != LEAKY:
        return SENSORS
    return tuple(sensor._replace(drift=LEAK_DRIFTS.get(sensor.name, sensor.drift)) for sensor in SENSORS)


def wafer_messages(tool: Etcher, trace: Trace, number: int) -> Iterator[Message]:
    """Yield what the tool sends while it processes wafer ``number``, counted from 0, in no order."""
    lot, wafer, start_ds = LOTS[number // WAFERS], number % WAFERS + 1, number * CYCLE_DS
    steps: list[Step] = wafer_steps(f"W{wafer:02d}", "OXIDE_ETCH_V3", start_ds + 30, LENGTHS_DS)
    if wafer == 1:
        yield tool.event(1000, start_ds, lot=lot)
    yield from tool.steps(steps, "A", STEP_NAMES)
    moments_ds = range(start_ds, start_ds + CYCLE_DS)
    for moment_ds, row in zip(moments_ds, readings(sensors_of(lot, wafer), steps, moments_ds, 300 + number), strict=True):
        yield tool.sample(trace, [(moment_ds + 1, tool.at(moment_ds), row)])


def captures() -> list[list[Frame]]:
    """Return the frames of each capture."""
    tool, trace = Etcher(TOOL, datetime(2026, 4, 2, 6, tzinfo=UTC), 0x0100_0000), Trace(7, "A", SENSORS)
    names = ((sensor.svid, sensor.name, sensor.unit) for sensor in SENSORS)
    opening = tool.hello()
    opening.append(tool.other(0, s1f12(names, system=tool.next_system())))
    opening.append(tool.other(0, s2f23(trace.trid, "00000010", 1, [sensor.svid for sensor in SENSORS], system=tool.next_system())))
    wafers = [sorted(wafer_messages(tool, trace, number), key=lambda message: message.sent_us) for number in range(len(LOTS) * WAFERS)]
    out = [[message.frame for message in messages] for messages in (opening + wafers[0], *wafers[1:])]
    damaged = wafers[DAMAGED][400]
    out[DAMAGED][400] = corrupted(damaged)
    out[REPEATING] = out[REPEATING - 1][-REPEATED_FRAMES:] + out[REPEATING]
    return out


def write(folder: Path) -> int:
    """Write the captures into ``folder``; return how many there are."""
    (folder / TOOL).mkdir(parents=True, exist_ok=True)
    found = captures()
    for number, frames in enumerate(found, 1):
        (folder / TOOL / f"{number:04d}.hsms").write_bytes(b"".join(frame.data for frame in frames))
    return len(found)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    print(f"{write(target)} captures in {target / TOOL}")
