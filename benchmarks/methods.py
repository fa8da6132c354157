"""The methods of a comparison: a model as it is, or the best of n of its answers by a learned reward model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf.config import ModelConfig, Part, RoleSpec
from rlhf.errors import RunError
from rlhf.evaluation.best_of import BestOfN
from rlhf.evaluation.suites import evaluate, suite_graders, suite_named, suite_prompts
from rlhf.plugins import Plugins
from rlhf.recipe import Recipe
from rlhf.runtime.models import encoder_for
from rlhf.runtime.plan import derived_seed
from rlhf.runtime.scoring import StageParts
from rlhf.types import Sampling


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
        suite_graders(suite, plugins.registry, StageParts(plugins)),
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
