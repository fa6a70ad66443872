"""Use a lake with every way out barred: run as ``offline.py LAKE SOURCE CONFIG``; prints what was tried.

Sockets are barred in Python; the extensions are native code, so the folders they would be fetched to are watched as well, and
where the system allows it the caller takes the network away altogether.
"""

from __future__ import annotations

import json
import socket
import sys
from typing import Any

tried: list[str] = []


def barred(*arguments: Any, **_options: Any) -> Any:
    """Record and refuse."""
    tried.append(repr(arguments))
    raise OSError("no network in this test")


def main(lake: str, source: str, config: str) -> None:
    """Make, feed, query and verify a lake."""
    socket.socket.connect = barred  # type: ignore[method-assign]
    socket.getaddrinfo = barred
    socket.create_connection = barred
    import loadlock

    with loadlock.open(lake) as opened:
        summary = opened.ingest(source, config=config)
        settings = opened.sql(
            "select name, value from duckdb_settings() where name in ('autoinstall_known_extensions', 'autoload_known_extensions')"
        ).fetchall()
        loaded = opened.sql("select extension_name, install_path, install_mode from duckdb_extensions() where loaded").fetchall()
        document = {
            "samples": summary.samples,
            "faults": opened.verify().faults,
            "settings": dict(settings),
            "loaded": {row[0]: row[1] for row in loaded},
            "tried": tried,
        }
    print(json.dumps(document))


if __name__ == "__main__":
    main(*sys.argv[1:])
