"""The command that serves the console."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from loadlock.commands.shared import lake_path, open_lake
from loadlock.say import say

SHORTEST = 16


def serve(options: argparse.Namespace) -> int:
    """Serve the console until stopped; elsewhere than on the loopback only with a token."""
    import uvicorn

    from ingest.errors import UsageError
    from loadlock.console.app import application, is_local

    open_lake(options).close()  # an error of the lake is told now and not by the first page
    token = os.environ.get("LOADLOCK_TOKEN") or None
    if options.token_file:
        try:
            token = Path(options.token_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{options.token_file}: can't be read ({error})") from error
    if token is None and not is_local(options.host):
        raise UsageError(f"--host {options.host}: others can reach that; give a token with --token-file FILE or LOADLOCK_TOKEN")
    if token is not None and len(token) < SHORTEST:
        raise UsageError(f"the token has less than {SHORTEST} characters")
    app = application(lake_path(options), names=frozenset({options.host, *options.name}), token=token)
    say(
        f"http://{f'[{options.host}]' if ':' in options.host else options.host}:{options.port}/ shows {lake_path(options)}; Ctrl-C ends it",
        "serving",
    )
    uvicorn.run(app, host=options.host, port=options.port, log_level="warning", server_header=False)
    return 0
