"""The front door: one command, one Python API; heavy imports wait until they are needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loadlock.lake import Lake, open
    from storage.errors import LoadlockError

__version__ = "0.1.0"
__all__ = ["Lake", "LoadlockError", "__version__", "open"]


def __getattr__(name: str) -> Any:
    """Import what is asked for, and nothing before."""
    if name in ("Lake", "open"):
        import loadlock.lake

        return getattr(loadlock.lake, name)
    if name == "LoadlockError":
        from storage.errors import LoadlockError

        return LoadlockError
    raise AttributeError(f"module 'loadlock' has no attribute '{name}'")
