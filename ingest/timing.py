"""CPU seconds by stage of the pipeline, for the benchmarks and for ``--json`` readers who ask where time goes."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

Clock = Callable[[str], AbstractContextManager[None]]


class Stages:
    """Adds up CPU seconds per named stage, by ``clock``; a stage inside another is taken out of the outer one."""

    def __init__(self, clock: Callable[[], float] = time.process_time) -> None:
        self.clock = clock
        self.seconds: dict[str, float] = {}
        self.inner: list[float] = []
        """Per open stage: the seconds of the stages inside it."""

    def __call__(self, name: str) -> AbstractContextManager[None]:
        """Count the CPU time of a ``with`` block under ``name``."""
        return _Stage(self, name)


class _Stage(AbstractContextManager[None]):
    """One ``with`` block: a class, because a generator would cost more than some stages take."""

    __slots__ = ("_begin", "_name", "_stages")

    def __init__(self, stages: Stages, name: str) -> None:
        self._stages, self._name = stages, name

    def __enter__(self) -> None:
        self._stages.inner.append(0.0)
        self._begin = self._stages.clock()

    def __exit__(self, *_error: object) -> None:
        stages = self._stages
        spent = stages.clock() - self._begin
        stages.seconds[self._name] = stages.seconds.get(self._name, 0.0) + spent - stages.inner.pop()
        if stages.inner:
            stages.inner[-1] += spent
