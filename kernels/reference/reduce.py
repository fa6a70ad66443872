"""Slow, obvious twin of :mod:`kernels.reduce`: exact sums by fractions, order statistics by sorting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction


def quantile(ordered: Sequence[float], q: float) -> float:
    """Return the linear quantile of sorted values."""
    place = (len(ordered) - 1) * q
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return float(Fraction(ordered[below]) + (Fraction(ordered[above]) - Fraction(ordered[below])) * Fraction(place - below))


def reduce_one(values: Sequence[float], time_us: Sequence[int], started_us: int) -> dict[str, float | None]:
    """Return every statistic of one sensor in one window; None stands for NULL, NaN in ``values`` for a missing sample."""
    pairs = [
        (Fraction(value), Fraction(time - started_us, 1_000_000))
        for value, time in zip(values, time_us, strict=True)
        if not math.isnan(value)
    ]
    n = len(pairs)
    result: dict[str, float | None] = {"n": n, "missing": len(values) - n}
    if n == 0:
        return result
    x, t = [p[0] for p in pairs], [p[1] for p in pairs]
    mean, middle = sum(x) / n, sum(t) / n
    ordered = sorted(float(v) for v in x)
    squares = sum((v - mean) ** 2 for v in x)
    spread = sum((u - middle) ** 2 for u in t)
    result |= {"first": float(x[0]), "last": float(x[-1]), "min": ordered[0], "max": ordered[-1], "mean": float(mean)}
    result["std"] = math.sqrt(squares / (n - 1)) if n > 1 else None
    result |= {"median": quantile(ordered, 0.5), "p05": quantile(ordered, 0.05), "p95": quantile(ordered, 0.95)}
    cross = sum((v - mean) * (u - middle) for v, u in zip(x, t, strict=True))
    result["slope"] = float(cross / spread) if n > 1 and spread else None
    result["area"] = float(sum((b + a) / 2 * (v - u) for a, b, u, v in zip(x, x[1:], t, t[1:], strict=False)))
    return result
