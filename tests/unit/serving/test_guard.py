"""The guard and the HTTP server, over real connections: who is let in, and what slow and large requests are told."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from rlhf.errors import ConfigError
from rlhf.serving import guard, http_server
from rlhf.serving.events import EventStream
from rlhf.serving.figures import Figures
from rlhf.serving.guard import Guard
from rlhf.serving.http_server import listen, server_of
from rlhf.serving.settings import Limits, ServingConfig

KEY = "a-key-of-sixteen-or-more"


class Endpoint:
    """Says how long its body is; `/slow` never answers, `/endless` never ends."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()

    async def __call__(self, scope, receive, send) -> None:
        try:
            if scope["path"] == "/slow":
                await asyncio.sleep(60)
            if scope["path"] == "/endless":
                await EventStream(self._endless())(scope, receive, send)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        body = (await receive())["body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(len(body)).encode()})

    async def _endless(self):
        while True:
            yield {"tick": 1}
            await asyncio.sleep(0.02)


@contextmanager
def running(key: str | None = None, host: str = "127.0.0.1", **limits) -> Iterator[tuple[int, Endpoint]]:
    """A server in a thread: its port, and the endpoint behind the guard."""
    endpoint = Endpoint()
    config = ServingConfig(models={"m": "m"}, host=host, limits=Limits(**limits))
    listener = listen("127.0.0.1", 0)
    server = server_of(Guard(endpoint, config, key, Figures()))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
    thread.start()
    try:
        yield listener.getsockname()[1], endpoint
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
        assert not thread.is_alive()


def asked(port: int, path: str = "/", method: str = "GET", body: bytes | None = None, **headers: str):
    """Status, headers and text of one answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    told = answer.status, dict(answer.getheaders()), answer.read().decode()
    connection.close()
    return told


def said(port: int, sent: bytes, before_reading: Callable[[socket.socket], None] = lambda _: None) -> bytes:
    """All that comes back on a raw connection until it is closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(sent)
        before_reading(connection)
        pieces = []
        while piece := connection.recv(65536):
            pieces.append(piece)
        return b"".join(pieces)


JSON = {"content_type": "application/json"}


def test_a_request_passes_and_its_answer_is_safe_in_a_browser() -> None:
    with running() as (port, _):
        status, headers, text = asked(port, "/v1/x", "POST", b"{}", **JSON)
    assert (status, text) == (200, "2")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert "server" not in headers


def test_without_the_key_nobody_gets_in() -> None:
    with running(key=KEY) as (port, _):
        for given in (
            None,
            "Bearer wrong",
            f"Basic {KEY}",
            f"Bearer {KEY}x",
            "Bearer ",
            f"Bearer {KEY[:-1]}",
            "Bearer é",
        ):
            headers = {} if given is None else {"authorization": given.encode().decode("latin-1")}
            status, told, text = asked(port, "/v1/x", "POST", b"{}", **JSON, **headers)
            assert status == 401, given
            assert told["www-authenticate"] == "Bearer"
            assert json.loads(text)["error"]["code"] == "invalid_api_key"
            assert KEY not in text
        assert asked(port, "/v1/x", "POST", b"{}", **JSON, authorization=f"Bearer {KEY}")[0] == 200
        assert asked(port, "/health")[0] == 200  # as schedulers ask, who have no key
        assert asked(port, "/metrics")[0] == 401


def test_pages_of_other_sites_get_nothing() -> None:
    with running() as (port, _):
        assert asked(port, "/v1/x", "POST", b"{}", **JSON, origin="http://evil.example")[0] == 403
        assert asked(port, "/v1/x", "POST", b"{}", **JSON, origin="null")[0] == 403
        assert asked(port, "/v1/x", "POST", b"{}", **JSON, origin=f"http://127.0.0.1:{port}")[0] == 200
        assert asked(port, "/v1/x", host="evil.example")[0] == 403  # a name of theirs that leads here
        assert asked(port, "/v1/x", host="[oops")[0] == 403
        assert asked(port, "/v1/x", host=f"localhost:{port}")[0] == 200
        assert asked(port, "/v1/x", "POST", b"x=1", content_type="text/plain")[0] == 415  # needs no leave of a browser
    with running(key=KEY, host="0.0.0.0") as (port, _):  # others are meant to reach it, by whatever name
        assert asked(port, "/v1/x", host="models.example", authorization=f"Bearer {KEY}")[0] == 200


def test_a_request_too_large_is_told_so_whether_it_says_its_size_or_not() -> None:
    with running(max_body=2000) as (port, _):
        assert asked(port, "/v1/x", "POST", b"1" * 2000, **JSON)[0] == 200
        assert asked(port, "/v1/x", "POST", b"1" * 2001, **JSON)[0] == 413
        assert asked(port, "/v1/x", "POST", b"1" * 5_000_000, **JSON)[0] == 413
        head = b"POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        chunks = b"".join(b"3e8\r\n" + b"1" * 1000 + b"\r\n" for _ in range(3)) + b"0\r\n\r\n"
        told = said(port, head + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
        assert told.startswith(b"HTTP/1.1 413 "), told


def test_what_is_no_http_is_refused() -> None:
    with running() as (port, _):
        assert said(port, b"\x16\x03\x01 hello\r\n\r\n").startswith(b"HTTP/1.1 400 ")
        with suppress(ConnectionError):  # closed with something unread, which may take the answer along
            assert said(port, b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 200_000 + b"\r\n\r\n").startswith(b"HTTP/1.1 4")
        assert asked(port)[0] == 200


def test_slow_requests_end_and_hold_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.5)
    monkeypatch.setattr(http_server, "HEADER_SECONDS", 0.5)
    head = b"POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    with running() as (port, _):
        answers: list[bytes] = []
        slow = [
            threading.Thread(target=lambda sent=sent: answers.append(said(port, sent)))
            for sent in (b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\n", head + b"12")
            for _ in range(8)
        ]
        for thread in slow:
            thread.start()
        assert [asked(port, "/v1/x")[0] for _ in range(20)] == [200] * 20  # meanwhile
        for thread in slow:
            thread.join(20)
    assert len(answers) == len(slow)
    assert {answer[:12] for answer in answers} == {b"HTTP/1.1 408"}


def test_an_answer_that_takes_too_long_is_given_up() -> None:
    with running(timeout=0.4) as (port, endpoint):
        status, _, text = asked(port, "/slow")
        assert status == 504
        assert json.loads(text)["error"]["message"] == "the answer took longer than 0.4 s"
        assert endpoint.cancelled.wait(5)
        status, _, text = asked(port, "/endless")
        events = [json.loads(line.removeprefix("data: ")) for line in text.split("\n\n") if line]
        assert status == 200  # it had begun
        assert events[0] == {"tick": 1}
        assert events[-1]["error"]["code"] == "timeout"


@pytest.mark.parametrize("path", ["/slow", "/endless"])
def test_who_hangs_up_is_no_longer_worked_for(path: str) -> None:
    with running() as (port, endpoint):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            time.sleep(0.3)
            assert not endpoint.cancelled.is_set()
        assert endpoint.cancelled.wait(5)


def test_a_port_in_use_is_one_line() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(ConfigError) as caught:
            listen("127.0.0.1", port)
    assert str(caught.value) == f"--port {port}: something else listens there; give another, or 0 for any"
    with pytest.raises(ConfigError, match=r"^--host 192\.0\.2\.77 --port 0: "):
        listen("192.0.2.77", 0)
