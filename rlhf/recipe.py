"""Recipes: what a YAML file may say, and how it becomes a checked `Recipe`.

A recipe is one stage, or `stages:` by name in running order, where a later stage may say `model: stage:NAME`.
`defaults:` holds what all stages share. `variables:` holds what a user must or may give (`data_dir=FOLDER`), used
anywhere as `${data_dir}`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, field_validator, model_validator

from rlhf.config import (
    RESERVED_OPTIONS,
    AnswersConfig,
    CheckpointConfig,
    ModelConfig,
    OptimizerConfig,
    Part,
    PartConfig,
    RewardPart,
    RoleConfig,
    RolloutConfig,
)
from rlhf.config.secrets import require_no_secrets
from rlhf.errors import ConfigError, nearest
from rlhf.plugins import Plugins, PluginSettings
from rlhf.recipe_file import (
    apply_overrides,
    expand_variables,
    merged,
    read_yaml,
    require_stage_names,
    shipped_recipes,
    table_at,
    with_plugin_paths_beside,
    with_reward_files_as_plugins,
)
from rlhf.registry import Kind
from rlhf.validation import validated

Role = Literal["policy", "reference", "value", "reward", "cost", "cost_value", "rollout"]
TITLES = {"name", "description", "paper"}  # they decide nothing


_FOLDER_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


def _folder_name(value: str) -> str:
    if not _FOLDER_NAME.fullmatch(value):
        raise ValueError(
            "a folder is named after it: letters, digits, `.`, `_` and `-`, at most 128, not beginning with `.` or `-`"
        )
    return value


FolderName = Annotated[str, AfterValidator(_folder_name)]


class WorkersConfig(PartConfig):
    """The processes of one role."""

    num: int = Field(default=1, ge=1)
    cpus: float | None = Field(default=None, gt=0)
    """CPU cores each; an equal share of the machine, at most one, where absent."""
    gpus: float | None = Field(default=None, ge=0)
    """GPUs each, or a part of one; an equal share of those there are, at most one, where absent. 0: none, for a role
    that runs on the CPU beside others on GPUs.
    """

    @field_validator("gpus")
    @classmethod
    def _whole_or_part(cls, value: float | None) -> float | None:
        if value is not None and value > 1 and value % 1:
            raise ValueError(f"a part of one GPU or whole ones, given {value:g}")
        return value


class RuntimeConfig(PartConfig):
    """Where and on how many processes a run lives."""

    type: Literal["ray", "inline"] = "ray"
    """`ray`: an actor group for each role, Ray Train for supervised stages; `inline`: all in one process."""
    address: str | None = None
    """A running Ray cluster; a private one on this machine is started where absent."""
    placement: Literal["apart", "colocated"] = "apart"
    """`apart`: every worker has its share of a device all the time. `colocated`: a worker of each role is on the same
    device, and generation and the rest take turns on it; who waits gives back its memory. No result changes.
    """
    workers: dict[Role, WorkersConfig] = Field(default_factory=dict)
    threads: int | None = Field(default=None, ge=1)
    """Threads of arithmetic in each process; the cores divided by the processes at work where absent."""
    start_timeout: float = Field(default=180.0, gt=0)
    """Seconds to wait for the placement and for every worker to be ready."""
    call_timeout: float = Field(default=1800.0, gt=0)
    """Seconds a worker on Ray may take over one call (an update, a forward pass, a save), or a supervised stage over
    one step. One that takes longer hangs: it is ended, and the stage begun again as if it had died.
    """
    max_restarts: int = Field(default=3, ge=0)
    """How often in a row a stage that lost a worker on Ray is begun again from its last checkpoint without getting
    further than before.
    """


class RowsConfig(PartConfig):
    """What happens to rows that do not fit."""

    max_prompt_length: int | None = Field(default=None, ge=1)
    """Longest prompt in tokens; what the context leaves after `rollout.max_tokens` where absent."""
    overlong: Literal["drop", "cut", "error"] = "drop"
    """Rows longer than the limit: left out, cut, or refused. Counted as `data/dropped` and `data/cut`."""


class StageConfig(PartConfig):
    """One stage: a method, the model it improves, and what it learns from."""

    algorithm: Part
    model: ModelConfig
    data: Part
    reward: tuple[RewardPart, ...] = ()
    """Summed by weight: `reward: NAME`, `FILE.py:FUNCTION`, `FILE.py`, or a list of tables with `type` and `weight`."""
    reward_model: tuple[ModelConfig, ...] = ()
    """A trained reward model, or a list of them as an ensemble, for the reward `reward_model`."""
    cost: tuple[RewardPart, ...] = ()
    """What a constraint bounds, summed as the reward is; where no part applies the cost is 0. Any reward can be one."""
    cost_model: tuple[ModelConfig, ...] = ()
    """A trained cost model, or a list of them, for the reward `cost_model`."""
    teacher: ModelConfig | None = None
    """What distillation learns from: a model of the same vocabulary."""
    reference: ModelConfig | None = None
    """What KL is measured against; the model as the stage finds it where absent."""
    value: RoleConfig | None = None
    """The value model of PPO; starts from the reward model, or else the policy, where absent."""
    cost_value: RoleConfig | None = None
    """The value model of the costs; starts from the cost model, or else the policy, where absent."""
    reward_combine: Literal["sum", "lexicographic"] = "sum"
    """`sum`, by weight; `lexicographic`: a later reward decides only where earlier ones find completions of one prompt
    equal, and the reward is the share of them that one beats."""
    monitor: tuple[str, ...] = ()
    """Graders whose scores of the rollouts are logged at every step and never trained on."""
    engine: Part = Part(type="auto")
    optimizer: OptimizerConfig = OptimizerConfig()
    rollout: RolloutConfig = RolloutConfig()
    rows: RowsConfig = RowsConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    held_out_rows: int = Field(default=256, ge=0)
    """Rows of the data's held-out part used to measure the stage before and after; 0: none."""

    @field_validator("reward_model", "cost_model", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return () if value is None else value if isinstance(value, list | tuple) else (value,)

    @model_validator(mode="after")
    def _models_are_used(self) -> StageConfig:
        judges = {"reward_model": "reward_model", "process_reward": "reward_model", "cost_model": "cost_model"}
        for part in (*self.reward, *self.cost):
            if part.type in judges and not getattr(self, judges[part.type]):
                raise ValueError(f"reward `{part.type}` needs `{judges[part.type]}: PATH` beside it")
        implied = {
            key: (RewardPart(type=f"{key}_model"),)
            for key in ("reward", "cost")
            if getattr(self, f"{key}_model") and not getattr(self, key)
        }
        return self.model_copy(update=implied) if implied else self


class EvaluationConfig(PartConfig):
    """The 3H evaluation at the end of a run."""

    suite: str = "3h"
    before: AnswersConfig | None = None
    """The model to compare with: `stage:NAME` or a path, or a table that also says how it answers."""
    after: AnswersConfig
    """The model the run is about, in the same way."""
    num_prompts: int = Field(default=600, ge=3)
    max_tokens: int = Field(default=64, ge=1)
    temperature: float = Field(default=1.0, ge=0)


class Recipe(PartConfig):
    """A whole run."""

    name: FolderName
    description: str = ""
    paper: str = ""
    """What the method is from: authors, year, arXiv id."""
    seed: int = Field(default=0, ge=0)
    plugins: PluginSettings = PluginSettings()
    runtime: RuntimeConfig = RuntimeConfig()
    trackers: tuple[str, ...] = ("tensorboard",)
    evaluation: EvaluationConfig | None = None
    stages: dict[FolderName, StageConfig] = Field(min_length=1)

    @model_validator(mode="after")
    def _stage_references_point_back(self) -> Recipe:
        seen: list[str] = []
        for name, stage in self.stages.items():
            for text in _stage_references(stage.model_dump()):
                if text not in seen:
                    raise ValueError(
                        f"stage {name!r} refers to stage:{text}, which does not come before it.{nearest(text, seen)}"
                    )
            seen.append(name)
        for text in _stage_references(self.evaluation.model_dump() if self.evaluation else {}):
            if text not in seen:
                raise ValueError(f"evaluation refers to stage:{text}, which is not a stage.{nearest(text, seen)}")
        return self

    @property
    def digest(self) -> str:
        """A hash of everything that decides the result, for `summary.json`."""
        return hashlib.sha256(json.dumps(self.deciding(), sort_keys=True).encode()).hexdigest()[:16]

    def deciding(self) -> dict[str, Any]:
        """The settings that decide the result: no titles, and of plugin files not the folder they lie in."""
        told = self.model_dump(mode="json", exclude=TITLES)
        told["plugins"]["paths"] = [Path(spec).name for spec in self.plugins.paths]
        return told

    def as_yaml(self) -> str:
        """The resolved recipe, as it is written into the run's folder."""
        return yaml.safe_dump(self.model_dump(mode="json", exclude_defaults=True), sort_keys=False, allow_unicode=True)


def load_recipe(source: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> Recipe:
    """A `Recipe` from a file, a shipped recipe's name or a dictionary. Parts' options are checked by `check_parts`."""
    if isinstance(source, Mapping):
        data, name, folder = dict(source), "run", None
    else:
        path = find_recipe(source)
        data, name, folder = read_yaml(path), path.stem, path.parent
    require_stage_names(data, overrides or {}, StageConfig.model_fields, Recipe.model_fields)
    data = expand_variables(apply_overrides(data, overrides or {}))
    require_no_secrets(data)
    data.setdefault("name", name)
    single = "stages" not in data
    data = with_reward_files_as_plugins(_stages_of(data), folder)
    if folder is not None:
        data = with_plugin_paths_beside(data, folder)
    try:
        return validated(Recipe, data, "")
    except ConfigError as error:
        prefix = f"stages.{next(iter(data['stages']))}." if single else ""
        raise ConfigError(str(error).removeprefix(prefix)) from None


def find_recipe(source: str | Path) -> Path:
    """The file: a path, or the name of a shipped recipe."""
    path = Path(source)
    if path.is_file():
        return path
    shipped = shipped_recipes()
    if str(source) in shipped:
        return shipped[str(source)]
    known = [*shipped, *(str(p) for p in path.parent.glob("*.yaml"))] if path.parent.is_dir() else list(shipped)
    raise ConfigError(f"no recipe file or shipped recipe {str(source)!r}.{nearest(str(source), known)}")


def check_parts(recipe: Recipe, plugins: Plugins) -> None:
    """Check every part's name and options against what plugins registered, before anything expensive starts."""
    registry = plugins.registry
    single = len(recipe.stages) == 1
    for name, stage in recipe.stages.items():
        at = "" if single else f"stages.{name}."
        parts: list[tuple[Kind, Part, str]] = [
            ("algorithm", stage.algorithm, "algorithm"),
            ("dataset", stage.data, "data"),
            *(("reward", part, "reward") for part in stage.reward),
            *(("reward", part, "cost") for part in stage.cost),
        ]
        if stage.engine.type != "auto":
            parts.append(("train_engine", stage.engine, "engine"))
        if stage.rollout.engine.type != "auto":
            parts.append(("rollout_engine", stage.rollout.engine, "rollout.engine"))
        elif stage.rollout.engine.options:
            given = ", ".join(stage.rollout.engine.options)
            raise ConfigError(f"{at}rollout.engine: auto takes no options, given {given}; name the engine they are of")
        for kind, part, where in parts:
            registry.check(kind, part.type, part.options, at + where, RESERVED_OPTIONS if kind == "reward" else ())
        for grader in stage.monitor:
            registry.get("grader", grader, at + "monitor")
    for side in ("before", "after"):
        for part in getattr(getattr(recipe.evaluation, side, None), "reward", ()):
            registry.check("reward", part.type, part.options, f"evaluation.{side}.reward")
    for tracker in recipe.trackers:
        registry.get("tracker", tracker, "trackers")


# --- shaping the raw dictionary --------------------------------------------------------------------------------------


def _stages_of(data: dict[str, Any]) -> dict[str, Any]:
    """Both forms of a recipe as one: a single stage is named after its algorithm; `defaults` go into every stage."""
    defaults = table_at(data, "defaults")
    data = {key: value for key, value in data.items() if key != "defaults"}
    if "stages" not in data:
        run_keys = set(Recipe.model_fields)
        stage = {key: value for key, value in data.items() if key not in run_keys}
        algorithm = stage.get("algorithm")
        label = algorithm.get("type") if isinstance(algorithm, Mapping) else algorithm
        label = label if isinstance(label, str) and _FOLDER_NAME.fullmatch(label) else "stage"
        data = {key: value for key, value in data.items() if key in run_keys} | {"stages": {label: stage}}
    stages = data["stages"]
    if not isinstance(stages, Mapping) or not all(isinstance(stage, Mapping) for stage in stages.values()):
        raise ConfigError("stages: a table of stages by name is needed, each a table of settings")
    shared = _part_long_forms(defaults)
    data["stages"] = {str(name): merged(shared, _part_long_forms(stage)) for name, stage in stages.items()}
    return data


def _part_long_forms(stage: Mapping[str, Any]) -> dict[str, Any]:
    """`algorithm: ppo` is short for `algorithm: {type: ppo}`, so for data and engine; `rewards` is another `reward`."""
    if "rewards" in stage and "reward" not in stage:
        stage = {("reward" if key == "rewards" else key): value for key, value in stage.items()}
    short = {key: stage[key] for key in ("algorithm", "data", "engine") if isinstance(stage.get(key), str)}
    return {**stage, **{key: {"type": name} for key, name in short.items()}}


def _stage_references(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value.removeprefix("stage:")] if value.startswith("stage:") else []
    if isinstance(value, Mapping):
        return [name for item in value.values() for name in _stage_references(item)]
    if isinstance(value, list | tuple):
        return [name for item in value for name in _stage_references(item)]
    return []
