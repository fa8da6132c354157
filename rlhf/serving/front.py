"""What all endpoints share: the replicas behind them, whether these are ready, and bodies read as JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from rlhf.errors import nearest
from rlhf.serving.cluster import Overloaded, Replicas, Unavailable
from rlhf.serving.figures import Figures
from rlhf.serving.judges import Judged, Row
from rlhf.serving.policy import Asked, Told
from rlhf.serving.refusals import Refusal
from rlhf.serving.settings import JudgeConfig, ServingConfig

_WELL_CHECK_S = 2.0


@dataclass
class Answer:
    """One whole answer."""

    prompt_tokens: int
    text: str = ""
    tokens: int = 0
    finish_reason: str = "length"


class Front:
    """The replicas as endpoints ask them; failures become refusals."""

    def __init__(self, config: ServingConfig, replicas: Replicas, figures: Figures) -> None:
        self.config = config
        self.figures = figures
        self._replicas = replicas
        self._is_well = True

    async def watch(self) -> None:
        """Ask Serve now and then whether all replicas are up; ends when it is cancelled."""
        while True:
            await asyncio.sleep(_WELL_CHECK_S)
            if self._replicas.is_loaded:
                self._is_well = await asyncio.to_thread(self._replicas.is_well)
                for model, number in (await self._replicas.being_written()).items():
                    self.figures.being_written(model, number)

    def require_ready(self) -> None:
        """Refuse while models load, and while one that died is loaded again."""
        if not self._replicas.is_loaded:
            raise Refusal(503, "the models are still loading; try again in a moment", code="loading", retry_after=2)
        if not self._is_well:
            raise Refusal(
                503, "a model is being started again; try again in a moment", code="restarting", retry_after=5
            )

    def model(self, name: str | None) -> str:
        """The policy's name; the first one where none is given."""
        names = list(self.config.models)
        if name is not None and name not in names:
            raise Refusal(404, f"no model is called {name[:200]!r}.{nearest(name, names)} Known: {', '.join(names)}.",
                          code="model_not_found")  # fmt: skip
        return name or names[0]

    async def json(self, request: Request) -> Any:
        """The body, read as JSON."""
        try:
            return json.loads(await request.body(), parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            raise Refusal(400, f"the body is not JSON: {str(error)[:200]}") from None

    async def write(self, model: str, asked: Asked) -> AsyncIterator[Told]:
        """An answer in pieces, the number of its prompt's tokens first."""
        try:
            async with aclosing(self._replicas.write(model, asked)) as pieces:  # type: ignore[type-var]
                async for told in pieces:
                    if "refused" in told:
                        raise Refusal(400, told["refused"])
                    self.figures.written(model, told)
                    yield told
        except (Overloaded, Unavailable) as error:
            raise _refusal(error) from error

    async def whole_answer(self, model: str, asked: Asked) -> Answer:
        """The same in one piece."""
        answer = Answer(0)
        async with aclosing(self.write(model, asked)) as pieces:  # type: ignore[type-var]
            async for told in pieces:
                answer.prompt_tokens = told.get("prompt_tokens", answer.prompt_tokens)
                answer.text += told.get("text", "")
                answer.tokens += told.get("tokens", 0)
                answer.finish_reason = told.get("finish_reason", answer.finish_reason)
        return answer

    async def judge(self, judge: JudgeConfig, rows: Sequence[Row]) -> list[Judged]:
        """What a reward or grader says of rows."""
        try:
            return await self._replicas.judge(judge, rows)
        except (Overloaded, Unavailable) as error:
            raise _refusal(error) from error


def _refusal(error: Overloaded | Unavailable) -> Refusal:
    if isinstance(error, Overloaded):
        return Refusal(429, str(error), code="overloaded", retry_after=1)
    return Refusal(503, f"the model was lost: {error}; it is being started again", code="restarting", retry_after=5)


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")
