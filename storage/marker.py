"""The marker, ``lake.json``: that a lake is whole, and of which format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from storage.errors import IntegrityError, NewerLake, NoLake, OlderLake
from storage.schema import FORMAT_VERSION

UPGRADING = "upgrading_from"
"""In the marker, while a lake is brought to a newer format: the format that it had."""


def read_marker(path: Path, *, older: bool = False) -> dict[str, Any]:
    """Return what ``lake.json`` holds; a format that this software can't work with is an error, unless ``older`` ones are wanted."""
    try:
        marker: dict[str, Any] = json.loads((path / "lake.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NoLake(
            f"{path}: no lake here (or its creation was interrupted); 'loadlock init --lake {path}' makes or completes it"
        ) from None
    except (json.JSONDecodeError, OSError) as error:
        raise IntegrityError(f"{path / 'lake.json'}: unreadable ({error})") from error
    version = marker.setdefault("format_version", 0)
    if version > FORMAT_VERSION:
        by = marker.get("upgraded_by", marker.get("software", "a newer one"))
        raise NewerLake(
            f"{path}: this lake has format {version} (loadlock {by}), this software knows up to {FORMAT_VERSION}; "
            f"install a loadlock that knows format {version}"
        )
    if not older and (version < FORMAT_VERSION or UPGRADING in marker):
        state = f"an upgrade from format {marker[UPGRADING]} was interrupted" if UPGRADING in marker else f"this lake has format {version}"
        raise OlderLake(
            f"{path}: {state}, this software works with {FORMAT_VERSION}; run 'loadlock upgrade --lake {path}' (it makes a backup)"
        )
    return marker
