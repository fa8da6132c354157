"""A reward behind HTTP: a service of yours, a model on Ray Serve, or one that serves OpenRLHF."""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from rlhf.config import PartConfig
from rlhf.config.model_files import why_not_loaded
from rlhf.errors import ConfigError
from rlhf.protocols import Parts
from rlhf.rewards.http_post import Endpoint, PostFailed
from rlhf.rewards.reward_protocols import OpenRlhfProtocol, OwnProtocol, RewardProtocol, Row
from rlhf.types import Message, Rollout, Score


class RemoteConfig(PartConfig):
    """Options of `remote`."""

    url: str
    """Where to POST: `https://HOST/PATH`, or `http://` to this machine."""
    protocol: Literal["rlhf", "openrlhf"] = "rlhf"
    """What is said there (docs/rewards.md): the project's own version 1, or OpenRLHF's `/get_reward`."""
    metadata: tuple[str, ...] = ()
    """Columns of the data that are sent, by protocol `rlhf`; no other column but `reference` leaves the machine."""
    tokenizer: str | None = None
    """With protocol `openrlhf`: a folder or hub name of the tokenizer whose chat template writes conversations."""
    token_env: str | None = None
    """Name of the environment variable with the token that is sent as `Authorization: Bearer`."""
    allow_http: bool = False
    """Speak plain HTTP to other machines, where whoever is on the way can read and change what is said."""
    batch_size: int = Field(default=32, ge=1)
    """Completions in one request, at most."""
    parallel_requests: int = Field(default=4, ge=1)
    """Requests under way at a time."""
    request_timeout: float = Field(default=60.0, gt=0)
    """Seconds one request may take, from the connection to the end of the answer."""
    max_attempts: int = Field(default=4, ge=1)
    """How often a request is made that fails by what may pass: no connection, time-outs, HTTP 429 and 5xx. Pauses grow
    from half a second, at random, up to a minute; `Retry-After` is kept to. After 3 requests in a row that failed so,
    the service is left alone for 30 s.
    """

    @model_validator(mode="after")
    def _is_an_address(self) -> RemoteConfig:
        # Of the whole table, not of the field: pydantic would repeat the address, and what secret it may hold.
        _check_address(self.url, self.allow_http)
        return self

    @model_validator(mode="after")
    def _options_of_its_protocol(self) -> RemoteConfig:
        if self.metadata and self.protocol == "openrlhf":
            raise ValueError("metadata: protocol openrlhf has no place for it; leave it out, or serve protocol rlhf")
        if self.tokenizer is not None and self.protocol == "rlhf":
            raise ValueError("tokenizer: protocol rlhf sends conversations as they are; leave it out")
        return self


class Remote:
    """What the service answers, row by row; a request that fails is an error of its rows and of no others.

    Empty and non-English completions are sent as they are. Requests are independent of one another, so it is the
    service that must judge a row without looking at its neighbours.
    """

    def __init__(self, config: RemoteConfig, parts: Parts) -> None:
        self.config = config
        self.columns = config.metadata
        self._protocol: RewardProtocol = OwnProtocol(config.metadata)
        if config.protocol == "openrlhf":
            self._protocol = OpenRlhfProtocol(_chat_template(config.tokenizer))
        self._endpoint = Endpoint(config.url, config.request_timeout, config.max_attempts, _token(config.token_env))
        self._requests = ThreadPoolExecutor(config.parallel_requests, thread_name_prefix="remote-reward")

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        scores = [Score()] * len(rollouts)
        sendable: list[tuple[int, Row]] = []
        for number, rollout in enumerate(rollouts):
            try:
                row = self._protocol.row(rollout)
                json.dumps(row, allow_nan=False)
                sendable.append((number, row))
            except (TypeError, ValueError) as error:
                scores[number] = Score(error=f"row {rollout.prompt.id!r} cannot be sent: {error}")
        size = self.config.batch_size
        batches = [sendable[start : start + size] for start in range(0, len(sendable), size)]
        for batch, answers in zip(batches, self._requests.map(self._ask, batches), strict=True):
            for (number, _), score in zip(batch, answers, strict=True):
                scores[number] = score
        return scores

    def _ask(self, batch: Sequence[tuple[int, Row]]) -> list[Score]:
        """One request; its failure is that of each of its rows."""
        body = json.dumps(self._protocol.body([row for _, row in batch]), allow_nan=False).encode()
        try:
            scores = self._scores(self._endpoint.post_json(body), len(batch))
        except PostFailed as error:
            scores = [Score(error=str(error))] * len(batch)
        return [replace(score, error=self._endpoint.hide(score.error)) if score.error else score for score in scores]

    def _scores(self, answer: bytes, num_rows: int) -> list[Score]:
        try:
            parsed = json.loads(answer)
        except (ValueError, RecursionError):
            shown = self._endpoint.shown(answer)
            raise PostFailed(f"{self._endpoint.name} answered with what is not JSON: {shown}") from None
        try:
            return self._protocol.scores(parsed, num_rows)
        except ValueError as error:
            raise PostFailed(f"{self._endpoint.name} {error}") from None


def _check_address(url: str, allow_http: bool) -> None:
    """`ValueError` for what is no address, for one with a password in it, and for plain HTTP to another machine."""
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("url: an address is of ASCII letters without spaces; encode others as %XX")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"url: {error}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("url: give https://HOST/PATH, or http://127.0.0.1:PORT/PATH for a service on this machine")
    if parts.username is not None or parts.password is not None:
        raise ValueError("url: no user or password in it; put a token in a variable and name it in token_env")
    if parts.fragment:
        raise ValueError("url: the part behind # is never sent; leave it out")
    if parts.scheme == "http" and not allow_http and not _is_loopback(host):
        raise ValueError(
            f"url: plain http to {host} sends prompts and tokens unencrypted; use https, or allow_http: true"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _token(variable: str | None) -> str | None:
    """The token; `ConfigError` without its text where there is none, or it could not be sent."""
    if variable is None:
        return None
    token = os.environ.get(variable, "").strip()
    if not token:
        raise ConfigError(f"remote.token_env: no environment variable {variable!r} is set where the reward runs")
    if not token.isascii() or not token.isprintable():
        raise ConfigError(f"remote.token_env: {variable!r} holds characters that no HTTP header may carry")
    return token


def _chat_template(tokenizer: str | None) -> Callable[[Sequence[Message]], str] | None:
    """Writes a conversation as text, up to where the assistant's next turn begins."""
    if tokenizer is None:
        return None
    from transformers import AutoTokenizer

    try:
        loaded = AutoTokenizer.from_pretrained(tokenizer, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ConfigError(f"remote.tokenizer: cannot load {tokenizer!r}: {why_not_loaded(error)}") from None
    if not loaded.chat_template:
        raise ConfigError(f"remote.tokenizer: {tokenizer!r} has no chat template; name one that has")

    def as_text(messages: Sequence[Message]) -> str:
        turns = [{"role": str(message["role"]), "content": message["content"]} for message in messages]
        return str(loaded.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

    return as_text
