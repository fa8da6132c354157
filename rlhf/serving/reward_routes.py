"""Rewards and graders over HTTP: the project's own protocol, which `remote` rewards speak, and OpenRLHF's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from rlhf.errors import nearest
from rlhf.rewards.reward_protocols import VERSION
from rlhf.serving.front import Front
from rlhf.serving.judges import Judged, Row
from rlhf.serving.openai_requests import ChatMessage
from rlhf.serving.refusals import Refusal, read_as
from rlhf.serving.settings import JudgeConfig

MAX_ROWS = 256
_Rows = Field(min_length=1, max_length=MAX_ROWS)
_Conversation = Annotated[tuple[ChatMessage, ...], Field(min_length=1)]


class RewardRequest(BaseModel):
    """`POST /v1/rewards`, version 1 (docs/rewards.md): one entry a row in each list."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    version: Literal[1] = 1
    prompts: tuple[str | _Conversation, ...] = _Rows
    completions: tuple[str, ...] = _Rows
    ids: tuple[str | None, ...] | None = None
    finish_reasons: tuple[Literal["stop", "length"], ...] | None = None
    references: tuple[str | None, ...] | None = None
    metadata: tuple[dict[str, Any], ...] | None = None

    def rows(self) -> list[Row]:
        """For a judge. Raises `Refusal` where the lists are of several lengths."""
        number = len(self.completions)
        columns: dict[str, Sequence[Any]] = {
            "id": self.ids or ["request"] * number,
            "prompt": self.prompts,
            "completion": self.completions,
            "finish_reason": self.finish_reasons or ["stop"] * number,
            "reference": self.references or [None] * number,
            "metadata": self.metadata or [{}] * number,
        }
        for name, column in columns.items():
            if len(column) != number:
                raise Refusal(400, f"{number} completions, and {len(column)} entries for {name}; one a row is needed")
        return [_row(**dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]


class OpenRlhfRequest(BaseModel):
    """`POST /get_reward`, as OpenRLHF asks: `query` is a prompt and its completion, as the policy reads them."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    query: tuple[str, ...] = _Rows
    prompts: tuple[str | None, ...] | None = None
    labels: tuple[Any, ...] | None = None

    def rows(self) -> list[Row]:
        """For a judge. Raises `Refusal` where the lists are of several lengths."""
        number = len(self.query)
        prompts, labels = self.prompts or [None] * number, self.labels or [None] * number
        if not len(prompts) == len(labels) == number:
            raise Refusal(400, f"{number} queries, {len(prompts)} prompts, {len(labels)} labels; one a row is needed")
        return [self._row(*row) for row in zip(self.query, prompts, labels, strict=True)]

    @staticmethod
    def _row(query: str, prompt: str | None, label: Any) -> Row:
        prompt = prompt or ""
        if not query.startswith(prompt):
            raise Refusal(400, "a query should begin with its prompt")
        reference = label if isinstance(label, str) and label else None
        return _row("request", prompt, query[len(prompt) :], "stop", reference, {})


class RewardRoutes:
    """The endpoints, over the judges of a front."""

    def __init__(self, front: Front) -> None:
        self._front = front

    async def rewards(self, request: Request) -> Response:
        """`/v1/rewards`, by the first judge, or `/v1/rewards/NAME`."""
        asked = read_as(RewardRequest, await self._front.json(request))
        judged = await self._judged(request.path_params.get("name"), asked.rows())
        answer = {
            "scores": [row["score"] for row in judged],
            "errors": [row["error"] for row in judged],
            "parts": [row["parts"] for row in judged],
        }
        return JSONResponse({"version": VERSION, **answer})

    async def get_reward(self, request: Request) -> Response:
        """`/get_reward`, by the first judge; a row that cannot be judged fails them all, for there is no other way to
        say so there.
        """
        asked = read_as(OpenRlhfRequest, await self._front.json(request))
        judged = await self._judged(request.path_params.get("name"), asked.rows())
        for row in judged:
            if row["score"] is None:
                raise Refusal(422, f"a row cannot be judged: {row['error'] or 'the reward does not speak of it'}")
        rewards = [row["score"] for row in judged]
        return JSONResponse({"rewards": rewards, "scores": rewards, "extra_logs": {}})

    async def _judged(self, name: str | None, rows: Sequence[Row]) -> list[Judged]:
        judge = self._judge(name)
        self._front.require_ready()
        return await self._front.judge(judge, rows)

    def _judge(self, name: str | None) -> JudgeConfig:
        judges = {judge.name: judge for judge in self._front.config.judges}
        if not judges:
            raise Refusal(404, "no reward or grader is served; start with --reward or --grader")
        if name is not None and name not in judges:
            known = ", ".join(judges)
            raise Refusal(
                404, f"no reward or grader is served as {name[:200]!r}.{nearest(name, judges)} Known: {known}."
            )
        return judges[name] if name is not None else next(iter(judges.values()))


def _row(
    id: str | None,  # noqa: A002 - the protocol's word
    prompt: str | Sequence[ChatMessage],
    completion: str,
    finish_reason: str,
    reference: str | None,
    metadata: dict[str, Any],
) -> Row:
    return {
        "id": id or "request",
        "text": prompt if isinstance(prompt, str) else None,
        "messages": None if isinstance(prompt, str) else tuple(turn.as_message() for turn in prompt),
        "completion": completion,
        "finish_reason": finish_reason,
        "reference": reference,
        "metadata": metadata,
    }
