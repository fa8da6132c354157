"""Whether a stage's model can answer as the recipe says: room in its context, tokens of its vocabulary."""

from __future__ import annotations

from rlhf.config import ModelConfig, RolloutConfig
from rlhf.errors import ConfigError
from rlhf.recipe import Recipe
from rlhf.runtime.plan import StagePlan
from rlhf.runtime.vocabularies import origin_of


def require_sampling_fits(recipe: Recipe, plan: StagePlan) -> None:
    """Refuse what would only fail once the engines are up. Raises `ConfigError`.

    A stage's model has the context and the vocabulary of what it starts from; a fresh model's vocabulary is not known
    before its tokenizer is trained, and the engine looks at that then.
    """
    if not plan.samples:
        return
    if plan.config.rollout.in_flight_updates and plan.runtime.type == "inline":
        raise ConfigError(
            "rollout.in_flight_updates: in one process nothing is written while the policy learns; set "
            "runtime.type: ray, or leave it out"
        )
    own = recipe.stages[plan.name].model
    rollout = plan.config.rollout
    start = origin_of(recipe, own)
    if start.new is not None:
        _require_room(rollout, min(start.new.context, own.max_length or start.new.context))
        return
    _require_fits(rollout, start.model_copy(update={"max_length": own.max_length}))


def _require_fits(rollout: RolloutConfig, model: ModelConfig) -> None:
    from rlhf.engines.pretrained import context_limit, load_config
    from rlhf.engines.prompt_checks import check_bias

    try:
        config = load_config(model)
    except ConfigError as error:
        if isinstance(error.__cause__, OSError):
            return  # a hub that does not answer now: the engine that loads the model says so, and checks this too
        raise
    limit = context_limit(model, config)
    if limit is not None:
        _require_room(rollout, limit)
    check_bias(rollout.logit_bias, config.get_text_config().vocab_size)


def _require_room(rollout: RolloutConfig, context: int) -> None:
    if rollout.max_tokens >= context:
        raise ConfigError(
            f"rollout.max_tokens: {rollout.max_tokens} leaves no room for a prompt in a context of {context} tokens; "
            "lower it"
        )
