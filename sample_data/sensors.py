"""What the sample etchers measure: sensors as tables, and the values that a recipe draws from them.

Only exact arithmetic on seeded integers is used, so that the same bytes come out on every machine.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from sample_data.secs_encoder import STRUCT_CHARS, item, text

PHASES = ("idle", "stabilise", "main", "overetch")
DECISECOND_US = 100_000
RAMP_DS = 20
ADC_STEPS = 4095
FLOW = "sccm"


class Sensor(NamedTuple):
    """A status variable: its SVID, setpoint by phase (None: no number is sent), and how it is measured.

    ``grain`` is ("adc", full scale), ("decimals", digits) or ("whole", 0); ``noise`` is the half width, ``drift`` the change per
    second within a phase, ``hold`` the number of samples that repeat one reading.
    """

    svid: int
    name: str
    unit: str
    format: str
    setpoints: tuple[float | None, float | None, float | None, float | None]
    grain: tuple[str, int]
    noise: float = 0.0
    drift: float = 0.0
    hold: int = 1


ETCH01_SENSORS = (
    Sensor(1001, "rf_forward_power", "W", "F4", (0, 0, 850, 500), ("adc", 2000), 3.0),
    Sensor(1002, "rf_reflected_power", "W", "F4", (0, 0, 6, 4), ("adc", 200), 0.4),
    Sensor(1003, "dc_bias", "V", "F4", (0, 0, 312, 190), ("adc", 1000), 2.0, 0.05),
    Sensor(1004, "chamber_pressure", "mTorr", "F4", (0.5, 35, 40, 30), ("decimals", 2), 0.15),
    Sensor(1005, "throttle_position", "%", "F4", (99, 38, 31.5, 36), ("decimals", 2), 0.2),
    Sensor(1006, "cf4_flow", FLOW, "F4", (0, 45, 45, 20), ("decimals", 2), 0.06),
    Sensor(1007, "o2_flow", FLOW, "F4", (0, 5, 5, 12), ("decimals", 3), 0.01),
    Sensor(1008, "ar_flow", FLOW, "F4", (20, 150, 150, 150), ("decimals", 2), 0.2),
    Sensor(1009, "electrode_temperature", "degC", "F4", (20, 20, 20.5, 20.2), ("decimals", 3), 0.02, 0.004, hold=10),
    Sensor(1010, "wall_temperature", "degC", "F4", (60, 60, 61, 61), ("adc", 200), 0.05, hold=20),
    Sensor(1011, "helium_pressure", "Torr", "F8", (0, 8, 10, 10), ("decimals", 4), 0.01),
    Sensor(1012, "endpoint_intensity", "counts", "U2", (12, 14, 2600, 900), ("whole", 0), 9.0, -12.5),
    Sensor(1013, "recipe_step", "", "U1", (0, 1, 2, 3), ("whole", 0)),
    Sensor(1014, "rf_on", "", "BOOLEAN", (0, 0, 1, 1), ("whole", 0)),
    Sensor(1015, "process_state", "", "A", (0, 1, 2, 3), ("whole", 0)),
    Sensor(1016, "pyrometer_temperature", "degC", "F4", (None, None, 88, 92), ("decimals", 2), 0.1, 0.12),
)
"""Step values, ramps, ADC steps, decimals, held values, small integers, a boolean, a text, and a sensor that is absent at times."""

ETCH02_SENSORS = (
    Sensor(2001, "SourcePower", "W", "F4", (0, 300, 1200, 700), ("adc", 3000), 4.0),
    Sensor(2002, "BiasPower", "W", "F4", (0, 0, 150, 60), ("adc", 500), 0.8),
    Sensor(2003, "Pressure", "mTorr", "F4", (0.2, 12, 8, 10), ("decimals", 3), 0.02),
    Sensor(2004, "GasFlowCl2", FLOW, "F4", (0, 60, 90, 40), ("decimals", 2), 0.1),
    Sensor(2005, "GasFlowHBr", FLOW, "F4", (0, 100, 110, 140), ("decimals", 2), 0.1),
    Sensor(2006, "GasFlowHeO2", FLOW, "F4", (0, 8, 8, 14), ("decimals", 2), 0.03),
    Sensor(2007, "ChuckTemp", "degC", "F4", (45, 45, 46.5, 46), ("decimals", 3), 0.01, 0.002, hold=5),
    Sensor(2008, "ChuckVoltage", "V", "I2", (0, -400, -550, -550), ("whole", 0)),
    Sensor(2009, "ReflectedPower", "W", "F4", (0, 5, 3, 2), ("adc", 100), 0.3),
    Sensor(2010, "MatchPosition", "%", "F4", (50, 61.5, 58, 60), ("decimals", 1), 0.3),
    Sensor(2011, "TurboSpeed", "rpm", "U4", (33000, 33000, 33000, 33000), ("whole", 0), 15.0, hold=5),
    Sensor(2012, "OES656", "counts", "F4", (3, 40, 820, 310), ("adc", 4095), 5.0, -2.0),
)


class Step(NamedTuple):
    """One recipe step of one wafer, half-open in deciseconds from the tool's start; ``ended``: its end event was sent."""

    start_ds: int
    stop_ds: int
    wafer: str
    recipe: str
    phase: str
    ended: bool = True


class Reading(NamedTuple):
    """One sensor's value as sent and as it must be read: a number, or a text, or neither."""

    sent: bytes
    value: float | None
    text: str | None = None


def wafer_steps(wafer: str, recipe: str, start_ds: int, lengths_ds: Sequence[int]) -> list[Step]:
    """Return the steps of one wafer in recipe order, without a pause between them."""
    edges = np.cumsum([start_ds, *lengths_ds]).tolist()
    return [Step(a, b, wafer, recipe, phase) for a, b, phase in zip(edges, edges[1:], PHASES[1:], strict=False)]


def readings(sensors: Sequence[Sensor], steps: Sequence[Step], moments_ds: Sequence[int], seed: int) -> Iterator[tuple[Reading, ...]]:
    """Yield one tuple of readings for each of ``moments_ds`` (rising)."""
    noise = np.random.RandomState(seed).randint(-500, 501, size=(len(moments_ds), len(sensors), 2)).sum(axis=2) / 1000
    held: list[Reading] = []
    for i, moment_ds in enumerate(moments_ds):
        before, now, age_ds = _phases(steps, moment_ds)
        fresh = []
        for k, sensor in enumerate(sensors):
            stays = held and i % sensor.hold
            fresh.append(held[k] if stays else _read(sensor, before, now, age_ds, float(noise[i, k])))
        held = fresh
        yield tuple(fresh)


def _phases(steps: Sequence[Step], moment_ds: int) -> tuple[int, int, int]:
    """Return the phase before, the phase now (indices into PHASES) and the time in it."""
    before, ended_ds = 0, 0
    for step in steps:
        if moment_ds < step.start_ds:
            break
        if moment_ds < step.stop_ds:
            return (before if ended_ds == step.start_ds else 0), PHASES.index(step.phase), moment_ds - step.start_ds
        before, ended_ds = PHASES.index(step.phase), step.stop_ds
    return before, 0, moment_ds - ended_ds


def _read(sensor: Sensor, before: int, now: int, age_ds: int, noise: float) -> Reading:
    if sensor.format == "A":
        return Reading(text(PHASES[now]), None, PHASES[now])
    target = sensor.setpoints[now]
    if target is None:
        return Reading(item(sensor.format), None)
    start = sensor.setpoints[before]
    share = 1.0 if sensor.grain[0] == "whole" or start is None else min(1.0, age_ds / RAMP_DS)
    level = target if start is None else start + (target - start) * share
    level += sensor.noise * noise + sensor.drift * (age_ds / 10)
    kind, scale = sensor.grain
    if kind == "adc":
        exact: float = min(max(round(level / scale * ADC_STEPS), 0), ADC_STEPS) * scale / ADC_STEPS
    else:
        exact = round(level, scale)
    char = STRUCT_CHARS[sensor.format]
    number = exact if sensor.format in ("F4", "F8") else int(exact)
    if sensor.format in ("U1", "U2", "U4"):
        number = max(int(number), 0)
    sent = item(sensor.format, number)
    return Reading(sent, float(struct.unpack(f">{char}", sent[2:])[0]))
