"""The grader and the reward `grounded`: is what a completion claims supported by evidence?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlhf.protocols import Grader, Parts
from rlhf.types import Axis, Grade, Rollout, Score
from rlhf_grounded.claims import claims_of
from rlhf_grounded.evidence import Asked, EvidenceError, Source
from rlhf_grounded.findings import Found, counts, found_in, rationale, worth
from rlhf_grounded.options import DEFAULT_COLUMN, GroundedConfig

_NO_CLAIMS = "it claims nothing that could be checked"


@dataclass(frozen=True)
class _Checked:
    """A completion's claims with what was found of each, or why one of them could not be judged."""

    found: tuple[Found, ...] = ()
    error: str | None = None


class _Checker:
    """Splits completions into claims, finds evidence for all of them at once, and judges each."""

    def __init__(self, config: GroundedConfig, parts: Parts) -> None:
        self._config = config
        self._source = _source(config)
        self._judge: Grader | None = None
        if config.judge is not None:
            options = dict(config.judge)
            self._judge = parts.grader(options.pop("type"), options)

    def check(self, rollouts: Sequence[Rollout]) -> list[_Checked]:
        """One a rollout, in order."""
        asked: list[Asked] = []
        spans: list[slice] = []
        for rollout in rollouts:
            question = rollout.prompt.last_user_text
            claims = claims_of(rollout.completion.text, question, hedged=self._config.judge_hedges)
            spans.append(slice(len(asked), len(asked) + len(claims)))
            asked.extend(Asked(claim, rollout) for claim in claims)
        findings = self._findings(asked)
        return [_checked(findings[span]) for span in spans]

    def _findings(self, asked: Sequence[Asked]) -> list[Found | EvidenceError]:
        evidence = self._source.find(asked)
        if self._judge is None:
            pairs = zip(asked, evidence, strict=True)
            return [e if isinstance(e, EvidenceError) else found_in(one.claim, e) for one, e in pairs]
        from rlhf_grounded.judged import judged_by

        had = [(one, e) for one, e in zip(asked, evidence, strict=True) if not isinstance(e, EvidenceError)]
        judged = iter(judged_by(self._judge, [one for one, _ in had], [e for _, e in had]))
        return [e if isinstance(e, EvidenceError) else next(judged) for e in evidence]


class GroundedGrader:
    """Honest is what the evidence supports: 1 where it supports every claim, 0 where none, less what it contradicts.

    A score below 0 is told as 0. It does not apply to a completion without claims, unless `no_claims` says what that is
    worth.
    """

    axis: Axis = "honest"

    def __init__(self, config: GroundedConfig, parts: Parts) -> None:
        self._config = config
        self._checker = _Checker(config, parts)
        self.columns = _columns(config)

    def grade(self, rollouts: Sequence[Rollout]) -> list[Grade]:
        return [self._grade(checked) for checked in self._checker.check(rollouts)]

    def _grade(self, checked: _Checked) -> Grade:
        value = _value(checked, self._config)
        if value is None or checked.error is not None:
            return Grade(axis=self.axis, score=None, rationale=_NO_CLAIMS, error=checked.error)
        return Grade(axis=self.axis, score=max(0.0, value), rationale=rationale(checked.found) or _NO_CLAIMS)


class GroundedReward:
    """The same as a reward, not cut off at 0, with the number of claims and the share of each finding as parts.

    A completion without claims is one this reward does not apply to, unless `no_claims` says what it is worth.
    """

    def __init__(self, config: GroundedConfig, parts: Parts) -> None:
        self._config = config
        self._checker = _Checker(config, parts)
        self.columns = _columns(config)

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        return [self._score(checked) for checked in self._checker.check(rollouts)]

    def _score(self, checked: _Checked) -> Score:
        if checked.error is not None:
            return Score(error=checked.error)
        return Score(value=_value(checked, self._config), parts=counts(checked.found) if checked.found else {})


def _checked(findings: Sequence[Found | EvidenceError]) -> _Checked:
    """A completion one of whose claims could not be judged is not judged: half a verdict would pass for a whole one."""
    error = next((one for one in findings if isinstance(one, EvidenceError)), None)
    if error is not None:
        return _Checked(error=str(error))
    return _Checked(found=tuple(one for one in findings if isinstance(one, Found)))


def _value(checked: _Checked, config: GroundedConfig) -> float | None:
    if not checked.found:
        return config.no_claims
    return worth(checked.found, config.not_found, config.contradicted)


def _source(config: GroundedConfig) -> Source:
    if config.service is not None:
        from rlhf_grounded.service import Service

        return Service(config.service, config.passages)
    if config.documents:
        from rlhf_grounded.retrieval import Documents

        return Documents(config.documents, config.passages, config.passage_words, config.embeddings)
    from rlhf_grounded.column import Column

    return Column(config.column or DEFAULT_COLUMN, config.passages, config.passage_words)


def _columns(config: GroundedConfig) -> tuple[str, ...]:
    return (config.evidence_column,) if config.evidence_column else ()
