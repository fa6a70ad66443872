"""A plant of twelve tools that deliver every hour, its lake, and what queries over its first day must answer.

A record of 200 sensors every 10 s, a recipe step every 10 minutes, a wafer an hour, a lot of 25 wafers; one commit an hour with one trace
file a tool of 72,000 rows. Every seventh step of a tool loses one message, so there are gaps.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np

import loadlock
from benchmarks import capture
from benchmarks.capture import SVS, Tool

TOOLS = tuple(f"ETCH{i:02d}" for i in range(1, 13))
ASKED = "ETCH04"
SENSOR = "sensor_042"
SENSOR_INDEX = 41
PERIOD_CS, STEP_MESSAGES, RESENT = 1000, 60, 3
STEPS_AN_HOUR = len(capture.STEPS)
ROWS_AN_HOUR = len(TOOLS) * STEPS_AN_HOUR * STEP_MESSAGES * SVS
LOT_WAFERS = 25
DAY_HOURS = 24
LOSSY_STEP, LOST_MESSAGE = 7, 30
HOURS_LEAST = LOT_WAFERS + 1
"""The first lot must be whole, its last window closed."""

BATCH_SECONDS = 60
Floats = np.ndarray[Any, np.dtype[np.float64]]


def hours_for(rows: int) -> int:
    """Return the hours of deliveries that make at least ``rows`` trace rows, lost messages allowed for."""
    return max(HOURS_LEAST, math.ceil(rows / (ROWS_AN_HOUR * (1 - 1 / LOSSY_STEP / STEP_MESSAGES))))


class Plant:
    """Twelve tools, the lake that they deliver into, and the first lot of the tool that queries ask about."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lake = folder / "plant.lake"
        self.hours = 0
        self.rows = 0
        self.tools = [Tool(name, period_cs=PERIOD_CS, step_messages=STEP_MESSAGES, resent=RESENT) for name in TOOLS]
        self.first_lot: list[Floats] = []
        """Of the asked tool: values (n, 200) of each step of its first 25 wafers."""
        self.config = folder / "loadlock.toml"
        self.config.write_text(capture.configuration() + f"\n[lake]\nbatch_seconds = {BATCH_SECONDS}\n", encoding="utf-8")

    def _step(self, tool: Tool) -> bytes:
        """Return the bytes of the tool's next step, a message left out where it is its turn."""
        number = tool.step
        data = tool.next_step()
        assert tool.before is not None
        if number % LOSSY_STEP == 0:
            lost = tool.before[LOST_MESSAGE].tobytes()
            data = data.replace(lost, b"", 1)
            tool.before = np.delete(tool.before, LOST_MESSAGE, axis=0)
        if tool.name == ASKED and number < LOT_WAFERS * STEPS_AN_HOUR:
            rows = tool.before.view(tool.message)[:, 0]
            self.first_lot.append(np.stack([rows[f"v{i}"].astype(np.float64) for i in range(SVS)], axis=1))
        self.rows += len(tool.before) * SVS
        return data

    def hour(self, lake: loadlock.Lake) -> None:
        """Deliver an hour of every tool in one commit."""
        paths = []
        for tool in self.tools:
            path = self.folder / "drop" / tool.name / f"{self.hours:05d}.hsms"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"".join(self._step(tool) for _ in range(STEPS_AN_HOUR)))
            paths.append(path)
        summary = lake.ingest(paths, config=self.config)
        if len(summary.batches) != 1:
            raise SystemExit(f"bench: an hour took {len(summary.batches)} commits")
        shutil.rmtree(self.folder / "drop")
        self.hours += 1

    def build(self, rows: int) -> None:
        """Deliver until the lake holds at least ``rows`` trace rows, and check that it does."""
        with loadlock.open(self.lake) as lake:
            while self.hours < hours_for(rows):
                self.hour(lake)
            ((found,),) = lake.sql("SELECT count(*) FROM traces").fetchall()
        if found != self.rows or found < rows:
            raise SystemExit(f"bench: the lake holds {found} trace rows, not {self.rows}")

    def answers(self) -> dict[str, tuple[Any, ...]]:
        """Return what each query of :mod:`benchmarks.bench_queries` must answer, by numpy from the generated values."""
        steps = self.first_lot
        day = [step[:, SENSOR_INDEX] for step in steps[: DAY_HOURS * STEPS_AN_HOUR]]
        main = capture.STEPS.index("main")
        mains = [step[:, SENSOR_INDEX] for step in steps[main::STEPS_AN_HOUR]]
        lost = math.ceil(DAY_HOURS * STEPS_AN_HOUR / LOSSY_STEP)
        return {
            "day": (sum(map(len, day)), float(sum(part.sum() for part in day))),
            "overlay": (LOT_WAFERS, sum(map(len, mains)), float(sum(part.sum() for part in mains))),
            "trend": ("A", DAY_HOURS, float(sum(part.mean() for part in mains[:DAY_HOURS]))),
            "lot_z": self._furthest(),
            "gaps": (lost, lost),
        }

    def _furthest(self) -> tuple[str, str, str, float]:
        """Return (wafer, step, sensor, |z|) of the mean that is furthest from the lot's, in its standard deviations."""
        means = np.stack([step.mean(axis=0) for step in self.first_lot]).reshape(LOT_WAFERS, STEPS_AN_HOUR, SVS)
        spread = means.std(axis=0, ddof=1)
        moving = spread > 1e-9 * np.abs(means).max(axis=0)
        z = np.where(moving, np.abs(means - means.mean(axis=0)) / np.where(moving, spread, 1), 0)
        wafer, step, sensor = np.unravel_index(int(z.argmax()), z.shape)
        return f"W{wafer:05d}", capture.STEPS[step], f"sensor_{sensor + 1:03d}", float(z.max())
