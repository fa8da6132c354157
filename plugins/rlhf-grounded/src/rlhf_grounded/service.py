"""Evidence from a fact service over HTTP.

Each claim is one POST of `{"claim": TEXT, "question": TEXT, "passages": N}`, with `Authorization: Bearer TOKEN` where a
token is configured. The service answers 200 with

    {"passages": [{"text": TEXT, "source": TEXT}, ...], "verdict": "supported" | "contradicted" | "not found"}

`source` and `verdict` may be left out; without a verdict we judge the passages ourselves. No passages means that it
knows nothing of the claim. Anything else (another status, a redirect, no JSON, a time-out) is an error of the row,
never "not found". Proxies are not used.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_args
from urllib.parse import urlsplit

from rlhf.errors import ConfigError
from rlhf_grounded.evidence import Asked, EvidenceError, Passage
from rlhf_grounded.options import ServiceConfig
from rlhf_grounded.verdict import Finding

LONGEST_ANSWER = 4 * 2**20
"""Bytes of an answer; more is an error."""


class Service:
    """Asks a fact service about each claim; equal questions within a batch are asked once."""

    def __init__(self, config: ServiceConfig, passages: int) -> None:
        self._config = config
        self._passages = passages
        self._url = urlsplit(config.url)
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"} | _authorization(config)

    def find(self, asked: Sequence[Asked]) -> list[list[Passage] | EvidenceError]:
        bodies = [self._body(one) for one in asked]
        different = list(dict.fromkeys(bodies))
        with ThreadPoolExecutor(max_workers=self._config.at_once) as pool:
            answers = dict(zip(different, pool.map(self._ask, different), strict=True))
        return [answers[body] for body in bodies]

    def _body(self, one: Asked) -> bytes:
        question = one.claim.question or one.rollout.prompt.last_user_text
        return json.dumps({"claim": one.claim.text, "question": question, "passages": self._passages}).encode()

    def _ask(self, body: bytes) -> list[Passage] | EvidenceError:
        begun = time.monotonic()
        try:
            return _parse(self._post(body), self._config.url)[: self._passages]
        except EvidenceError as error:
            reason = str(error)
        except (OSError, http.client.HTTPException) as error:
            reason = f"{type(error).__name__}: {error}"
            if time.monotonic() - begun >= self._config.timeout:
                reason = f"no answer within {self._config.timeout:g} s"
        return EvidenceError(f"fact service {self._config.url}: {reason}")

    def _post(self, body: bytes) -> bytes:
        """The answer's body. The time-out holds for the whole of it: a service that drips is cut off too."""
        connection = self._connection()
        cut_off = threading.Timer(self._config.timeout, _shut, [connection])
        cut_off.start()
        try:
            connection.request("POST", self._target(), body, self._headers)
            response = connection.getresponse()
            if response.status != http.client.OK:
                raise EvidenceError(f"status {response.status} {response.reason}")
            received = response.read(LONGEST_ANSWER + 1)
            if len(received) > LONGEST_ANSWER:
                raise EvidenceError(f"an answer of more than {LONGEST_ANSWER // 2**20} MiB")
            if response.length:
                raise http.client.IncompleteRead(received, response.length)
            return received
        finally:
            cut_off.cancel()
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        host, port, timeout = self._url.hostname or "", self._url.port, self._config.timeout
        if self._url.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=timeout, context=ssl.create_default_context())
        return http.client.HTTPConnection(host, port, timeout=timeout)

    def _target(self) -> str:
        return (self._url.path or "/") + (f"?{self._url.query}" if self._url.query else "")


def _shut(connection: http.client.HTTPConnection) -> None:
    sock = connection.sock
    if sock is not None:
        with contextlib.suppress(OSError):  # it is closed already
            sock.shutdown(socket.SHUT_RDWR)


def _parse(body: bytes, url: str) -> list[Passage]:
    try:
        answer: Any = json.loads(body)
    except ValueError:
        beginning = body[:60].decode("utf-8", "replace")
        raise EvidenceError(f"the answer is not JSON; it begins {beginning!r}") from None
    if not isinstance(answer, dict) or not isinstance(answer.get("passages"), list):
        raise EvidenceError("the answer must be an object with a list `passages`")
    verdict = answer.get("verdict")
    if verdict is not None and verdict not in get_args(Finding):
        raise EvidenceError(f"verdict must be one of {', '.join(get_args(Finding))}, given {verdict!r:.60}")
    passages = [_passage(one, url, number, verdict) for number, one in enumerate(answer["passages"], 1)]
    # A verdict without a passage to show is still a verdict.
    return passages or ([Passage("", url, verdict)] if verdict is not None else [])


def _passage(one: Any, url: str, number: int, verdict: Finding | None) -> Passage:
    if not isinstance(one, dict) or not isinstance(one.get("text"), str):
        raise EvidenceError(f"passage {number} must be an object with a text under `text`")
    return Passage(one["text"], str(one.get("source") or f"{url}#{number}"), verdict)


def _authorization(config: ServiceConfig) -> dict[str, str]:
    if config.token_env is None:
        return {}
    token = os.environ.get(config.token_env, "").strip()
    if not token:
        raise ConfigError(f"grounded: service.token_env: environment variable {config.token_env!r} is not set.")
    return {"Authorization": f"Bearer {token}"}
