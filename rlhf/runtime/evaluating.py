"""The 3H evaluation of models on disk, each answering as it is told to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlhf.config import AnswersConfig, ModelConfig, Part, RoleSpec
from rlhf.data.encode import Encoder
from rlhf.data.examples import read_examples
from rlhf.errors import DataError
from rlhf.evaluation.best_of import BestOfN
from rlhf.evaluation.in_context import with_examples
from rlhf.evaluation.result import EvaluationResult
from rlhf.evaluation.suites import evaluate, suite_graders, suite_named, suite_prompts
from rlhf.plugins import Plugins, load_plugins
from rlhf.protocols import RolloutEngine
from rlhf.recipe import EvaluationConfig
from rlhf.runtime.models import encoder_for, require_model
from rlhf.runtime.plan import derived_seed, member_name
from rlhf.runtime.role_models import RoleModels
from rlhf.runtime.scoring import StageParts, build_rubric
from rlhf.runtime.vocabularies import require_same_vocabulary
from rlhf.types import Demonstration, Prompt, Rollout, Sampling


def evaluate_models(
    models: Mapping[str, Path | AnswersConfig],
    suite: str = "3h",
    *,
    num_prompts: int = 600,
    max_tokens: int = 64,
    temperature: float = 1.0,
    seed: int = 0,
    plugins: Plugins | None = None,
) -> dict[str, EvaluationResult]:
    """Each model's answers to the same held-out prompts, graded. Sampled with the same seed, in this process."""
    plugins = plugins or load_plugins()
    sides = {label: side if isinstance(side, AnswersConfig) else _as_it_is(side) for label, side in models.items()}
    for answers in sides.values():
        _require_models(answers)
    config = EvaluationConfig(
        suite=suite, after=_as_it_is(""), num_prompts=num_prompts, max_tokens=max_tokens, temperature=temperature
    )
    return {label: _evaluate(answers, config, seed, plugins) for label, answers in sides.items()}


def check_evaluation(config: EvaluationConfig) -> None:
    """Refuse, before anything is trained, what the evaluation at the end could not read."""
    suite_named(config.suite)
    for answers in filter(None, (config.before, config.after)):
        for path in (answers.model, *answers.reward_model):
            if not path.startswith("stage:"):
                require_model(ModelConfig(path=path))
        if answers.in_context:
            read_examples(answers.in_context)


def _as_it_is(path: Path | str) -> AnswersConfig:
    return AnswersConfig(model=str(path))


def _require_models(answers: AnswersConfig) -> None:
    """Refuse what is not there, or speaks of other tokens, before any model answers."""
    model = ModelConfig(path=answers.model)
    require_model(model)
    for path in answers.reward_model:
        require_model(ModelConfig(path=path))
        require_same_vocabulary("reward_model", ModelConfig(path=path), model)


def _evaluate(answers: AnswersConfig, config: EvaluationConfig, seed: int, plugins: Plugins) -> EvaluationResult:
    model = ModelConfig(path=answers.model, dtype="float32")
    suite = suite_named(config.suite)
    dataset = plugins.registry.build("dataset", suite.dataset.type, suite.dataset.options)
    prompts = suite_prompts(suite, dataset, config.num_prompts)
    graders = suite_graders(suite, plugins.registry, StageParts(plugins))
    encoder = encoder_for(model, max_new_tokens=config.max_tokens)
    examples = read_examples(answers.in_context) if answers.in_context else []
    sampling = Sampling(
        max_tokens=config.max_tokens,
        temperature=config.temperature,
        stop_token_ids=encoder.stop_ids,
        seed=derived_seed(seed, "evaluation"),
    )
    part = Part(type="transformers")
    engine: RolloutEngine = plugins.registry.build("rollout_engine", part.type, part.options, model)
    with _chooser(engine, answers, encoder, plugins) as chooser:
        result = evaluate(
            suite, chooser or engine, lambda prompt: _encoded(prompt, examples, encoder), graders, prompts, sampling
        )
    if examples and result.dropped == len(prompts):
        raise DataError(
            f"in_context: {len(examples)} examples leave no prompt of the suite room in a context of "
            f"{encoder.max_length} tokens; give fewer or shorter ones"
        )
    return result if chooser is None else replace(result, answering=chooser.figures())


def _encoded(prompt: Prompt, examples: Sequence[Demonstration], encoder: Encoder) -> Prompt | None:
    """The tokens of the prompt after the examples; graders are shown the prompt alone."""
    encoded = encoder.encode_prompt(with_examples(prompt, examples))
    return None if encoded is None else replace(prompt, token_ids=encoded.token_ids)


@contextmanager
def _chooser(
    engine: RolloutEngine, answers: AnswersConfig, encoder: Encoder, plugins: Plugins
) -> Iterator[BestOfN | None]:
    """The engine with a choice among samples, by the rewards named; None where there is nothing to choose from."""
    if answers.best_of == 1:
        yield None
        return
    specs = {
        member_name("reward", number): RoleSpec(role="reward", model=ModelConfig(path=path, dtype="float32"))
        for number, path in enumerate(answers.reward_model)
    }
    engines = {role: plugins.registry.build("train_engine", "torch", {}, spec) for role, spec in specs.items()}
    parts = StageParts(plugins, RoleModels(specs, engines, encoder, _one_by_one))
    rubric = build_rubric(answers.reward, plugins, parts)

    def score(rollouts: Sequence[Rollout]) -> list[float | None]:
        return [judgement.total for judgement in rubric.combine(rollouts, rubric.judge(rollouts))]

    try:
        yield BestOfN(engine, score, answers.best_of, answers.rejection_beta)
    finally:
        rubric.close()


def _one_by_one(*calls: Any) -> list[Any]:
    return [call() for call in calls]
