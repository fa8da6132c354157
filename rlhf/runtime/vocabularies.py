"""One vocabulary a stage: token ids go from the policy to every other role, and mean there what they mean here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rlhf.config import ModelConfig
from rlhf.data.tokenizers import load_tokenizer
from rlhf.errors import ConfigError, UserError
from rlhf.recipe import Recipe
from rlhf.runtime.models import require_model
from rlhf.runtime.plan import StagePlan


def require_one_vocabulary(plan: StagePlan) -> None:
    """Refuse a role whose model was made with another tokenizer than the stage's own model; folders must exist."""
    for role, spec in plan.specs.items():
        require_same_vocabulary(role, spec.model, plan.config.model)
    if plan.config.teacher is not None:
        require_same_vocabulary("teacher", plan.config.teacher, plan.config.model)


def require_one_vocabulary_ahead(recipe: Recipe, plan: StagePlan) -> None:
    """The same before any stage has run: a stage's model has the tokenizer of what it starts from."""
    own = origin_of(recipe, recipe.stages[plan.name].model)
    others = _origins(recipe, plan.name)
    for role, model in others.items():
        if model.path is not None:
            require_model(model)
        if own.path is not None and model.path is not None:
            require_same_vocabulary(role, model, own)


def _origins(recipe: Recipe, name: str) -> dict[str, ModelConfig]:
    """Where the tokenizer of each other role comes from."""
    stage = recipe.stages[name]
    named: dict[str, ModelConfig | None] = {
        "teacher": stage.teacher,
        "reference": stage.reference,
        "value": stage.value.model if stage.value else None,
        "cost_value": stage.cost_value.model if stage.cost_value else None,
    }
    for role in ("reward", "cost"):
        members: tuple[ModelConfig, ...] = getattr(stage, f"{role}_model")
        named |= {role if n == 0 else f"{role}_{n + 1}": model for n, model in enumerate(members)}
    return {role: origin_of(recipe, model) for role, model in named.items() if model is not None}


def origin_of(recipe: Recipe, model: ModelConfig) -> ModelConfig:
    """What a model was made from: a folder or hub name, or (`path` is None) a fresh model of a stage."""
    while model.path is not None and model.path.startswith("stage:"):
        model = recipe.stages[model.path.removeprefix("stage:")].model
    return model


def require_same_vocabulary(role: str, theirs: ModelConfig, own: ModelConfig) -> None:
    """Refuse `theirs` where its tokenizer is not that of `own`; both folders must exist."""
    if theirs.path == own.path or _same_file(theirs, own):
        return
    here = _vocabulary(own)
    there = _vocabulary(theirs)
    if here is None or there is None or here == there:
        return
    token = min(here.keys() ^ there.keys() or {t for t in here if here[t] != there[t]})
    places = [f"{token!r} is {v[token]}" if token in v else f"{token!r} is none" for v in (here, there)]
    raise ConfigError(
        f"{role}: the model {theirs.path} has another vocabulary than {own.path}, which this stage is about "
        f"({len(there)} tokens and {len(here)}; {places[1]} there, {places[0]} here); every model of a stage must read "
        "the same tokens"
    )


def _same_file(one: ModelConfig, other: ModelConfig) -> bool:
    """Stages pass their tokenizer on as it is, so that reading it is seldom needed."""
    files = [Path(model.path or "") / "tokenizer.json" for model in (one, other)]
    return all(file.is_file() for file in files) and files[0].read_bytes() == files[1].read_bytes()


def _vocabulary(model: ModelConfig) -> Mapping[str, int] | None:
    """Token -> id; None where there is no tokenizer beside the weights, whose size the engines check."""
    assert model.path is not None
    try:
        vocabulary: Mapping[str, int] = load_tokenizer(model.path, model.revision, model.eos_token).get_vocab()
    except UserError:
        return None
    return vocabulary
