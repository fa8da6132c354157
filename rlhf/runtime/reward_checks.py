"""What is wrong with a stage's rewards, found before any model is loaded."""

from __future__ import annotations

from itertools import islice

from rlhf.errors import ConfigError, UserError, nearest
from rlhf.plugins import Plugins
from rlhf.rewards.building import AsksForModels, PlainParts, build_reward
from rlhf.rewards.gates import waves
from rlhf.runtime.plan import StagePlan, build_dataset
from rlhf.runtime.scoring import named

_ROWS_LOOKED_AT = 64
"""A column may be absent from some rows; one that all of these lack is not there."""


def require_rewards(plan: StagePlan, plugins: Plugins) -> None:
    """Build every reward once, and see that its gates and the columns it needs are there."""
    if not plan.samples:
        return
    for where, parts in (("reward", plan.config.reward), ("cost", plan.config.cost)):
        waves(dict(named(parts)))
        for name, part in named(parts):
            try:
                reward = build_reward(part, plugins.registry, PlainParts(plugins.registry), where)
            except AsksForModels:  # of the stage, which are yet to come
                continue
            except UserError:
                raise
            except Exception as error:
                why = f"{type(error).__name__}: {error}"
                raise ConfigError(f"{where} {name!r} cannot be built with these options: {why}") from error
            _require_columns(name, tuple(getattr(reward, "columns", ())), plan, plugins)


def _require_columns(name: str, wanted: tuple[str, ...], plan: StagePlan, plugins: Plugins) -> None:
    if not wanted:
        return
    prompts = list(islice(build_dataset(plan.config, plugins).prompts(plan.seed), _ROWS_LOOKED_AT))
    known = {column for prompt in prompts for column in prompt.metadata}
    known |= {"reference"} if any(prompt.reference is not None for prompt in prompts) else set()
    missing = [column for column in wanted if column not in known]
    if missing:
        raise ConfigError(
            f"reward {name!r} needs the column {missing[0]!r}, which the data of stage {plan.name!r} does not have."
            f"{nearest(missing[0], known)} Columns: {', '.join(sorted(known)) or 'none'}."
        )
