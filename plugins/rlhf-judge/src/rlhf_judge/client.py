"""One request to a chat endpoint: what is sent, and what of the answer is believed.

Imports openai, and is therefore itself imported on the first request only.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx2
import openai

from rlhf_judge.client_errors import TooLong, fault_of
from rlhf_judge.faults import Fault, excerpt
from rlhf_judge.settings import EndpointConfig

# A line a request, and at DEBUG the headers as the endpoint sends them. Kept quiet unless somebody asks for these two.
for _name in ("httpx2", "httpcore2"):
    if logging.getLogger(_name).level == logging.NOTSET:
        logging.getLogger(_name).setLevel(logging.WARNING)

_SECRET_FROM = 8
"""Characters a key has to have to be struck out: local servers are given keys like "none", which answers may hold."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the model said, the tokens the endpoint counted, and why it cannot be used, where it cannot."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    problem: str | None = None


class _Guarded(openai.DefaultAsyncHttpxClient):
    """Follows no redirect, reads no body past a limit (those of errors included), and strikes the key out of what
    comes back, so that nothing behind it can repeat it.
    """

    def __init__(self, limit: int, key: str | None, *, trust_env: bool) -> None:
        super().__init__(follow_redirects=False, trust_env=trust_env)
        self._limit = limit
        self._key = key

    async def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:
        response = await super().send(request, stream=True, **options)
        body = bytearray()
        try:
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > self._limit:
                    raise TooLong(f"answered {response.status_code} with more than {self._limit} bytes; not read on")
        finally:
            await response.aclose()
        names = ("content-type", "location", "retry-after")
        kept = {name: self._hushed(response.headers[name]) for name in names if name in response.headers}
        text = self._hushed(body.decode("utf-8", errors="replace"))
        return httpx2.Response(response.status_code, headers=kept, content=text.encode(), request=request)

    def _hushed(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key and len(self._key) >= _SECRET_FROM else text


class ChatClient:
    """Asks one endpoint. Bound to the event loop that asks first."""

    def __init__(self, config: EndpointConfig, key: str | None) -> None:
        self._config = config
        # No proxy stands between this machine and itself.
        http = _Guarded(config.max_reply_bytes, key, trust_env=not config.loopback)
        self._client = openai.AsyncOpenAI(
            base_url=config.base_url,
            api_key=key or "none",
            timeout=config.request_timeout,
            max_retries=0,  # retries are the endpoint's: with full jitter and within its deadline
            http_client=http,
        )
        # What openai takes from the environment is meant for OpenAI, and not for whichever endpoint this is.
        self._headers: dict[str, str | openai.Omit] = {
            "Authorization": f"Bearer {key}" if key else openai.Omit(),
            "OpenAI-Organization": openai.Omit(),
            "OpenAI-Project": openai.Omit(),
        }

    def __repr__(self) -> str:
        return f"ChatClient({self._config.label})"

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()

    async def complete(self, messages: Sequence[Mapping[str, str]], schema: Mapping[str, Any] | None) -> Reply:
        """The model's answer; `Fault` for anything else. With a `schema` it is asked for JSON of that shape."""
        try:
            response = await self._client.post(
                "/chat/completions",
                cast_to=httpx2.Response,
                body=self._body(messages, schema),
                options={"headers": self._headers},
            )
        except openai.OpenAIError as error:
            fault = fault_of(error)
        except UnicodeEncodeError:
            fault = Fault("the text to judge cannot be sent: it holds half of a surrogate pair, which is no character")
        else:
            return self._read(response.text)
        raise fault  # here, so that it has no context: the client's exception holds the request, and that the key

    def _body(self, messages: Sequence[Mapping[str, str]], schema: Mapping[str, Any] | None) -> dict[str, Any]:
        config = self._config
        body: dict[str, Any] = {"model": config.model, "messages": [dict(m) for m in messages]}
        if config.temperature is not None:
            body["temperature"] = config.temperature
        if config.max_tokens is not None:
            body["max_tokens"] = config.max_tokens
        if schema is not None:
            verdict = {"name": "verdict", "strict": True, "schema": dict(schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": verdict}
        return body | config.extra_body

    def _read(self, text: str) -> Reply:
        try:
            answer = json.loads(text)
        except (ValueError, RecursionError):
            kind = "HTML" if text.lstrip()[:1] == "<" else "what is not JSON"
            raise Fault(
                f"answered {kind}: {excerpt(text)}; is base_url right, up to /v1?", for_everyone=kind == "HTML"
            ) from None
        choice = _first_choice(answer)
        message = choice.get("message") if choice else None
        if choice is None or not isinstance(message, dict):
            raise Fault(f"answered JSON without choices[0].message: {excerpt(text)}")
        content, usage = message.get("content"), answer.get("usage")
        usage = usage if isinstance(usage, dict) else {}
        return Reply(
            text=content.encode(errors="replace").decode() if isinstance(content, str) else "",
            prompt_tokens=_count(usage.get("prompt_tokens")),
            completion_tokens=_count(usage.get("completion_tokens")),
            problem=self._problem(message, choice.get("finish_reason"), text),
        )

    def _problem(self, message: dict[str, Any], finish: Any, body: str) -> str | None:
        content = message.get("content")
        if message.get("refusal") or finish == "content_filter":
            return f"refused to judge this text: {excerpt(str(message.get('refusal') or content or finish))}"
        if finish == "length":
            limit = self._config.max_tokens
            return f"its answer was cut at max_tokens ({limit}); allow more: {excerpt(str(content or ''), end=True)}"
        return None if isinstance(content, str) else f"answered without text: {excerpt(body)}"


def _first_choice(answer: Any) -> dict[str, Any] | None:
    choices = answer.get("choices") if isinstance(answer, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else None


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
