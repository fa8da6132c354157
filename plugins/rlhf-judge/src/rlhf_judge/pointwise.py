"""One judge, one answer at a time."""

from __future__ import annotations

from collections.abc import Sequence

from rlhf.types import Rollout
from rlhf_judge.absolute import AbsoluteConfig, AbsoluteForm
from rlhf_judge.endpoint import Answer, Endpoint
from rlhf_judge.opinion import Opinion
from rlhf_judge.settings import EndpointConfig
from rlhf_judge.usage import Usage


class JudgeConfig(AbsoluteConfig, EndpointConfig):
    """Options of `judge`."""


class PointwiseJudge:
    """Scores each answer by a rubric. Parts: `score` on the rubric's own scale, tokens, and cost where priced."""

    def __init__(self, config: JudgeConfig) -> None:
        self.form = AbsoluteForm(config)
        self.endpoint = Endpoint(config)
        self.columns = self.form.columns

    @property
    def usage(self) -> Usage:
        """All that this judge has taken so far."""
        return self.endpoint.usage

    def judge(self, rollouts: Sequence[Rollout]) -> list[Opinion]:
        """One opinion a rollout, in order."""
        answers = self.endpoint.ask([self.form.question(rollout) for rollout in rollouts])
        return [self._opinion(rollout, answer) for rollout, answer in zip(rollouts, answers, strict=True)]

    def _opinion(self, rollout: Rollout, answer: Answer[float]) -> Opinion:
        if answer.value is None:
            return Opinion(error=answer.error)
        parts = {"score": self.form.raw(answer.value, rollout)} | answer.usage.parts()
        return Opinion(score=answer.value, parts=parts, rationale=self.form.rationale(answer))
