"""Several judges of different make, whose biases differ, in place of one (arXiv:2404.18796)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Literal

from pydantic import ConfigDict, Field, model_validator

from rlhf.types import Rollout
from rlhf_judge import loop
from rlhf_judge.absolute import AbsoluteConfig, AbsoluteForm
from rlhf_judge.agreement import FleissTally, agreement
from rlhf_judge.endpoint import Answer, Endpoint
from rlhf_judge.opinion import Opinion
from rlhf_judge.settings import EndpointConfig
from rlhf_judge.usage import Usage, total


class PanelConfig(AbsoluteConfig):
    """Options of `judge_panel`."""

    model_config = ConfigDict(hide_input_in_errors=True)  # as of an endpoint: a judge's table may hold a key by mistake

    judges: tuple[EndpointConfig, ...]
    """Two or more, each with `model`, `base_url` and whatever else `judge` takes of an endpoint."""
    combine: Literal["mean", "majority"] = "mean"
    """`majority`: the score most judges gave; the mean of those, where several were given equally often."""
    quorum: int | None = Field(default=None, ge=1)
    """Judges that must have answered for a row to have a score; all of them where absent."""

    @model_validator(mode="after")
    def _enough_judges(self) -> PanelConfig:
        if len(self.judges) < 2:  # here, and not by the field: its error would quote the tables
            raise ValueError(f"a panel has 2 judges or more, given {len(self.judges)}")
        if self.quorum is not None and self.quorum > len(self.judges):
            raise ValueError(f"quorum is {self.quorum}, and the panel has {len(self.judges)} judges")
        return self


class PanelJudge:
    """Asks every judge of the panel at once.

    Parts: `score/MODEL` of each judge that answered, `judges` that did, `agreement` (the share of pairs of judges with
    the same score, rounded to whole ones), tokens and cost of all. `kappa` is that of all rows every judge answered.
    """

    def __init__(self, config: PanelConfig) -> None:
        self.config = config
        self.form = AbsoluteForm(config)
        self.endpoints = {name: Endpoint(judge) for name, judge in zip(_names(config), config.judges, strict=True)}
        self.columns = self.form.columns
        self._tally = FleissTally()

    @property
    def usage(self) -> dict[str, Usage]:
        """All that each judge has taken so far, by its name in the parts."""
        return {name: endpoint.usage for name, endpoint in self.endpoints.items()}

    @property
    def kappa(self) -> float:
        """Fleiss' kappa of the panel so far, over scores rounded to whole ones."""
        return self._tally.kappa

    def judge(self, rollouts: Sequence[Rollout]) -> list[Opinion]:
        """One opinion a rollout, in order."""
        by_judge = loop.run(self._ask(rollouts))
        return [self._opinion(rollout, answers) for rollout, *answers in zip(rollouts, *by_judge, strict=True)]

    async def _ask(self, rollouts: Sequence[Rollout]) -> list[list[Answer[float]]]:
        questions = [self.form.question(rollout) for rollout in rollouts]
        return list(await asyncio.gather(*(e.answers(questions) for e in self.endpoints.values())))

    def _opinion(self, rollout: Rollout, answers: Sequence[Answer[float]]) -> Opinion:
        named = dict(zip(self.endpoints, answers, strict=True))
        raw = {n: self.form.raw(a.value, rollout) for n, a in named.items() if a.value is not None}
        needed = self.config.quorum or len(answers)
        if len(raw) < needed:
            failed = next(answer.error for answer in answers if answer.error is not None)
            return Opinion(error=f"{len(raw)} of {len(answers)} judges answered, {needed} must: {failed}")
        labels: list[Hashable] = [round(score) for score in raw.values()]
        parts = {f"score/{name}": score for name, score in raw.items()} | {"judges": float(len(raw))}
        if len(labels) > 1:
            parts["agreement"] = agreement(labels)
        if len(labels) == len(answers):
            self._tally.add(labels)
        parts |= total(answer.usage for answer in answers).parts()
        return Opinion(score=self._combined(answers), parts=parts, rationale=self._rationale(named))

    def _combined(self, answers: Sequence[Answer[float]]) -> float:
        scores = [answer.value for answer in answers if answer.value is not None]
        if self.config.combine == "majority":
            counts = Counter(scores)
            scores = [score for score, count in counts.items() if count == max(counts.values())]
        return sum(scores) / len(scores)

    def _rationale(self, named: dict[str, Answer[float]]) -> str:
        return "\n\n".join(f"{name}: {self.form.rationale(a)}" for name, a in named.items() if a.value is not None)


def _names(config: PanelConfig) -> list[str]:
    """The judges' models; one that sits on the panel twice is numbered."""
    models = [judge.model for judge in config.judges]
    seen: Counter[str] = Counter()
    names = []
    for model in models:
        seen[model] += 1
        names.append(f"{model}#{seen[model]}" if models.count(model) > 1 else model)
    return names
