"""What stands before every endpoint: who may ask, how large and how slow a request may be, and how long it may take.

An ASGI middleware. Whoever hangs up is no longer worked for: the endpoint is cancelled, and with it what a replica
writes for it.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders

from rlhf.serving.events import event
from rlhf.serving.figures import Figures
from rlhf.serving.refusals import Refusal
from rlhf.serving.settings import ServingConfig, is_loopback

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

BODY_SECONDS = 10.0
"""A request of at most 1 MiB, as a rule, takes no longer to arrive (408)."""
_LAST_WORDS_S = 5.0
_DRAINED = 32 * 2**20  # bytes of a body too large that are read and thrown away, so that the answer can be read
OPEN = ("/", "/health", "/favicon.ico")
"""Hold nothing of anybody's: no key is asked for."""


class Guard:
    """Wraps the endpoints."""

    def __init__(self, app: App, config: ServingConfig, key: str | None, figures: Figures) -> None:
        self._app, self._config, self._figures = app, config, figures
        self._key = None if key is None else key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # nothing but HTTP is spoken; uvicorn closes the connection
        answer = _Answer(send)
        started = time.monotonic()
        self._figures.under_way.inc()
        try:
            self._admit(scope)
            body = await self._body(Headers(scope=scope), receive)
            await self._answer(scope, body, receive, answer)
        except Refusal as refusal:
            await refusal.response()(scope, receive, answer)
            if refusal.status == 413:
                await _drain(receive)
        finally:
            self._figures.under_way.dec()
            path = getattr(scope.get("route"), "path", "other")
            self._figures.answered(path, answer.status or 499, time.monotonic() - started)

    def _admit(self, scope: Scope) -> None:
        """Refuse strangers: other sites' pages in a browser here, and whoever has no key."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._config.is_private and not is_loopback(_hostname(f"http://{host}")):
            # A name of somebody else's that leads here: how a web page gets around the same-origin policy.
            raise Refusal(403, f"this server is for this machine alone, asked as {host[:100]!r}")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            raise Refusal(403, "pages of other sites may not ask this server")
        if self._key is None or scope["path"] in OPEN:
            return
        kind, _, given = headers.get("authorization", "").partition(" ")
        is_right = hmac.compare_digest(given.strip().encode("utf-8", "replace"), self._key)
        if kind.lower() != "bearer" or not is_right:
            raise Refusal(401, "a key is needed: send `Authorization: Bearer KEY`", code="invalid_api_key")

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        """The whole body, within its size and its time."""
        most = self._config.limits.max_body
        too_large = Refusal(413, f"a request may have at most {most} bytes")
        if headers.get("content-length", "0").isdecimal() and int(headers.get("content-length", "0")) > most:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refusal(400, "the request was cut short")
                    body += message.get("body", b"")
                    if len(body) > most:
                        raise too_large
                    if not message.get("more_body"):
                        break
        except TimeoutError:
            raise Refusal(408, f"the request took longer than {BODY_SECONDS:.0f} s to arrive") from None
        if body and headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Refusal(415, "send JSON, as `Content-Type: application/json`")
        return bytes(body)

    async def _answer(self, scope: Scope, body: bytes, receive: Receive, answer: _Answer) -> None:
        """Run the endpoint until it has answered, the client has gone, or its time is up."""
        limit = self._config.limits.timeout
        work = asyncio.ensure_future(self._app(scope, _replayed(body), answer))
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait({work, gone}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
        finally:
            work.cancel()
            is_gone = gone.done()
            gone.cancel()
            await asyncio.wait({work, gone}, timeout=_LAST_WORDS_S)
        if is_gone:
            return None
        late = Refusal(504, f"the answer took longer than {limit:g} s", code="timeout")
        if answer.status is None:
            raise late
        if answer.is_stream:
            async with asyncio.timeout(_LAST_WORDS_S):  # a client that does not read is not waited for either
                await answer({"type": "http.response.body", "body": event(late.body()).encode()})
        return None


class _Answer:
    """Sends on what the endpoint sends, with headers that every answer has."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status: int | None = None
        self.is_stream = False

    async def __call__(self, message: Event) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            self.status = message["status"]
            self.is_stream = headers.get("content-type", "").startswith("text/event-stream")
            headers["X-Content-Type-Options"] = "nosniff"
            headers["Referrer-Policy"] = "no-referrer"
            headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
            headers.setdefault("Cache-Control", "no-store")
        await self._send(message)


def _replayed(body: bytes) -> Receive:
    """The body once more, for the endpoint; after it, nothing: the guard listens for the client's end itself."""
    told = False

    async def receive() -> Event:
        nonlocal told
        if not told:
            told = True
            return {"type": "http.request", "body": body, "more_body": False}
        await asyncio.Event().wait()
        raise AssertionError("nothing sets it")

    return receive


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _drain(receive: Receive) -> None:
    """Read on for a moment: a connection that is closed with something unread takes the answer along."""
    left = _DRAINED
    try:
        async with asyncio.timeout(_LAST_WORDS_S):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body"):
                    return
    except TimeoutError:
        return


def _hostname(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
