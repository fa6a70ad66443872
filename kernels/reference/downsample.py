"""Slow, obvious twin of :mod:`kernels.downsample`, in numpy."""

from __future__ import annotations

import numpy as np


def extremes(time_us: np.ndarray, values: np.ndarray, cell_us: int) -> np.ndarray:
    """Return the places of the samples that stay."""
    cell = time_us // cell_us
    kept: set[int] = set()
    for number in np.unique(cell):
        places = np.flatnonzero(cell == number)
        own = values[places]
        kept |= {int(places[0]), int(places[-1])}
        missing = places[np.isnan(own)]
        if len(missing):
            kept |= {int(missing[0]), int(missing[-1])}
        if len(missing) < len(places):
            kept |= {int(places[np.nanargmin(own)]), int(places[np.nanargmax(own)])}
    return np.asarray(sorted(kept), np.int64)
