"""One stage, resolved: which roles it starts, from which weights, for how many steps. Plain data a worker can take."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlhf.config import ModelConfig, OptimizerConfig, Part, RoleConfig, RoleSpec
from rlhf.errors import ConfigError, DataError, PluginError
from rlhf.plugins import Plugins, PluginSettings
from rlhf.protocols import Algorithm, Dataset
from rlhf.recipe import Recipe, RuntimeConfig, StageConfig, WorkersConfig
from rlhf.runtime.engine_choice import chosen_engine
from rlhf.runtime.heads import require_known_heads
from rlhf.runtime.resumed_recipe import decisive_settings

_MEMBERS = (*Algorithm.__annotations__, "num_steps", "run", "measure", "state", "restore")


@dataclass(frozen=True)
class StagePlan:
    """What every process of a stage is told."""

    name: str
    config: StageConfig
    runtime: RuntimeConfig
    plugins: PluginSettings
    seed: int
    folder: Path
    num_steps: int
    specs: Mapping[str, RoleSpec]
    """The roles that hold a model of their own; a LoRA policy is its own reference."""
    engine: Part
    samples: bool
    """The algorithm samples from the policy, so it runs on actor groups rather than under Ray Train."""
    run: str
    """The recipe's name."""
    identity: str
    """A hash of all in the recipe that decides what the stage computes: where and by what engine, how often it is saved
    and what comes after it are not in it. Its checkpoints carry it.
    """

    @property
    def trained(self) -> str:
        """The role whose model the stage is about."""
        return "policy" if "policy" in self.specs else "reward"

    @property
    def model_folder(self) -> Path:
        """Where the finished model goes."""
        return self.folder / "model"

    def with_model(self, path: Path) -> StagePlan:
        """The plan once a fresh model has been written to `path`."""
        specs = {role: _moved(spec, path) for role, spec in self.specs.items()}
        return replace(self, config=self.config.model_copy(update={"model": _at(self.config.model, path)}), specs=specs)


def _at(model: ModelConfig, path: Path) -> ModelConfig:
    return model.model_copy(update={"path": str(path), "new": None}) if model.new is not None else model


def _moved(spec: RoleSpec, path: Path) -> RoleSpec:
    return spec.model_copy(update={"model": _at(spec.model, path)})


def plan_stage(recipe: Recipe, name: str, plugins: Plugins, run_folder: Path) -> StagePlan:
    """Resolve a stage of the recipe; raises `ConfigError` or `DataError` for what cannot work."""
    config = resolve_stage_paths(recipe, name, run_folder)
    algorithm = build_algorithm(config, plugins)
    dataset = build_dataset(config, plugins)
    rows = dataset.sizes.get(algorithm.consumes, 0)
    if rows == 0:
        raise DataError(
            f"stage {name!r}: {config.algorithm.type} needs {algorithm.consumes}, but its data "
            f"({config.data.type}) has {_kinds_and_takers(dataset, plugins)}"
        )
    require_known_heads(name, dataset, algorithm)
    num_steps = algorithm.num_steps(rows)
    folder = stage_folder(recipe, name, run_folder)
    specs = _specs(config, algorithm, num_steps, stage_seed(recipe.seed, name), folder)
    if recipe.runtime.type == "ray":
        _check_engines(config.engine, specs, recipe.runtime)
    return StagePlan(
        name=name,
        config=config,
        runtime=recipe.runtime,
        plugins=recipe.plugins,
        seed=stage_seed(recipe.seed, name),
        folder=folder,
        num_steps=num_steps,
        specs=specs,
        engine=config.engine,
        samples="rollout" in algorithm.needs,
        run=recipe.name,
        identity=_identity(recipe, name),
    )


def _identity(recipe: Recipe, name: str) -> str:
    later = tuple(f"stages.{one}." for one in list(recipe.stages)[list(recipe.stages).index(name) + 1 :])
    settings = {key: value for key, value in decisive_settings(recipe).items() if not key.startswith(later)}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def _kinds_and_takers(dataset: Dataset, plugins: Plugins) -> str:
    """The kinds of rows there are, each with the methods that would take it."""
    consumers: dict[str, list[str]] = {}
    for name in plugins.registry.names("algorithm"):
        consumed = getattr(plugins.registry.get("algorithm", name).factory, "consumes", None)
        consumers.setdefault(str(consumed), []).append(name)
    kinds = [kind for kind, size in dataset.sizes.items() if size]
    return (
        "; ".join(f"{kind} (for {', '.join(consumers.get(kind, ['no method']))})" for kind in kinds) or "no rows at all"
    )


def build_algorithm(config: StageConfig, plugins: Plugins) -> Algorithm:
    """The stage's algorithm, built from its options."""
    part = config.algorithm
    algorithm: Algorithm = plugins.registry.build("algorithm", part.type, part.options, where="algorithm")
    lacking = [name for name in _MEMBERS if not hasattr(algorithm, name)]
    if lacking:
        raise PluginError(
            f"algorithm {part.type!r} has no {', '.join(lacking)}; inherit from rlhf.protocols.Algorithm, which has "
            "what few methods change, and add the rest"
        )
    return algorithm


def build_dataset(config: StageConfig, plugins: Plugins) -> Dataset:
    """The stage's data, read once in a process however many stages use it; what is wrong with it shows here."""
    key = config.data.model_dump_json()
    if key not in plugins.datasets:
        part = config.data
        plugins.datasets[key] = plugins.registry.build("dataset", part.type, part.options, where="data")
    return plugins.datasets[key]


def stage_folder(recipe: Recipe, name: str, run_folder: Path) -> Path:
    """A pipeline's stages have a folder each; a single stage has the run's."""
    return run_folder / name if len(recipe.stages) > 1 else run_folder


def stage_seed(seed: int, name: str) -> int:
    """A seed of the stage's own, so that adding a stage does not change the others."""
    return derived_seed(seed, "stage", name)


def derived_seed(seed: int, *words: object) -> int:
    """A 63-bit seed for a purpose named by `words`."""
    text = "/".join([str(seed), *map(str, words)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def resolve_stage_paths(recipe: Recipe, name: str, run_folder: Path) -> StageConfig:
    """The stage with `stage:NAME` replaced by that stage's model folder."""

    def resolve(value: Any) -> Any:
        if isinstance(value, str) and value.startswith("stage:"):
            return str(stage_folder(recipe, value.removeprefix("stage:"), run_folder) / "model")
        if isinstance(value, Mapping):
            return {key: resolve(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [resolve(item) for item in value]
        return value

    return StageConfig.model_validate(resolve(recipe.stages[name].model_dump()))


def _specs(config: StageConfig, algorithm: Algorithm, num_steps: int, seed: int, folder: Path) -> dict[str, RoleSpec]:
    updates = num_steps * algorithm.updates_per_step

    def spec(role: Any, model: ModelConfig, optimizer: OptimizerConfig | None) -> RoleSpec:
        return RoleSpec(
            role=role,
            model=model,
            optimizer=optimizer,
            num_steps=updates,
            temperature=config.rollout.temperature if "rollout" in algorithm.needs else 1.0,
            heads=algorithm.heads if optimizer is not None and role == "reward" else (),
            seed=derived_seed(seed, role) % 2**31,
            folder=str(folder.resolve()),
        )

    specs: dict[str, RoleSpec] = {}
    if "policy" in algorithm.needs:
        policy = spec("policy", config.model, config.optimizer)
        _check_kind(config, algorithm)
        update = {"teacher": _teacher(config, algorithm), "kind": algorithm.network}
        specs["policy"] = policy.model_copy(update=update)
    if "reference" in algorithm.needs and (config.model.lora is None or config.reference is not None):
        specs["reference"] = spec("reference", config.reference or _without_lora(config.model), None)
    for role, given, judges in (
        ("value", config.value, config.reward_model),
        ("cost_value", config.cost_value, config.cost_model),
    ):
        if role in algorithm.needs:
            start = given or RoleConfig(model=judges[0] if judges else _without_lora(config.model))
            specs[role] = spec(role, start.model, start.optimizer or _optimizer(config.value, config))
    if "reward" in algorithm.needs:
        specs["reward"] = spec("reward", config.model, config.optimizer)
    else:
        for role, models in (("reward", config.reward_model), ("cost", config.cost_model)):
            specs |= {member_name(role, number): spec(role, model, None) for number, model in enumerate(models)}
    _check_rewards(config, algorithm)
    return specs


def _check_kind(config: StageConfig, algorithm: Algorithm) -> None:
    """A fresh model must be what the method trains; others are found out when they are loaded."""
    new, wanted = config.model.new, algorithm.network
    if new is not None and new.kind != wanted:
        raise ConfigError(
            f"model.new.kind: {config.algorithm.type} trains an {wanted.replace('_', '-')}, given {new.kind}; "
            f"set kind: {wanted}"
            if wanted != "decoder"
            else f"model.new.kind: {config.algorithm.type} trains a decoder, given {new.kind}; leave kind out"
        )


def _teacher(config: StageConfig, algorithm: Algorithm) -> ModelConfig | None:
    """The model the policy learns from, which stands beside it in its own processes."""
    method, needed = config.algorithm.type, "teacher" in algorithm.needs
    if config.teacher is None:
        if needed:
            raise ConfigError(f"{method} learns from a teacher: name one with teacher: PATH")
        return None
    if not needed:
        raise ConfigError(f"teacher: {method} does not learn from a teacher; use distill, or leave it out")
    if config.teacher.new is not None:
        raise ConfigError("teacher: a fresh model has nothing to teach; give a trained one, as in teacher: PATH")
    return _without_lora(config.teacher)


def member_name(role: str, number: int) -> str:
    """A member of an ensemble as a role of its own: reward, reward_2, reward_3."""
    return role if number == 0 else f"{role}_{number + 1}"


def _optimizer(value: RoleConfig | None, config: StageConfig) -> OptimizerConfig:
    """Both value models step alike where nothing else is said."""
    return (value and value.optimizer) or config.optimizer


def _check_rewards(config: StageConfig, algorithm: Algorithm) -> None:
    """Refuse a stage without what its method learns from, or with what it would not look at."""
    method = config.algorithm.type
    if "rollout" in algorithm.needs and config.rollout.temperature == 0:
        raise ConfigError("rollout.temperature: 0 is greedy, from which nothing can be learned; give a positive one")
    if "rollout" in algorithm.needs and not config.reward and "teacher" not in algorithm.needs:
        raise ConfigError(f"{method} needs a reward: name one with reward: NAME or reward_model: PATH")
    if algorithm.constrained and not config.cost:
        raise ConfigError(f"{method} needs a cost to bound: name one with cost: NAME or cost_model: PATH")
    if config.cost and not algorithm.constrained:
        raise ConfigError(f"cost: {method} does not look at costs; use ppo_lagrangian, or a reward with weight: -1")


def _check_engines(engine: Part, specs: Mapping[str, RoleSpec], runtime: RuntimeConfig) -> None:
    """Refuse an engine that cannot be spread over a role's workers, before any of them exists."""
    for role, spec in specs.items():
        chosen_engine(engine, workers_of(runtime, role).num, trained=spec.optimizer is not None)


def workers_of(runtime: RuntimeConfig, role: str) -> WorkersConfig:
    """The role's workers, one where the recipe does not say; members of an ensemble have as many each."""
    stem, _, number = role.rpartition("_")
    named = stem if number.isdigit() else role
    return runtime.workers.get(named, WorkersConfig())  # type: ignore[call-overload, no-any-return]


def _without_lora(model: ModelConfig) -> ModelConfig:
    return model.model_copy(update={"lora": None})
