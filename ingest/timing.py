"""CPU seconds by stage of the pipeline, for the benchmarks and for ``--json`` readers who ask where time goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

Clock = Callable[[str], AbstractContextManager[None]]


class Stages:
    """Adds up CPU seconds per named stage, by ``clock``; a stage inside another is taken out of the outer one."""

    def __init__(self, clock: Callable[[], float] = time.process_time) -> None:
        self._clock = clock
        self.seconds: dict[str, float] = {}
        self._inner: list[float] = []

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Count the CPU time of a ``with`` block under ``name``."""
        begin = self._clock()
        self._inner.append(0.0)
        try:
            yield
        finally:
            spent = self._clock() - begin
            own = spent - self._inner.pop()
            self.seconds[name] = self.seconds.get(name, 0.0) + own
            if self._inner:
                self._inner[-1] += spent
