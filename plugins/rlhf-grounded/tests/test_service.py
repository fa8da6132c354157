"""A fact service over real HTTP: what it is asked, what it may answer, and how it may fail."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from rlhf.errors import ConfigError
from rlhf.validation import validated
from rlhf_grounded import GroundedConfig, GroundedGrader, GroundedReward
from rlhf_grounded.service import LONGEST_ANSWER

ADA = {"text": "Ada Lovelace was born in London.", "source": "register"}


class FactServer(ThreadingHTTPServer):
    """Answers with whatever `answer` makes of the request's JSON; a tuple is a status and raw bytes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer: Callable[[dict[str, Any]], Any] = lambda request: {"passages": [ADA]}
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/facts"


class _Handler(BaseHTTPRequestHandler):
    server: FactServer

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(request)
        self.server.headers.append(dict(self.headers))
        answer = self.server.answer(request)
        status, body = answer if isinstance(answer, tuple) else (200, json.dumps(answer).encode())
        self.send_response(status)
        if status == 302:
            self.send_header("Location", self.server.url)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[FactServer]:
    running = FactServer()
    thread = threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()


def _read_request(connection: socket.socket) -> None:
    """All of it: closing a connection with bytes unread resets it."""
    received = b""
    while not received.endswith(b"}"):
        received += connection.recv(65536)


def reward_of(url: str, **service: Any) -> GroundedReward:
    return GroundedReward(GroundedConfig.model_validate({"service": {"url": url, **service}}), None)


def test_it_is_asked_about_each_claim_and_its_passages_are_judged(server: FactServer, ask: Any) -> None:
    reward = reward_of(server.url)
    answers = ("Ada Lovelace was born in London.", "Ada Lovelace was not born in London.")
    good, bad = reward([ask("Who?", answer) for answer in answers])
    assert (good.value, bad.value) == (1, -1)
    assert sorted(r["claim"] for r in server.requests) == sorted(answers)
    assert all(r["question"] == "Who?" and r["passages"] == 3 for r in server.requests)


def test_its_own_verdict_decides(server: FactServer, ask: Any) -> None:
    claim = ask("?", "The moon is made of cheese.")
    for verdict, value in [("supported", 1), ("contradicted", -1), ("not found", 0)]:
        for passages in ([ADA], []):
            server.answer = lambda request, v=verdict, p=passages: {"passages": p, "verdict": v}
            assert reward_of(server.url)([claim])[0].value == value


def test_knowing_nothing_is_not_found(server: FactServer, ask: Any) -> None:
    server.answer = lambda request: {"passages": []}
    (found,) = reward_of(server.url)([ask("?", "The moon is made of cheese.")])
    assert (found.value, found.error) == (0, None)


def test_equal_questions_are_asked_once(server: FactServer, ask: Any) -> None:
    reward_of(server.url)([ask("?", "Ada Lovelace was born in London.") for _ in range(5)])
    assert len(server.requests) == 1


def test_many_are_asked_at_once(server: FactServer, ask: Any) -> None:
    def slow(request: dict[str, Any]) -> Any:
        time.sleep(0.2)
        return {"passages": []}

    server.answer = slow
    begun = time.monotonic()
    reward_of(server.url, at_once=16)([ask("?", f"Planet {number} has moons.") for number in range(16)])
    assert time.monotonic() - begun < 16 * 0.2 / 2


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ((500, b"{}"), "status 500"),
        ((404, b"{}"), "status 404"),
        ((302, b""), "status 302"),
        ((200, b"<html>Sign in</html>"), "is not JSON; it begins '<html>Sign in</html>'"),
        ((200, b""), "is not JSON"),
        ({"passages": "none"}, "an object with a list `passages`"),
        ([ADA], "an object with a list `passages`"),
        ({"passages": [{"body": "x"}]}, "passage 1 must be an object with a text"),
        ({"passages": [ADA], "verdict": "true"}, "given 'true'"),
        ({"passages": [ADA], "verdict": ["supported"]}, "given ['supported']"),
        ((200, b" " * (LONGEST_ANSWER + 1)), "more than 4 MiB"),
    ],
)
def test_any_other_answer_is_an_error_and_no_number(server: FactServer, ask: Any, answer: Any, wanted: str) -> None:
    server.answer = lambda request: answer
    (found,) = reward_of(server.url)([ask("?", "Ada Lovelace was born in London.")])
    assert found.value is None
    assert server.url in found.error
    assert wanted in found.error


def test_a_service_that_hangs_is_an_error(ask: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        begun = time.monotonic()
        (found,) = reward_of(url, timeout=0.3)([ask("?", "Ada Lovelace was born in London.")])
    assert "no answer within 0.3 s" in found.error
    assert time.monotonic() - begun < 3


@pytest.mark.parametrize("part", ["head", "body"])
def test_a_service_that_drips_is_an_error(ask: Any, part: str) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"

    def drip(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            _read_request(connection)
            if part == "body":
                connection.sendall(head)
            for _ in range(100):
                try:
                    connection.sendall(b" " if part == "body" else b"H")
                except OSError:
                    return
                time.sleep(0.1)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=drip, args=(listening,), daemon=True).start()
        begun = time.monotonic()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        (found,) = reward_of(url, timeout=0.5)([ask("?", "Ada Lovelace was born in London.")])
        assert "no answer within 0.5 s" in found.error
        assert time.monotonic() - begun < 4


def test_an_answer_that_breaks_off_is_an_error(ask: Any) -> None:
    def half(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            _read_request(connection)
            connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"passages": []}')

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=half, args=(listening,), daemon=True).start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        (found,) = reward_of(url)([ask("?", "Ada Lovelace was born in London.")])
    assert found.value is None
    assert "IncompleteRead" in found.error


def test_a_service_that_is_down_is_an_error(ask: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
    (found,) = reward_of(url)([ask("?", "Ada Lovelace was born in London.")])
    assert "ConnectionRefusedError" in found.error


def test_one_failing_claim_leaves_its_completion_unjudged_and_no_other(server: FactServer, ask: Any) -> None:
    server.answer = lambda request: (500, b"") if "moon" in request["claim"] else {"passages": [ADA]}
    good, mixed = reward_of(server.url)(
        [
            ask("?", "Ada Lovelace was born in London."),
            ask("?", "Ada Lovelace was born in London. The moon is made of cheese."),
        ]
    )
    assert good.value == 1
    assert mixed.value is None
    assert "status 500" in mixed.error


def test_the_token_is_sent_and_never_told(server: FactServer, ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACTS_TOKEN", "s3cret-token")
    server.answer = lambda request: (401, b"s3cret-token is wrong")
    config = GroundedConfig.model_validate({"service": {"url": server.url, "token_env": "FACTS_TOKEN"}})
    (grade,) = GroundedGrader(config, None).grade([ask("?", "Ada Lovelace was born in London.")])
    assert server.headers[0]["Authorization"] == "Bearer s3cret-token"
    assert "status 401" in grade.error
    assert "s3cret" not in repr(grade) + repr(config)


def test_a_token_that_is_not_there(server: FactServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FACTS_TOKEN", raising=False)
    with pytest.raises(ConfigError, match="environment variable 'FACTS_TOKEN' is not set"):
        reward_of(server.url, token_env="FACTS_TOKEN")


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("http://example.org/facts", "use https for other machines"),
        ("http://10.0.0.1/facts", "use https for other machines"),
        ("http://localhost.example.org/", "use https for other machines"),
        ("https://user:word@example.org/", "token_env"),
        ("ftp://example.org/", "write https://HOST/PATH"),
        ("facts", "write https://HOST/PATH"),
        ("http://127.0.0.1:99999/", "no address"),
        ("http://[::1", "no address"),
    ],
)
def test_addresses_that_are_refused(url: str, wanted: str) -> None:
    with pytest.raises(ConfigError) as error:
        validated(GroundedConfig, {"service": {"url": url}}, "reward grounded")
    assert wanted in str(error.value)


@pytest.mark.parametrize(
    "url", ["https://example.org/facts", "http://localhost:80/", "http://[::1]:80/", "http://127.0.0.2/"]
)
def test_addresses_that_are_taken(url: str) -> None:
    assert GroundedConfig.model_validate({"service": {"url": url}}).service is not None
