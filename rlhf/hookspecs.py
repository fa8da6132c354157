"""Every extension point, in calling order. `rlhf hooks` prints this file's contents; docs/hooks.md is made from it.

A plugin is a module (an installed package with an entry point in group `rlhf`, or one file named in the recipe) whose
functions carry `@hookimpl` and one of these names:

    from rlhf import hookimpl

    def brevity(prompts, completions, **columns):
        return [-float(len(text.split())) for text in completions]

    @hookimpl
    def register_rewards(register):
        register("brevity", brevity)

A plugin may say which version of these hooks it is written for, `__rlhf_api__ = 1` in its module; one written for
another is refused with both named. A hook that is added changes no version, one that goes or comes to mean something
else does.

Register hooks are called once in every process, on the driver and on each worker, plugin by plugin. The `on_*` hooks
and `should_stop` are called on the driver only. No hook stands inside a token loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from rlhf.registry import Register
    from rlhf.types import Metrics, Rollout

PROJECT = "rlhf"
API_VERSION = 1
"""Of the hooks of this file, their arguments, and the types and protocols they speak of."""
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


# --- parts: once in every process, before any model exists -----------------------------------------------------------


@hookspec
def register_rewards(register: Register) -> None:
    """Add reward functions, named in a recipe as `reward: NAME` or `reward: {type: NAME, ...}`.

    When: while plugins load. Where: every process.
    `register(name, function)` takes a plain `def reward(prompts, completions, **columns) -> list[float]`: texts in, one
    finite number a completion out, every other column of the data by its name. `register(name, factory,
    config=MyConfig)` takes `factory(config, parts) -> RewardFn` (`rlhf.protocols`), for a reward with options, with a
    grader inside, or one that wants whole rollouts.
    """


@hookspec
def register_graders(register: Register) -> None:
    """Add graders, which judge completions as helpful, honest or harmless with a score in 0..1.

    When: while plugins load. Where: every process. `register(name, factory, config=MyConfig)`;
    `factory(config, parts) -> Grader`.
    """


@hookspec
def register_datasets(register: Register) -> None:
    """Add data sets, named in a recipe as `data: {type: NAME, ...}`.

    When: while plugins load. Where: every process. `register(name, factory, config=MyConfig)`;
    `factory(config) -> Dataset`.
    """


@hookspec
def register_algorithms(register: Register) -> None:
    """Add algorithms, named in a recipe as `algorithm: {type: NAME, ...}`.

    When: while plugins load. Where: every process. `register(name, factory, config=MyConfig)`;
    `factory(config) -> Algorithm`.
    """


@hookspec
def register_train_engines(register: Register) -> None:
    """Add engines that train and run models, named in a recipe as `engine: {type: NAME, ...}`.

    When: while plugins load. Where: every process. `register(name, factory, config=MyConfig)`;
    `factory(config, spec: RoleSpec) -> TrainEngine`, called in the process that holds the model.
    """


@hookspec
def register_rollout_engines(register: Register) -> None:
    """Add engines that generate, named in a recipe as `rollout: {engine: {type: NAME, ...}}`.

    When: while plugins load. Where: every process. `register(name, factory, config=MyConfig)`;
    `factory(config, model: ModelConfig) -> RolloutEngine`, called in the process that holds the model.
    """


@hookspec
def register_trackers(register: Register) -> None:
    """Add sinks for metrics, named in a recipe as `trackers: [NAME]`.

    When: while plugins load. Where: every process, though only the driver opens one.
    `register(name, factory, config=MyConfig)`; `factory(config, folder: Path) -> Tracker`, whose methods are then
    called in a thread of the tracker's own: open what belongs to a thread (an MLflow run, say) at the first `log`.
    """


# --- the life of a run: on the driver only ---------------------------------------------------------------------------


@hookspec
def on_run_start(stage: str, recipe: dict[str, Any], folder: Path) -> None:
    """A stage is about to take its first step.

    When: after every worker is ready, before step 1. Where: the driver.
    `stage` is its name, `recipe` the resolved settings, `folder` where its files go. The result is ignored; an
    exception ends the run.
    """


@hookspec
def on_rollouts(step: int, rollouts: Sequence[Rollout]) -> None:
    """Completions have been sampled and scored.

    When: once a step of an algorithm that samples, at its end. Where: the driver.
    Those whose reward failed are among them with `error` set. The result is ignored.
    """


@hookspec
def on_step_end(step: int, metrics: Metrics) -> None:
    """A step is done and its metrics are final.

    When: after every step, after `on_rollouts`. Where: the driver. The result is ignored; `metrics` is a copy.
    """


@hookspec(firstresult=True)
def should_stop(step: int, metrics: Metrics) -> str | None:
    """Decide whether the stage ends here.

    When: after `on_step_end`. Where: the driver. The first result that is not None wins: a sentence saying why,
    which is logged; the stage then ends as if it had reached its last step.
    """


@hookspec
def on_checkpoint(step: int, path: Path) -> None:
    """A checkpoint is complete on disk.

    When: after it has been renamed into place. Where: the driver. The result is ignored.
    """


@hookspec
def on_run_end(stage: str, summary: dict[str, Any], folder: Path) -> None:
    """A stage has finished and its model and summary are written.

    When: after the last step of a stage that was not interrupted and did not fail. Where: the driver.
    The result is ignored.
    """
