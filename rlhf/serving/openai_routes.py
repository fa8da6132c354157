"""`/v1/models`, `/v1/chat/completions` and `/v1/completions`, as OpenAI's clients ask for them."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from rlhf.serving.events import DONE, EventStream
from rlhf.serving.front import Front
from rlhf.serving.openai_requests import ChatRequest, CompletionRequest
from rlhf.serving.refusals import Refusal, read_as


@dataclass
class _Kind:
    """In what the two kinds of answers differ."""

    prefix: str
    name: str
    chunk_name: str

    def choice(self, index: int, text: str, reason: str | None) -> dict[str, Any]:
        """A whole answer."""
        said = {"text": text} if self.prefix == "cmpl" else {"message": {"role": "assistant", "content": text}}
        return {"index": index, **said, "logprobs": None, "finish_reason": reason}

    def piece(self, text: str | None, reason: str | None) -> dict[str, Any]:
        """Of a stream; None opens it."""
        if self.prefix == "cmpl":
            said: dict[str, Any] = {"text": text or ""}
        else:
            said = {"delta": {"role": "assistant", "content": ""} if text is None else {"content": text}}
        return {"index": 0, **said, "logprobs": None, "finish_reason": reason}


_CHAT = _Kind("chatcmpl", "chat.completion", "chat.completion.chunk")
_TEXT = _Kind("cmpl", "text_completion", "text_completion")


class OpenAIRoutes:
    """The endpoints, over the policies of a front."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._started = int(time.time())

    async def models(self, request: Request) -> Response:
        """Names of the policies."""
        listed = [
            {"id": name, "object": "model", "created": self._started, "owned_by": "rlhf"}
            for name in self._front.config.models
        ]
        return JSONResponse({"object": "list", "data": listed})

    async def chat(self, request: Request) -> Response:
        """The next turn of a conversation."""
        return await self._answer(_CHAT, read_as(ChatRequest, await self._front.json(request)))

    async def completions(self, request: Request) -> Response:
        """The continuation of a text."""
        return await self._answer(_TEXT, read_as(CompletionRequest, await self._front.json(request)))

    async def _answer(self, kind: _Kind, asked: ChatRequest | CompletionRequest) -> Response:
        front = self._front
        front.require_ready()
        model = front.model(asked.model)
        try:
            told = asked.for_policy(front.config.limits)
        except ValueError as error:
            raise Refusal(400, str(error)) from None
        head = {"id": f"{kind.prefix}-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
        if not asked.stream:
            seeds = [None if asked.seed is None else told["seed"] + number for number in range(asked.n)]
            answers = await _all(*(front.whole_answer(model, {**told, "seed": seed}) for seed in seeds))
            choices = [kind.choice(i, answer.text, answer.finish_reason) for i, answer in enumerate(answers)]
            usage = _usage(answers[0].prompt_tokens, sum(answer.tokens for answer in answers))
            return JSONResponse({**head, "object": kind.name, "choices": choices, "usage": usage})
        if asked.n > 1:
            raise Refusal(400, "n: answers are streamed one at a time; ask n times, or without stream")
        pieces = front.write(model, told)
        opening = await anext(pieces)  # what cannot be answered is refused before the stream begins
        head["object"] = kind.chunk_name
        with_usage = asked.stream_options is not None and asked.stream_options.include_usage
        return EventStream(_chunks(kind, head, opening, pieces, with_usage=with_usage))


async def _chunks(
    kind: _Kind, head: Mapping[str, Any], opening: Mapping[str, Any], pieces: AsyncIterator[Any], *, with_usage: bool
) -> AsyncIterator[dict[str, Any] | str]:
    tokens = 0
    if kind is _CHAT:
        yield {**head, "choices": [kind.piece(None, None)]}
    async with aclosing(pieces):  # type: ignore[type-var]  # an asynchronous generator, which can be closed
        async for told in pieces:
            tokens += told["tokens"]
            reason = told.get("finish_reason")
            if told["text"] or reason:
                yield {**head, "choices": [kind.piece(told["text"], reason)]}
    if with_usage:
        yield {**head, "choices": [], "usage": _usage(opening["prompt_tokens"], tokens)}
    yield DONE


async def _all(*answers: Any) -> list[Any]:
    """All results; where one fails, the others are given up."""
    tasks = [asyncio.ensure_future(answer) for answer in answers]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


def _usage(prompt_tokens: int, tokens: int) -> dict[str, int]:
    return {"prompt_tokens": prompt_tokens, "completion_tokens": tokens, "total_tokens": prompt_tokens + tokens}
