"""What the fault tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults import nursery as nurseries


@pytest.fixture(scope="module")
def nursery() -> Iterator[nurseries.Nursery]:
    """A process that forks children for us."""
    with nurseries.nursery() as found:
        yield found
