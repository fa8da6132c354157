"""A real chat-completions server on the loopback, which answers as each test says."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rlhf.types import Completion, Message, Prompt, Rollout


@dataclass(frozen=True)
class Response:
    """What goes over the wire; `cut` announces the whole body and sends half of it."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256  # callers that knock at once; the default of five turns some away

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that hung up is a part of the tests; anything else is printed."""
        if not isinstance(sys.exception(), BrokenPipeError | ConnectionResetError):
            super().handle_error(request, client_address)


class JudgeServer:
    """Answers with `reply(request, number)`: a text the model is to say, or a whole `Response`."""

    def __init__(self) -> None:
        self.reply: Callable[[dict[str, Any], int], str | Response] = lambda request, number: "Good.\nScore: 4"
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.in_flight = self.peak = 0
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                outer.handle(self)

            do_GET = do_POST

            def log_message(self, *args: Any) -> None:
                """Quiet."""

        self.http = _Http(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        request = json.loads(handler.rfile.read(int(handler.headers.get("content-length", 0))) or "{}")
        with self.lock:
            number = len(self.requests)
            self.requests.append(request)
            self.headers.append({k.lower(): v for k, v in handler.headers.items()})
            self.paths.append(handler.path)
            self.in_flight += 1
            self.peak = max(self.peak, self.in_flight)
        try:
            reply = self.reply(request, number)
        finally:
            with self.lock:
                self.in_flight -= 1
        response = said(reply) if isinstance(reply, str) else reply
        handler.send_response(response.status)
        for name, value in {"content-type": "application/json", **response.headers}.items():
            handler.send_header(name, value)
        handler.send_header("content-length", str(len(response.body)))
        handler.end_headers()
        handler.wfile.write(response.body[: len(response.body) // 2] if response.cut else response.body)
        handler.wfile.flush()
        if response.cut:
            handler.close_connection = True

    def texts(self) -> list[str]:
        """The user's message of each request."""
        return [request["messages"][-1]["content"] for request in self.requests]


def said(text: str | None, finish: str = "stop", **message: Any) -> Response:
    """A reply in the chat-completions schema: 100 prompt tokens, 10 of the answer."""
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    body = {"id": "x", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}
    return Response(200, json.dumps(body).encode())


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[JudgeServer]:
    """A running server; retries against it come at once."""
    monkeypatch.setattr("rlhf_judge.backoff.BASE", 0.01)
    running = JudgeServer()
    yield running
    running.http.shutdown()
    running.http.server_close()


@pytest.fixture(name="said")
def said_fixture() -> Callable[..., Response]:
    return said


@pytest.fixture(name="Response")
def response_fixture() -> type[Response]:
    return Response


@pytest.fixture
def rollout() -> Callable[..., Rollout]:
    """Makes a rollout of a question and an answer."""

    def make(
        question: str = "What is 2 + 2?",
        answer: str = "4",
        reference: str | None = None,
        turns: tuple[Message, ...] | None = None,
        id: str = "p0",  # noqa: A002 - as the field is called
        **metadata: Any,
    ) -> Rollout:
        text = None if turns else question
        prompt = Prompt(id=id, text=text, messages=turns, reference=reference, metadata=metadata)
        completion = Completion(token_ids=(), logprobs=(), text=answer, finish_reason="stop")
        return Rollout(prompt=prompt, completion=completion)

    return make


@pytest.fixture
def data_dir() -> Path:
    """Public labelled data; a test that needs it skips where there is none."""
    named = os.environ.get("RLHF_DATA_DIR")
    roots = [Path(named)] if named else [p / "shared" / "data" for p in Path(__file__).resolve().parents]
    found = next((root for root in roots if root.is_dir()), None)
    if found is None:
        pytest.skip("no public data: set RLHF_DATA_DIR, or put it in ../shared/data beside the checkout")
    return found
