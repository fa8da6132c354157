"""A real HTTP server that scores, or misbehaves as a test tells it to."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[["Handler", dict[str, Any]], None]


@dataclass
class Service:
    """What it is asked, and what it says: the replies in turn, the last one for ever."""

    replies: list[Reply]
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    service: Service

    def do_POST(self) -> None:
        service = self.service
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with service.lock:
            service.bodies.append(body)
            service.headers.append(dict(self.headers))
            service.paths.append(self.path)
            service.times.append(time.monotonic())
            service.at_once += 1
            service.most_at_once = max(service.most_at_once, service.at_once)
            reply = service.replies.pop(0) if len(service.replies) > 1 else service.replies[0]
        try:
            reply(self, body)
        except OSError:  # the client hung up, as some tests want it to
            self.close_connection = True
        finally:
            with service.lock:
                service.at_once -= 1

    def answer(self, content: bytes, status: int = 200, kind: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        """Keep the tests' output to what they say themselves."""


@contextmanager
def serving(*replies: Reply, tls: ssl.SSLContext | None = None) -> Iterator[Service]:
    """A service on a free port of this machine, until the block ends."""
    service = Service(list(replies))
    handler = type("BoundHandler", (Handler,), {"service": service})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    service.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}/score"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def says(answer: Any, status: int = 200, **headers: str) -> Reply:
    """The same JSON whatever is asked."""
    return lambda handler, _: handler.answer(json.dumps(answer).encode(), status, **headers)


def scores_lengths(handler: Handler, body: dict[str, Any]) -> None:
    """A good service: as many points as a completion has letters."""
    handler.answer(json.dumps({"version": 1, "scores": [len(text) for text in body["completions"]]}).encode())
