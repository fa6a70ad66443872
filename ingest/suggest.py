"""A likely spelling for an unknown key: one of the keys that its own section takes."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def suggestion(file: type[BaseModel], location: tuple[Any, ...]) -> str:
    """Return '; did you mean ...?' for the unknown key at ``location`` of a ``file``, '' where no key of its section is like it."""
    section = file
    for part in location[:-1]:
        field = section.model_fields.get(part) if isinstance(part, str) else None
        section = section if field is None else next(_models(field.annotation), section)
    close = difflib.get_close_matches(str(location[-1]), sorted(section.model_fields), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""
