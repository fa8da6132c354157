"""The methods of a comparison: a model as it is, or the best of n of its answers by a learned reward model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlhf.config import ModelConfig, Part, RoleSpec
from rlhf.errors import ConfigError, RunError
from rlhf.evaluation.suites import evaluate, suite_graders, suite_named, suite_prompts
from rlhf.plugins import Plugins
from rlhf.protocols import RolloutEngine
from rlhf.recipe import Recipe
from rlhf.runtime.models import encoder_for
from rlhf.runtime.plan import derived_seed
from rlhf.runtime.scoring import StageParts
from rlhf.types import Completion, Prompt, Rollout, Sampling

if TYPE_CHECKING:
    from torch import Tensor

Score = Callable[[Sequence[Rollout]], list[float]]


@dataclass(frozen=True)
class Method:
    """`stage`'s model answers `n` times, and the reward model picks one."""

    name: str
    stage: str
    n: int
    pays_for: tuple[str, ...]
    """Stages that must be trained before it can answer."""


METHODS = (
    Method("SFT", "sft", 1, ("sft",)),
    Method("best of 4", "sft", 4, ("sft", "reward")),
    Method("best of 16", "sft", 16, ("sft", "reward")),
    Method("PPO", "ppo", 1, ("sft", "reward", "ppo")),
)


def best_of_n_kl(n: int) -> float:
    """`log n - (n - 1) / n` nats: how far best-of-n can be from the policy it samples from.

    Exact where no two samples are equal, an upper bound where some are (Beirami et al. 2024, theorem 1).
    """
    return math.log(n) - (n - 1) / n


class BestOfN:
    """A `RolloutEngine` that gives the best by `score` of `n` samples; of equals the first. Counts what it cost.

    A sample depends on the seed, the prompt and its own index only, so the best of 4 chooses among the first four
    samples of the best of 16, and the best of one is plain sampling.
    """

    def __init__(self, engine: RolloutEngine, score: Score, n: int) -> None:
        self._engine, self._score, self.n = engine, score, n
        self.num_answers = 0
        self.num_tokens = 0
        """Generated for all samples, thrown away or not."""
        self.scores: list[float] = []
        """Of the answers given."""

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """One completion for each prompt."""
        if sampling.num_samples != 1:
            raise RunError(f"best of n gives one answer a prompt, and {sampling.num_samples} were asked for")
        groups = self._engine.generate(prompts, replace(sampling, num_samples=self.n))
        pairs = zip(prompts, groups, strict=True)
        rollouts = [Rollout(prompt=prompt, completion=completion) for prompt, group in pairs for completion in group]
        scores = self._score(rollouts)
        chosen = []
        for group, start in zip(groups, range(0, len(scores), self.n), strict=True):
            of_group = scores[start : start + self.n]
            best = max(range(self.n), key=of_group.__getitem__)
            chosen.append([group[best]])
            self.scores.append(of_group[best])
        self.num_answers += len(groups)
        self.num_tokens += sum(len(rollout.completion.token_ids) for rollout in rollouts)
        return chosen

    def load_weights(self, weights: Iterator[tuple[str, Tensor]], version: int) -> None:
        self._engine.load_weights(weights, version)

    def sleep(self) -> None:
        self._engine.sleep()

    def wake(self) -> None:
        self._engine.wake()


def graded(method: Method, recipe: Recipe, folder: Path, plugins: Plugins) -> dict[str, Any]:
    """The method's answers to the recipe's held-out prompts, graded: a mean for each axis, and what answering cost."""
    config = recipe.evaluation
    assert config is not None
    model = ModelConfig(path=str(folder / method.stage / "model"), dtype="float32")
    encoder = encoder_for(model, max_new_tokens=config.max_tokens)
    reward_model = _reward_model(folder / "reward" / "model", plugins)
    rollout = recipe.stages["ppo"].rollout.engine
    answering = BestOfN(
        plugins.registry.build("rollout_engine", rollout.type, rollout.options, model),
        lambda rollouts: reward_model.forward(encoder.rollout_batch(rollouts)).scores_B.tolist(),
        method.n,
    )
    suite = suite_named(config.suite)
    dataset = plugins.registry.build("dataset", suite.dataset.type, suite.dataset.options)
    sampling = Sampling(
        max_tokens=config.max_tokens,
        temperature=config.temperature,
        stop_token_ids=encoder.stop_ids,
        seed=derived_seed(recipe.seed, "evaluation"),
    )
    result = evaluate(
        suite,
        answering,
        encoder.encode_prompt,
        suite_graders(suite, plugins.registry, StageParts(plugins, _not_for_graders)),
        suite_prompts(suite, dataset, config.num_prompts),
        sampling,
    )
    label = method.name.replace(" ", "_").lower()
    result.write_rows(folder / "comparison" / f"{label}.jsonl")
    return _figures(result.scores(), answering)


def _reward_model(path: Path, plugins: Plugins) -> Any:
    part = Part(type="torch")
    spec = RoleSpec(role="reward", model=ModelConfig(path=str(path), dtype="float32"))
    return plugins.registry.build("train_engine", part.type, part.options, spec)


def _figures(axes: dict[str, float | None], answering: BestOfN) -> dict[str, Any]:
    scores = {axis: score for axis, score in axes.items() if score is not None}
    if len(scores) != len(axes):
        raise RunError(f"no answer could be graded on {', '.join(axis for axis in axes if axis not in scores)}")
    return {
        **scores,
        "mean": sum(scores.values()) / len(scores),
        "reward": sum(answering.scores) / answering.num_answers,
        "tokens_per_answer": answering.num_tokens / answering.num_answers,
    }


def _not_for_graders(_: object) -> list[float]:
    raise ConfigError("a grader of the comparison asked for the reward model; gold graders must not")
