"""Statistics computed anew from the stored samples of windows: for features that come late, and for their proof."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kernels.missing import NULL
from kernels.reduce import reduce_windows


class Statistics(NamedTuple):
    """The statistics (k, 13) of the sensors of one trace in one window, and their positions and names."""

    window_id: int
    trace: str
    positions: list[int]
    names: list[str]
    statistics: npt.NDArray[np.float64]


def statistics_of(rows: pa.Table) -> list[Statistics]:
    """Reduce samples sorted by (window_id, trace, position, time, seq, stream), as :meth:`storage.history.History.windows` gives them."""
    rows = rows.combine_chunks()
    if rows.num_rows == 0:
        return []
    ids, position, time_us = (rows.column(name).to_numpy() for name in ("window_id", "position", "time_us"))
    trace = rows.column("trace").combine_chunks().dictionary_encode()
    sensor = rows.column("sensor").combine_chunks()
    code = trace.indices.to_numpy()
    values = np.ascontiguousarray(rows.column("value").combine_chunks().fill_null(NULL).to_numpy(zero_copy_only=False))
    edge = np.flatnonzero(np.append(True, (np.diff(ids) != 0) | (np.diff(code) != 0) | (np.diff(position) != 0)))
    stop = np.append(edge[1:], len(ids))
    statistics = reduce_windows(values.reshape(1, -1), time_us, edge, stop)[:, 0, :]
    names = sensor.take(pa.array(stop - 1)).to_pylist()
    outer = np.flatnonzero(np.append(True, (np.diff(ids[edge]) != 0) | (np.diff(code[edge]) != 0)))
    return [
        Statistics(
            int(ids[edge[a]]), trace.dictionary[int(code[edge[a]])].as_py(), position[edge[a:b]].tolist(), names[a:b], statistics[a:b]
        )
        for a, b in zip(outer.tolist(), _ends(outer, len(edge)), strict=True)
    ]


def _ends(outer: npt.NDArray[np.int64], count: int) -> Sequence[int]:
    return np.append(outer[1:], count).tolist()
