"""When a circuit opens, and for how long: the ``[circuit]`` section of the configuration."""

from __future__ import annotations

import fnmatch
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, le=366 * 86_400)]


class Overrides(BaseModel):
    """What differs for a tool, or a glob of tools."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    failures: Count | None = None
    ratio: Share | None = None
    conflict_ratio: Share | None = None
    minimum_bytes: Count | None = None
    minimum_frames: Count | None = None
    cool_down: Seconds | None = None
    cool_down_max: Seconds | None = None


class Thresholds(BaseModel):
    """What holds for one tool or dependency. Shares are of quarantined bytes and of conflicting records; ``cool_down`` is in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    failures: Count = 5
    ratio: Share = 0.5
    conflict_ratio: Share = 0.5
    minimum_bytes: Count = 1 << 20
    minimum_frames: Count = 1000
    cool_down: Seconds = 300.0
    cool_down_max: Seconds = 3600.0

    @model_validator(mode="after")
    def _capped(self) -> Thresholds:
        if self.cool_down_max < self.cool_down:
            raise ValueError(f"cool_down_max = {self.cool_down_max:g} is below cool_down = {self.cool_down:g}")
        return self


class CircuitSection(Thresholds):
    """Thresholds of the circuits, per tool where named."""

    tools: dict[str, Overrides] = {}

    @model_validator(mode="after")
    def _tools(self) -> CircuitSection:
        for name in self.tools:
            self.of(name)
        return self

    def of(self, tool: str) -> Thresholds:
        """Return what holds for ``tool``: its exact entry first, then the first glob that fits, else the common values."""
        section = self.tools.get(tool)
        if section is None:
            section = next((entry for glob, entry in self.tools.items() if fnmatch.fnmatchcase(tool, glob)), Overrides())
        common = {name: getattr(self, name) for name in Thresholds.model_fields}
        return Thresholds(**common | section.model_dump(exclude_none=True))
