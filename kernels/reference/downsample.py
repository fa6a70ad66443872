"""Slow, obvious twin of :mod:`kernels.downsample`, in numpy."""

from __future__ import annotations

import numpy as np

KEPT = 6


def extremes(time_us: np.ndarray, values: np.ndarray, buckets: int) -> np.ndarray:
    """Return the places of the samples that stay."""
    if len(time_us) <= KEPT * buckets:
        return np.arange(len(time_us))
    since = time_us - time_us[0]
    bucket = since // (int(since[-1]) // buckets + 1)
    kept: set[int] = set()
    for number in np.unique(bucket):
        places = np.flatnonzero(bucket == number)
        own = values[places]
        kept |= {int(places[0]), int(places[-1])}
        missing = places[np.isnan(own)]
        if len(missing):
            kept |= {int(missing[0]), int(missing[-1])}
        if len(missing) < len(places):
            kept |= {int(places[np.nanargmin(own)]), int(places[np.nanargmax(own)])}
    return np.asarray(sorted(kept), np.int64)
