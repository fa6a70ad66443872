"""The console as a web application: who may ask what, which page answers, and the headers of every answer."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import duckdb
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingest.errors import UsageError
from loadlock.console import assets, pages, wafers
from loadlock.console.html import Html, finite, join, tag
from loadlock.console.parts import Asked
from loadlock.console.shelf import Shelf
from loadlock.lake import Lake
from loadlock.metrics import exposition
from storage.errors import LoadlockError

READERS, SECONDS = 3, 30.0
BODY_BYTES = 100_000
LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",  # plotly writes styles of its own
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}

KEPT = "private, max-age=31536000, immutable"
"""Browsers may keep what does not change: the addresses of assets name the version."""

ASSETS = {"plotly.js": "text/javascript", "console.js": "text/javascript", "console.css": "text/css"}


class Readers:
    """Open lakes for several threads, each used by one at a time and for no longer than ``SECONDS``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._free: queue.Queue[Lake | None] = queue.Queue()
        for _ in range(READERS):
            self._free.put(None)

    @contextmanager
    def one(self) -> Iterator[Lake]:
        """Yield an open lake; after an error it is opened anew."""
        lake = self._free.get()
        try:
            lake = lake or Lake(self._path, read_only=True)
            timer = threading.Timer(SECONDS, lake.store.connection.interrupt)
            timer.start()
            try:
                yield lake
            finally:
                timer.cancel()
        except duckdb.Error:
            if lake is not None:
                lake.close()
            lake = None
            raise
        finally:
            self._free.put(lake)

    def close(self) -> None:
        """Close what is open."""
        while not self._free.empty():
            lake = self._free.get()
            if lake is not None:
                lake.close()


class Guard:
    """Lets through what names an allowed host, carries the token where there is one, and comes from no other site."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str], token: str | None) -> None:
        self._app, self._hosts, self._token = app, hosts, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = dict(message.get("headers", ()))
                ours = ((key.encode(), value.encode()) for key, value in HEADERS.items())
                message["headers"] = [*message.get("headers", ()), *(item for item in ours if item[0] not in own)]
            await send(message)

        refused = self._refusal(Request(scope))
        await (refused or self._app)(scope, receive, sealed)

    def _refusal(self, request: Request) -> Response | None:
        if _host(request.headers.get("host", "")) not in self._hosts:
            return PlainTextResponse("this console does not go by that name; see --name of loadlock serve", 421)
        if self._token is not None and not hmac.compare_digest(_given(request).encode(), self._token.encode()):
            return PlainTextResponse("the token, please", 401, {"www-authenticate": 'Basic realm="loadlock: the token is the password"'})
        elsewhere = request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none")
        if elsewhere and (request.method != "GET" or request.headers.get("sec-fetch-mode") != "navigate"):
            return PlainTextResponse("not for other sites", 403)
        return None


def _host(header: str) -> str:
    name = header.rpartition("]")[0].removeprefix("[") if header.startswith("[") else header.partition(":")[0]
    return name.lower()


def _given(request: Request) -> str:
    kind, _, text = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "basic":
        try:
            return base64.b64decode(text, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return text if kind.lower() == "bearer" else ""


def is_local(host: str) -> bool:
    """Tell whether only this machine can reach a server bound to ``host``."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def application(path: Path, *, names: frozenset[str] = frozenset(), token: str | None = None) -> Guard:
    """Return the console of the lake at ``path``; it answers to ``names`` and the loopback's."""
    readers, shelf = Readers(path), Shelf()

    async def asked(request: Request) -> dict[str, str]:
        if request.method != "POST":
            return dict(request.query_params)
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > BODY_BYTES:
                raise UsageError(f"more than {BODY_BYTES:,} bytes")
        return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))

    def answering(make: Callable[[Lake, Asked], Response]) -> Callable[[Request], Any]:
        def answer(given: dict[str, str]) -> Response:
            with readers.one() as lake:
                return make(lake, given)

        async def endpoint(request: Request) -> Response:
            try:
                return await run_in_threadpool(answer, await asked(request))
            except UsageError as error:
                return _page("Not found", request.url.path, join([tag("h1", "That is not there"), tag("p", str(error))]), 404)
            except (LoadlockError, duckdb.Error) as error:
                text = str(error) if isinstance(error, LoadlockError) else "the lake could not be asked, or it took too long; try again"
                return _page("Unavailable", request.url.path, join([tag("h1", "The lake does not answer"), tag("p", text)]), 503)

        return endpoint

    def showing(where: str, make: Callable[[Lake, Asked], Html]) -> Callable[[Request], Any]:
        return answering(lambda lake, given: _page(pages.PAGES[where][0] or given.get("tool", ""), where, make(lake, given)))

    async def asset(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in ASSETS:
            return PlainTextResponse("no such file", 404)
        content = assets.plotly() if name == "plotly.js" else assets.own(name)
        return Response(content, media_type=ASSETS[name], headers={"cache-control": KEPT})

    metrics = answering(lambda lake, _: PlainTextResponse(exposition(lake), media_type="text/plain; version=0.0.4"))
    overlay = answering(lambda lake, given: JSONResponse(finite(wafers.overlay_document(lake, given, shelf))))
    window = answering(lambda lake, given: RedirectResponse(wafers.wafer_of(lake, given), 303))
    routes = [
        Route(where, showing(where, make), methods=["GET", "POST"] if where == "/sql" else ["GET"])
        for where, (_, make) in pages.PAGES.items()
    ]
    routes += [Route("/metrics", metrics), Route("/overlay", overlay), Route("/window", window), Route("/assets/{name}", asset)]

    async def absent(request: Request, _error: Exception) -> Response:
        return _page("Not found", request.url.path, join([tag("h1", "That is not there"), tag("p", "No page has this address.")]), 404)

    site = GZipMiddleware(Starlette(routes=routes, exception_handlers={404: absent}), minimum_size=2000, compresslevel=5)
    return Guard(site, LOCAL | {name.lower() for name in names}, token)


def _asset(name: str) -> str:
    return f"/assets/{name}?{assets.version()}"


def _page(title: str, where: str, body: Html, status: int = 200) -> Response:
    items = [
        tag("li", tag("a", name, href=path, aria_current="page" if path == where else None))
        for path, (name, _) in pages.PAGES.items()
        if name
    ]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{title} - loadlock"),
        tag("link", rel="stylesheet", href=_asset("console.css")),
        tag("link", rel="icon", href="data:,"),
    )
    top = tag("header", tag("strong", "loadlock"), tag("nav", tag("ul", *items), aria_label="Pages"))
    charts = 'class="plot"' in body
    scripts = [tag("script", src=_asset(name)) for name in ("plotly.js", "console.js")] if charts else []
    skip = tag("a", "Skip to the content", href="#main", class_="skip")
    foot = tag("footer", "All times are UTC. Nothing here changes the lake.")
    page = tag("html", head, tag("body", skip, top, tag("main", body, id="main", tabindex="-1"), foot, *scripts), lang="en")
    return Response(f"<!doctype html>{page}", status, media_type="text/html")
