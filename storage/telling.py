"""What long work tells those who wait for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Tell: TypeAlias = Callable[[str, int, int], None]
"""Takes what is being done, how many of it are done, and of how many (0: not known)."""


def nobody(_what: str, _done: int, _of: int) -> None:
    """Tell nobody."""
