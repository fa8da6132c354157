"""Which of two answers is better, asked in both orders, because judges lean towards one place (arXiv:2306.05685)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal

from pydantic import Field, model_validator

from rlhf.types import Axis, Rollout
from rlhf_judge.absolute import SYSTEM
from rlhf_judge.endpoint import Answer, Endpoint, Question
from rlhf_judge.fences import fenced
from rlhf_judge.opinion import Opinion
from rlhf_judge.settings import EndpointConfig
from rlhf_judge.template import PAIR_PLACES, PAIRWISE, check_template, conversation_text, filled
from rlhf_judge.usage import Usage, total
from rlhf_judge.verdict import VerdictForm, rationale, read_choice, verdict_request, verdict_schema

CHOICES = ("1", "2", "tie")
Winner = Literal["first", "second", "tie"]
_WORTH: Mapping[Winner, float] = {"first": 1.0, "tie": 0.5, "second": 0.0}
_SHOWN_FIRST: Mapping[str, float] = {"1": 1.0, "tie": 0.5, "2": 0.0}


class PairwiseConfig(EndpointConfig):
    """Options of `judge_pairwise`."""

    axis: Axis = "helpful"
    """What a grade counts towards."""
    against: Literal["reference", "samples"] = "reference"
    """Compare with the row's `reference`, or with every other sample of the same prompt in the same call. n samples
    cost n(n-1) questions.
    """
    criteria: str = Field(default="which one serves the user better: correct, complete, honest, safe and to the point?")
    """What makes an answer better."""
    template: str | None = None
    """The question itself; places: {conversation}, {answer_1}, {answer_2}, {reference}, {criteria}, {verdict}."""
    verdict: VerdictForm = "line"
    """`line`: reasons, and a last line `Better: 1`, `2` or `tie`. `json`: one JSON object."""

    @model_validator(mode="after")
    def _template_has_places(self) -> PairwiseConfig:
        if self.template is not None:
            check_template(self.template, PAIR_PLACES, {"answer_1", "answer_2", "verdict"})
        return self


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two answers to one conversation."""

    conversation: str
    first: str
    second: str
    reference: str = ""
    """A known good answer, for the judge's eyes."""


@dataclass(frozen=True, kw_only=True)
class PairVerdict:
    """`winner` where both orders agree, else a tie; None with the `error` that prevented it.

    `contradicted`: each order had another winner. `shown_first`: how often the answer shown first was preferred, 0 to
    1 over the two orders, a tie counting half: 0.5 without a bias, 1 for a judge that always takes the first.
    """

    winner: Winner | None = None
    contradicted: bool = False
    shown_first: float = 0.5
    rationale: str = ""
    error: str | None = None
    usage: Usage = field(default_factory=Usage)


class PairwiseJudge:
    """Compares answers. As a part of a recipe it scores 1 for a win, 0.5 for a tie and 0 for a loss, and the mean of
    these over several opponents.

    Parts: `contradicted` and `shown_first` (see `PairVerdict`), `opponents`, tokens, and cost where priced.
    """

    def __init__(self, config: PairwiseConfig) -> None:
        self.config = config
        self.endpoint = Endpoint(config)
        self.columns = ("reference",) if config.against == "reference" else ()

    @property
    def usage(self) -> Usage:
        """All that this judge has taken so far."""
        return self.endpoint.usage

    def compare(self, pairs: Sequence[Pair]) -> list[PairVerdict]:
        """One verdict a pair, in order. Equal texts are a tie and nobody is asked."""
        questions = [question for pair in pairs for question in self._both_orders(pair)]
        answers = self.endpoint.ask(questions)
        return [self._verdict(*answers[2 * i : 2 * i + 2]) for i in range(len(pairs))]

    def judge(self, rollouts: Sequence[Rollout]) -> list[Opinion]:
        """One opinion a rollout, in order."""
        if self.config.against == "reference":
            return self._against_reference(rollouts)
        return self._against_samples(rollouts)

    def _against_reference(self, rollouts: Sequence[Rollout]) -> list[Opinion]:
        known = [rollout for rollout in rollouts if rollout.prompt.reference is not None]
        pairs = [_pair(rollout, rollout.prompt.reference or "") for rollout in known]
        verdicts = iter(self.compare(pairs))
        return [
            Opinion(error=f"prompt {rollout.prompt.id!r} has no reference to compare with")
            if rollout.prompt.reference is None
            else _opinion([(next(verdicts), "first")])
            for rollout in rollouts
        ]

    def _against_samples(self, rollouts: Sequence[Rollout]) -> list[Opinion]:
        samples: dict[str, list[int]] = defaultdict(list)
        for number, rollout in enumerate(rollouts):
            samples[rollout.prompt.id].append(number)
        matches = [match for numbers in samples.values() for match in combinations(numbers, 2)]
        verdicts = self.compare([_pair(rollouts[a], rollouts[b].completion.text) for a, b in matches])
        met: dict[int, list[tuple[PairVerdict, Winner]]] = defaultdict(list)
        for (a, b), verdict in zip(matches, verdicts, strict=True):
            met[a].append((verdict, "first"))
            met[b].append((verdict, "second"))
        alone = (
            "prompt {!r} has no other sample to compare with in this call; sample several, or say against: reference"
        )
        return [
            _opinion(met[number]) if number in met else Opinion(error=alone.format(rollout.prompt.id))
            for number, rollout in enumerate(rollouts)
        ]

    def _both_orders(self, pair: Pair) -> list[Question[str] | Answer[str]]:
        if pair.first == pair.second:
            return [Answer(value="tie")] * 2
        return [self._question(pair, pair.first, pair.second), self._question(pair, pair.second, pair.first)]

    def _question(self, pair: Pair, shown_first: str, shown_second: str) -> Question[str]:
        form = self.config.verdict
        request = verdict_request(form, "Better", 'the number of the better answer, 1 or 2, or "tie"')
        texts = {"conversation": pair.conversation, "answer_1": shown_first, "answer_2": shown_second}
        if pair.reference:
            texts["reference"] = pair.reference
        places = {"reference": ""} | fenced(texts) | {"criteria": self.config.criteria, "verdict": request}
        return Question(
            messages=(
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": filled(self.config.template or PAIRWISE, places)},
            ),
            parse=lambda text: read_choice(text, form, CHOICES),
            reminder=f"Mind the form of your answer. {request}",
            schema=verdict_schema("better", {"type": "string", "enum": list(CHOICES)}) if form == "json" else None,
        )

    def _verdict(self, forth: Answer[str], back: Answer[str]) -> PairVerdict:
        usage = forth.usage + back.usage
        if forth.value is None or back.value is None:
            return PairVerdict(error=forth.error or back.error, usage=usage)
        orders = (forth.value, back.value)
        winners: Mapping[tuple[str, str], Winner] = {("1", "2"): "first", ("2", "1"): "second"}
        return PairVerdict(
            winner=winners.get(orders, "tie"),
            contradicted=orders in (("1", "1"), ("2", "2")),
            shown_first=sum(_SHOWN_FIRST[choice] for choice in orders) / 2,
            rationale=rationale(forth.text, self.config.verdict) if forth.text else "",
            usage=usage,
        )


def _pair(rollout: Rollout, other: str) -> Pair:
    return Pair(conversation=conversation_text(rollout), first=rollout.completion.text, second=other)


def _opinion(met: Sequence[tuple[PairVerdict, Winner]]) -> Opinion:
    """The mean over opponents; an error as soon as one comparison failed, so that all samples met the same field."""
    verdicts = [verdict for verdict, _ in met]
    worth = []
    for verdict, place in met:
        if verdict.winner is None:
            return Opinion(error=verdict.error)
        worth.append(_WORTH[verdict.winner] if place == "first" else 1 - _WORTH[verdict.winner])
    parts = {
        "contradicted": sum(v.contradicted for v in verdicts) / len(verdicts),
        "shown_first": sum(v.shown_first for v in verdicts) / len(verdicts),
        "opponents": float(len(verdicts)),
    }
    usage = total(v.usage for v in verdicts).parts()
    rationale_of_all = "\n\n".join(v.rationale for v in verdicts if v.rationale)
    return Opinion(score=sum(worth) / len(worth), parts=parts | usage, rationale=rationale_of_all)
