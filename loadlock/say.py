"""What a command says on standard error: a line for people, or with ``LOADLOCK_LOG=json`` one JSON object for machines."""

from __future__ import annotations

import os
import sys
from typing import Any

LEVELS = {"info": 20, "warning": 30, "error": 40}


def say(text: str, event: str = "note", *, level: str = "info", **fields: Any) -> None:
    """Say ``text``; as JSON it is the field ``text`` of ``event``, beside ``fields``, level and time (UTC)."""
    if os.environ.get("LOADLOCK_LOG") == "json":
        _logger().log(LEVELS[level], event, text=text, **fields)
    else:
        print(f"loadlock: {text}", file=sys.stderr, flush=True)


def _logger() -> Any:
    import structlog

    return structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS["info"]),
    )
