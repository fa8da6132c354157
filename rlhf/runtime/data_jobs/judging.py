"""Rows judged by a grader or a reward of any plugin, outside of any run: `--keep "refusal<0.5"`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlhf.config import RewardPart
from rlhf.data.curation.row_view import RowView
from rlhf.errors import ConfigError, RewardError, nearest
from rlhf.plugins import PluginSettings, load_plugins
from rlhf.rewards.answers import batch_scores
from rlhf.rewards.building import PlainParts, build_reward
from rlhf.types import Completion, Rollout
from rlhf.validation import validated

_COMPARES: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_RULE = re.compile(r"\s*(?P<name>[^<>=\s]+)\s*(?P<sign><=|>=|<|>)\s*(?P<bound>[-+.\deE]+)\s*")
_BATCH = 64

Judge = Callable[[Sequence[Rollout]], Sequence[tuple[float | None, str | None]]]
"""A score and an error for each rollout; neither where the judge has nothing to say of it."""


@dataclass(frozen=True)
class KeepRule:
    """Rows stay whose best answer a grader or a reward scores so: `refusal<0.5`."""

    name: str
    sign: str
    bound: float
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str, options: Mapping[str, Any]) -> KeepRule:
        """Of a command line. Raises `ConfigError`."""
        found = _RULE.fullmatch(text)
        try:
            bound = float(found["bound"]) if found else 0.0
        except ValueError:
            found = None
        if found is None:
            raise ConfigError(f"--keep {text!r}: write a grader or reward, a comparison and a number: 'refusal<0.5'")
        return cls(found["name"], found["sign"], bound, dict(options.get(found["name"], {})))

    def __str__(self) -> str:
        return f"{self.name}{self.sign}{self.bound:g}"

    def why_not(self, score: float | None, error: str | None) -> str | None:
        """Why a row of this score does not stay. What the judge has nothing to say of, stays."""
        if error is not None:
            return f"{self.name} could not judge it: {error}"
        if score is None or _COMPARES[self.sign](score, self.bound):
            return None
        return f"{self.name} is {score:.4g}"


def read_rules(texts: Sequence[str], options: Mapping[str, Any]) -> tuple[KeepRule, ...]:
    """The rules of a command line with their options, by name. Raises `ConfigError`."""
    rules = tuple(KeepRule.read(text, options) for text in texts)
    names = [rule.name for rule in rules]
    for name in options:
        if name not in names:
            raise ConfigError(
                f"{name}.{next(iter(options[name]), '')}: no --keep names {name!r}.{nearest(name, names)}"
            )
    return rules


def build_judge(name: str, options: Mapping[str, Any], plugin_files: Sequence[str]) -> Judge:
    """The grader of this name, or else the reward. Raises `ConfigError` for one that does not exist."""
    plugins = load_plugins(PluginSettings(paths=tuple(plugin_files)))
    registry = plugins.registry
    graders, rewards = registry.names("grader"), registry.names("reward")
    parts = PlainParts(registry)
    if name in graders:
        grader = parts.grader(name, options)
        return lambda rollouts: [(grade.score, grade.error) for grade in grader.grade(rollouts)]
    if name in rewards:
        reward = build_reward(validated(RewardPart, {"type": name, **options}, name), registry, parts, name)
        return lambda rollouts: [(s.value, s.error) for s in batch_scores(reward(rollouts), len(rollouts))]
    known = [*graders, *rewards]
    raise ConfigError(f"no grader or reward is called {name!r}.{nearest(name, known)} Known: {', '.join(known)}.")


def judged(judge: Judge, name: str, rollouts: Sequence[Rollout]) -> list[tuple[float | None, str | None]]:
    """Scores in order, asked for in batches. Raises `RewardError` where the judge raises or miscounts."""
    found: list[tuple[float | None, str | None]] = []
    for start in range(0, len(rollouts), _BATCH):
        batch = rollouts[start : start + _BATCH]
        try:
            scores = list(judge(batch))
        except Exception as error:
            place = f"{batch[0].prompt.id} to {batch[-1].prompt.id}"
            raise RewardError(f"{name} failed on rows {place}: {type(error).__name__}: {error}") from error
        if len(scores) != len(batch):
            raise RewardError(f"{name} returned {len(scores)} scores for {len(batch)} rows")
        found += scores
    return found


def rollout_of(view: RowView) -> Rollout | None:
    """The best answer of a row, as judges take it; None where the row has none. Token ids are made up, one a word."""
    if view.prompt is None or not view.answers:
        return None
    return answered(view, view.answers[0])


def answered(view: RowView, text: str) -> Rollout:
    """An answer to the row's prompt."""
    assert view.prompt is not None
    ids = tuple(range(len(text.split())))
    completion = Completion(token_ids=ids, logprobs=(0.0,) * len(ids), text=text, finish_reason="stop")
    return Rollout(prompt=view.prompt, completion=completion)
