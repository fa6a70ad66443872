"""A window that spans segments, reduced from the tails in memory."""

from __future__ import annotations

import numpy as np

from ingest.recent import Recent
from ingest.tracefile import Reduced, by_name
from kernels.gather import transpose
from kernels.reduce import reduce_windows
from storage.index import Window


def reduce_tails(recent: Recent, window: Window) -> list[Reduced] | None:
    """Return the statistics of ``window`` if the tails hold all its samples, under one layout a trace, else None."""
    parts = recent.samples(window.tool, window.window_id)
    if parts is None:
        return None
    out = []
    for trace, members in parts.items():
        layout = members[0][0].layout
        if any(tail.layout != layout for tail, _ in members):
            return None
        order = by_name(layout)
        sheets = [transpose(tail.values, at * tail.width, order, np.empty((tail.width, len(at)))) for tail, at in members]
        time_us = np.concatenate([tail.time_us[at] for tail, at in members])
        seq = np.concatenate([tail.seq[at] for tail, at in members])
        names = [tail.streams[i] for tail, at in members for i in tail.stream[at].tolist()]
        by_time = np.lexsort((np.unique(names, return_inverse=True)[1], seq, time_us))
        matrix = np.ascontiguousarray(np.concatenate(sheets, axis=1)[:, by_time])
        statistics = reduce_windows(matrix, time_us[by_time], np.asarray([0]), np.asarray([len(time_us)]))[0]
        out.append(Reduced(window, trace, (order + 1).tolist(), [layout[i].name for i in order.tolist()], statistics))
    return out
