"""Feature rows: how they travel to a file, and the same rows as an Arrow table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kernels.reduce import COLUMNS
from storage.schema import arrow_schema

REVISION = "revision"

COUNTS, REALS = COLUMNS[:2], COLUMNS[2:]
"""Statistics that are whole numbers, and those that are doubles."""


@dataclass(slots=True, frozen=True)
class FeatureRows:
    """The sensors of one (window, trace) after the other's.

    ``shared``: column -> a value for each of the g (window, trace), times in us; without ``revision`` where the commit's number is to be
    it. ``sensors``, ``positions``: names and positions of the sensors of each. ``statistics``: float64 (n, 13), NaN for NULL.
    """

    shared: dict[str, list[Any]]
    sensors: Sequence[list[str]]
    positions: Sequence[list[int]]
    statistics: npt.NDArray[np.float64]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Return the rows (g,) of each (window, trace)."""
        return np.fromiter(map(len, self.positions), np.int64, len(self.positions))


def table(rows: FeatureRows, revision: int | None) -> pa.Table:
    """Return ``rows`` as a table of ``features_log``; ``revision`` that of all rows, None where they have their own."""
    schema = arrow_schema("features_log")
    columns: dict[str, pa.Array] = {}
    for i, name in enumerate(COLUMNS):
        column = rows.statistics[:, i]
        columns[name] = pa.array(column.astype(np.int64)) if name in COUNTS else pa.array(column, mask=np.isnan(column))
    shared = rows.shared if revision is None else rows.shared | {REVISION: [revision] * len(rows.positions)}
    repeat = pa.array(np.repeat(np.arange(len(rows.positions)), rows.lengths))
    for name, values in shared.items():
        kind = schema.field(name).type
        column = pa.array(values, pa.int64()).cast(kind) if pa.types.is_timestamp(kind) else pa.array(values, kind)
        columns[name] = column.take(repeat)
    columns["sensor"] = pa.array([name for names in rows.sensors for name in names], pa.string())
    columns["position"] = pa.array([position for positions in rows.positions for position in positions], pa.int32())
    return pa.table([columns[field.name] for field in schema], schema=schema)
