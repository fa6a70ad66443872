"""The files that pages need: ours, and plotly's script as its Python package holds it."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files


@cache
def own(name: str) -> str:
    """Return a file of this package."""
    return files("loadlock.console").joinpath(name).read_text(encoding="utf-8")


@cache
def version() -> str:
    """Return what changes when one of the files does."""
    return hashlib.sha256("".join((own("console.css"), own("console.js"), plotly())).encode()).hexdigest()[:16]


@cache
def plotly() -> str:
    """Return plotly's script (some 5 MB)."""
    return files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")
