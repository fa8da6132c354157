"""The HTTP server: a port that is free, connections that say what they want in time, and an end within seconds."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from rlhf.errors import ConfigError
from rlhf.serving.guard import App

HEADER_SECONDS = 10.0
"""A connection that has not said what it wants by then is closed (408)."""
_MAX_CONNECTIONS = 2048
_END_S = 2


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `ConfigError` where the port is taken, or the host is not this machine's."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise ConfigError(f"--host {host}: {error.strerror}") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_MAX_CONNECTIONS)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(f"--port {port}: something else listens there; give another, or 0 for any") from None
        raise ConfigError(f"--host {host} --port {port}: {error.strerror}") from None
    return listener


class ImpatientProtocol(H11Protocol):
    """Uvicorn's own, which would wait for the headers of a first request for ever."""

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._waiting = self.loop.call_later(HEADER_SECONDS, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        if self._waiting is not None and isinstance(self.cycle, RequestResponseCycle):
            self._waiting.cancel()  # from here on it is the guard that waits, and keep-alive between requests

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            self.transport.close()


class Server(uvicorn.Server):
    """Leaves signals to whoever runs it, who has more to end than connections."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def server_of(app: App) -> Server:
    """Not yet running."""
    config = uvicorn.Config(
        app,
        http=ImpatientProtocol,
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_graceful_shutdown=_END_S,
    )
    return Server(config)


class Ended(Exception):
    """A signal ended the server."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number)
        self.number = number


class Signals:
    """Ctrl-C and SIGTERM, as a future of the running loop."""

    def __init__(self) -> None:
        self._events = asyncio.get_running_loop()
        self.received: asyncio.Future[signal.Signals] = self._events.create_future()

    def catch(self) -> None:
        """From now on; once more where a library has set handlers of its own meanwhile."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._events.add_signal_handler(number, self._receive, number)

    def _receive(self, number: signal.Signals) -> None:
        if not self.received.done():
            self.received.set_result(number)


async def run_until_signal(
    server: Server, listener: socket.socket, signals: Signals, failed: asyncio.Future[BaseException]
) -> None:
    """Serve. Raises `Ended` after a signal, or what `failed` is told."""
    serving: asyncio.Future[None] = asyncio.ensure_future(server.serve(sockets=[listener]))
    ends: set[asyncio.Future[Any]] = {serving, signals.received, failed}
    try:
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    finally:
        server.should_exit = True
        await serving
    if failed.done():
        raise failed.result()
    if signals.received.done():
        raise Ended(signals.received.result())
