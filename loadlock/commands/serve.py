"""The command that serves the console."""

from __future__ import annotations

import argparse
import os
import socket
from pathlib import Path

from loadlock.commands.shared import lake_path, open_lake
from loadlock.say import say

SHORTEST = 16


def serve(options: argparse.Namespace) -> int:
    """Serve the console until stopped; elsewhere than on the loopback only with a token."""
    import uvicorn

    from ingest.errors import UsageError
    from loadlock.console.app import application, is_local
    from storage.errors import Busy

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
    try:
        listening = socket.create_server((options.host, options.port), family=socket.AF_INET6 if ":" in options.host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        raise Busy(
            f"can't listen on {options.host}, port {options.port} ({error}); give another with --port N or --host ADDRESS"
        ) from error
    with listening:
        host = f"[{options.host}]" if ":" in options.host else options.host
        say(f"http://{host}:{listening.getsockname()[1]}/ shows {lake_path(options)}; Ctrl-C ends it", "serving")
        uvicorn.Server(uvicorn.Config(app, log_level="warning", server_header=False)).run(sockets=[listening])
    return 0
