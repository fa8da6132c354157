"""What the page asks for: two answers side by side, what judges say of them, and which of them is better."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from rlhf.serving.events import EventStream
from rlhf.serving.front import Front
from rlhf.serving.openai_requests import ChatMessage, ChatRequest
from rlhf.serving.preferences import SIDES, Choice, Comparison, Comparisons, PreferenceFiles, Side
from rlhf.serving.refusals import Refusal, read_as


class CompareRequest(BaseModel):
    """`POST /v1/comparisons`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    messages: tuple[ChatMessage, ...] = Field(min_length=1, max_length=1000)
    temperature: float = Field(default=1.0, ge=0, le=2)
    max_tokens: int | None = Field(default=None, ge=1)


class ChoiceRequest(BaseModel):
    """`POST /v1/comparisons/ID/choice`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    choice: Choice


class CompareRoutes:
    """The endpoints. Who wrote which answer is told once a choice is made, and not before."""

    def __init__(self, front: Front, files: PreferenceFiles | None) -> None:
        self._front, self._files = front, files
        self._comparisons = Comparisons()
        self._choosing = asyncio.Lock()

    async def describe(self, request: Request) -> Response:
        """What the page shows before anything is asked."""
        config = self._front.config
        told = {
            "models": list(config.models),
            "judges": [{"name": judge.name, "kind": judge.kind} for judge in config.judges],
            "records": self._files is not None,
            "max_tokens": config.limits.max_tokens,
        }
        return JSONResponse(told)

    async def compare(self, request: Request) -> Response:
        """Both answers as they are written: `{comparison}`, then `{side, text}`, then `{side, finish_reason}`."""
        asked = read_as(CompareRequest, await self._front.json(request))
        self._front.require_ready()
        if asked.messages[-1].role != "user":
            raise Refusal(400, "messages: the last turn should be the user's")
        options = {"temperature": asked.temperature, "max_tokens": asked.max_tokens}
        try:
            chat = ChatRequest.model_validate({"messages": asked.messages, **options})
            told = chat.for_policy(self._front.config.limits)
        except ValueError as error:
            raise Refusal(400, str(error)) from None
        names = list(self._front.config.models)
        comparison = self._comparisons.begin(told["messages"], [names[0], names[-1]], options)
        return EventStream(self._events(comparison, told))

    async def scores(self, request: Request) -> Response:
        """What every judge says of both answers: seen before the choice, if it is asked for then."""
        comparison = self._comparison(request)
        if comparison.choice is None:
            comparison.scores_seen = True
        return JSONResponse({"scores": await self._judged(comparison)})

    async def choose(self, request: Request) -> Response:
        """Record the choice, once, and tell who wrote which."""
        comparison = self._comparison(request)
        choice = read_as(ChoiceRequest, await self._front.json(request)).choice
        if self._files is None:
            raise Refusal(409, "choices are not recorded here; start with --preferences FOLDER")
        if choice in SIDES and comparison.answers["left"] == comparison.answers["right"]:
            raise Refusal(409, "the two answers are the same, so neither is better; choose tie or both_bad")
        scores = await self._judged(comparison)
        async with self._choosing:
            if comparison.choice is not None:
                raise Refusal(409, f"this comparison is decided: {comparison.choice}")
            await asyncio.shield(asyncio.to_thread(self._files.record, comparison, choice))
            comparison.choice = choice
        return JSONResponse({"choice": choice, "models": comparison.models, "scores": scores})

    def _comparison(self, request: Request) -> Comparison:
        comparison = self._comparisons.get(request.path_params["id"])
        if comparison is None:
            raise Refusal(404, "no such comparison; the server remembers the last thousand since it was started")
        if len(comparison.answers) < len(SIDES):
            raise Refusal(409, "its answers are not whole")
        return comparison

    async def _judged(self, comparison: Comparison) -> dict[Side, dict[str, Any]]:
        """By side and judge, asked once."""
        if comparison.scores is None:
            judges = self._front.config.judges
            rows = [_row(comparison, side) for side in SIDES]
            answers = await asyncio.gather(*(self._front.judge(judge, rows) for judge in judges))
            comparison.scores = {
                side: {judge.name: answer[number] for judge, answer in zip(judges, answers, strict=True)}
                for number, side in enumerate(SIDES)
            }
        return comparison.scores

    async def _events(self, comparison: Comparison, asked: Mapping[str, Any]) -> AsyncIterator[dict[str, Any] | str]:
        """Both sides as they come."""
        yield {"comparison": comparison.id}
        events: asyncio.Queue[dict[str, Any] | Exception | None] = asyncio.Queue()
        tasks = [asyncio.create_task(self._side(comparison, side, asked, events)) for side in SIDES]
        try:
            left = len(tasks)
            while left:
                told = await events.get()
                if isinstance(told, Exception):
                    raise told
                if told is None:
                    left -= 1
                else:
                    yield told
        finally:
            for task in tasks:
                task.cancel()

    async def _side(
        self, comparison: Comparison, side: Side, asked: Mapping[str, Any], events: asyncio.Queue[Any]
    ) -> None:
        text = ""
        try:
            async with aclosing(self._front.write(comparison.models[side], asked)) as pieces:  # type: ignore[type-var]
                async for told in pieces:
                    if told.get("text"):
                        text += told["text"]
                        events.put_nowait({"side": side, "text": told["text"]})
                    if "finish_reason" in told:
                        comparison.answers[side] = text
                        comparison.finish_reasons[side] = told["finish_reason"]
                        events.put_nowait({"side": side, "finish_reason": told["finish_reason"]})
        except Exception as error:  # noqa: BLE001 - raised again where the stream is written
            events.put_nowait(error)
        events.put_nowait(None)


def _row(comparison: Comparison, side: Side) -> dict[str, Any]:
    return {
        "id": comparison.id,
        "messages": tuple(comparison.messages),
        "text": None,
        "completion": comparison.answers[side],
        "finish_reason": comparison.finish_reasons[side],
        "reference": None,
        "metadata": {},
    }
