"""Distinct values of arrays that hold long runs, as columns of records do: one value of each run is looked at, not each record's."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def begins(values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return where the runs of equal ``values`` (n,) begin: int64 (r,), rising."""
    if len(values) == 0:
        return np.zeros(0, np.int64)
    edge = np.empty(len(values), np.bool_)
    edge[0] = True
    np.not_equal(values[1:], values[:-1], out=edge[1:])
    return np.flatnonzero(edge)


def distinct(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return what ``np.unique(values)`` does."""
    return np.unique(values[begins(values)])


def numbered(values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Return what ``np.unique(values, return_inverse=True)`` does: the distinct values, rising, and the number of each of ``values``."""
    starts = begins(values)
    used, inverse = np.unique(values[starts], return_inverse=True)
    if len(used) == 1:
        return used, np.zeros(len(values), np.int64)
    return used, np.repeat(inverse, np.diff(starts, append=len(values)))


def counted(values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Return what ``np.unique(values, return_counts=True)`` does: the distinct values, rising, and how often each occurs."""
    starts = begins(values)
    used, inverse = np.unique(values[starts], return_inverse=True)
    counts = np.zeros(len(used), np.int64)
    np.add.at(counts, inverse, np.diff(starts, append=len(values)))
    return used, counts
