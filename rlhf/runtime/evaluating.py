"""The 3H evaluation of models on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rlhf.config import ModelConfig, Part
from rlhf.evaluation.result import EvaluationResult
from rlhf.evaluation.suites import evaluate, suite_graders, suite_named, suite_prompts
from rlhf.plugins import Plugins, load_plugins
from rlhf.protocols import RolloutEngine
from rlhf.recipe import EvaluationConfig
from rlhf.runtime.models import encoder_for, require_model
from rlhf.runtime.plan import derived_seed
from rlhf.runtime.scoring import StageParts
from rlhf.types import Sampling


def evaluate_models(
    models: Mapping[str, Path],
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
    config = EvaluationConfig(
        suite=suite, after="", num_prompts=num_prompts, max_tokens=max_tokens, temperature=temperature
    )
    return {label: _evaluate(path, config, seed, plugins) for label, path in models.items()}


def _evaluate(path: Path, config: EvaluationConfig, seed: int, plugins: Plugins) -> EvaluationResult:
    model = ModelConfig(path=str(path), dtype="float32")
    require_model(model)
    suite = suite_named(config.suite)
    dataset = plugins.registry.build("dataset", suite.dataset.type, suite.dataset.options)
    prompts = suite_prompts(suite, dataset, config.num_prompts)
    graders = suite_graders(suite, plugins.registry, StageParts(plugins))
    encoder = encoder_for(model, max_new_tokens=config.max_tokens)
    sampling = Sampling(
        max_tokens=config.max_tokens,
        temperature=config.temperature,
        stop_token_ids=encoder.stop_ids,
        seed=derived_seed(seed, "evaluation"),
    )
    part = Part(type="transformers")
    engine: RolloutEngine = plugins.registry.build("rollout_engine", part.type, part.options, model)
    return evaluate(suite, engine, encoder.encode_prompt, graders, prompts, sampling)
