"""The front door: one command, one Python API; heavy imports wait until they are needed."""

from __future__ import annotations

__version__ = "0.1.0"
