"""What the fault tests share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.faults import nursery as nurseries


@pytest.fixture(scope="module")
def nursery() -> Iterator[nurseries.Nursery]:
    """A process that forks children for us."""
    with nurseries.nursery() as found:
        yield found


@pytest.fixture
def note(record_property: Any, request: pytest.FixtureRequest) -> Any:
    """``note(runs=3, seed=7)``: figures that are printed at the end, and kept by ``make soak``."""

    def keep(**figures: Any) -> None:
        record_property("figures", {"test": request.node.nodeid.rpartition("/")[2], **figures})

    return keep
