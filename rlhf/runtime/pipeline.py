"""A whole run: check everything, run the stages in order, evaluate, write the summary and the report."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rlhf.config import AnswersConfig
from rlhf.errors import ConfigError, Interrupted, RunError, UserError
from rlhf.evaluation.report import write_report
from rlhf.plugins import Plugins, load_plugins, refuse_while_importing
from rlhf.protocols import Dataset
from rlhf.recipe import TITLES, Recipe, check_parts, load_recipe
from rlhf.runtime.checkpoints import newest_good, package_versions, require_upload_place, write_whole
from rlhf.runtime.evaluating import check_evaluation, evaluate_models
from rlhf.runtime.given_rewards import GivenReward, with_rewards
from rlhf.runtime.inline import run_inline
from rlhf.runtime.journal import DriverJournal, Interruption, Journal
from rlhf.runtime.models import require_model, write_new_model
from rlhf.runtime.placement_checks import require_place
from rlhf.runtime.plan import StagePlan, build_dataset, plan_stage, stage_folder
from rlhf.runtime.result import RunResult
from rlhf.runtime.reward_checks import require_rewards
from rlhf.runtime.sampling_checks import require_sampling_fits
from rlhf.runtime.stage import StageOutcome
from rlhf.runtime.vocabularies import require_one_vocabulary, require_one_vocabulary_ahead
from rlhf.tracking.progress import Progress, progress_for
from rlhf.tracking.summary import SUMMARY_NAME, read_summary, write_summary

RECIPE_NAME = "recipe.yaml"

RunStage = Callable[[StagePlan, Journal, bool], StageOutcome]


def prepare(
    recipe: str | Path | Mapping[str, Any],
    overrides: Mapping[str, Any] | None = None,
    rewards: Sequence[GivenReward] | None = None,
) -> tuple[Recipe, Plugins]:
    """Load recipe and plugins and check all that can be checked before anything expensive starts, data included."""
    loaded = load_recipe(recipe, overrides)
    loaded, plugins = with_rewards(loaded, rewards) if rewards else (loaded, load_plugins(loaded.plugins))
    plugins.require_healthy()
    check_parts(loaded, plugins)
    for name in loaded.stages:
        plan = plan_stage(loaded, name, plugins, Path("runs") / loaded.name)
        if not _made_by_a_stage(loaded, name):
            require_model(plan.config.model)
        require_one_vocabulary_ahead(loaded, plan)
        require_sampling_fits(loaded, plan)
        require_rewards(plan, plugins)
        require_place(plan)
    if loaded.evaluation is not None:
        check_evaluation(loaded.evaluation)
    return loaded, plugins


def train(
    recipe: str | Path | Mapping[str, Any],
    overrides: Mapping[str, Any] | None = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    rewards: Sequence[GivenReward] | None = None,
) -> RunResult:
    """Run a recipe; see `rlhf.train`."""
    refuse_while_importing()
    loaded, plugins = prepare(recipe, overrides, rewards)
    folder = Path(out) if out is not None else Path("runs") / loaded.name
    _claim(folder, loaded, resume=resume)
    started, spent = time.monotonic(), _seconds_spent(folder) if resume else 0.0
    progress = progress_for(sys.stderr)
    # In this order: Ray takes SIGTERM for itself when it starts.
    with _runner(loaded, plugins) as run_stage, Interruption.caught(progress.note) as interruption:
        try:
            stages = [_stage(loaded, name, plugins, folder, progress, run_stage, resume) for name in loaded.stages]
        except Interrupted as stop:
            hint = f"{stop}; continue with: rlhf train {folder / RECIPE_NAME} --resume --out {folder}"
            raise Interrupted(hint, interruption.exit_code) from None
        except (RunError, UserError):
            if not resume:
                _release(folder)
            raise
    summary: dict[str, Any] = {
        "name": loaded.name,
        "seed": loaded.seed,
        "recipe_hash": loaded.digest,
        "stages": stages,
        "versions": package_versions(),
    }
    if loaded.evaluation is not None:
        progress.note(f"evaluating on suite {loaded.evaluation.suite}")
        summary |= _evaluate(loaded, plugins, folder)
    summary["seconds"] = round(spent + time.monotonic() - started, 2)
    write_summary(folder, summary)
    write_report(folder)
    last = plan_stage(loaded, list(loaded.stages)[-1], plugins, folder)
    return RunResult(folder=folder, summary=read_summary(folder), model=last.model_folder)


# --- stages ----------------------------------------------------------------------------------------------------------


def _stage(
    recipe: Recipe,
    name: str,
    plugins: Plugins,
    run_folder: Path,
    progress: Progress,
    run_stage: RunStage,
    resume: bool,
) -> dict[str, Any]:
    """Run one stage, or, on resume, take the summary of one that is done."""
    plan = plan_stage(recipe, name, plugins, run_folder)
    if resume and (plan.folder / SUMMARY_NAME).is_file():
        summary = read_summary(plan.folder)
        progress.note(f"stage {name}: done before ({summary['steps']} steps)")
        return summary
    plan.folder.mkdir(parents=True, exist_ok=True)
    plan = _with_fresh_model(plan, build_dataset(plan.config, plugins), resume)
    require_one_vocabulary(plan)
    require_upload_place(plan)
    first_step = 1 + (newest_good(plan, progress.note) if resume else 0)
    started = time.monotonic()
    progress.start(name, plan.num_steps, resumed_from=first_step - 1)
    if plan.runtime.type == "ray":
        progress.note(f"stage {name}: starting workers")
    journal = DriverJournal(recipe, plugins, name, plan.folder, progress, first_step)
    outcome: StageOutcome | None = None
    try:
        plugins.hook.on_run_start(stage=name, recipe=recipe.model_dump(mode="json"), folder=plan.folder)
        outcome = run_stage(plan, journal, resume)
    finally:
        journal.close()
        progress.finish(None if outcome is None else journal.last)
    summary = {
        "name": name,
        "algorithm": plan.config.algorithm.type,
        "steps": outcome.steps,
        "seconds": round(time.monotonic() - started, 2),
        "held_out": outcome.held_out,
        **journal.last,
    }
    write_summary(plan.folder, summary)
    plugins.hook.on_run_end(stage=name, summary=summary, folder=plan.folder)
    return summary


def _with_fresh_model(plan: StagePlan, dataset: Dataset, resume: bool) -> StagePlan:
    """`model: new` becomes a folder with a tokenizer and random weights, which the stage then loads like any other."""
    if plan.config.model.new is None:
        return plan
    path = plan.folder / "initial"
    if not (resume and path.is_dir()):
        write_new_model(plan.config.model, dataset, plan.seed, path)
    return plan.with_model(path)


@contextmanager
def _runner(recipe: Recipe, plugins: Plugins) -> Iterator[RunStage]:
    """How a stage is run: in this process, or on Ray, which is then up for as long as the run."""
    if recipe.runtime.type == "inline":
        yield lambda plan, journal, resume: run_inline(plan, plugins, journal, resume=resume)
        return
    from rlhf.runtime.on_ray import ray_runner  # the only way to Ray: the inline runtime never loads it

    with ray_runner(recipe, plugins) as run_stage:
        yield run_stage


# --- the run's folder ------------------------------------------------------------------------------------------------


def _claim(folder: Path, recipe: Recipe, *, resume: bool) -> None:
    """Make the run's folder and write the resolved recipe into it; never over another run's."""
    if folder.exists() and any(folder.iterdir()) and not resume:
        raise ConfigError(f"run folder {folder} exists; continue it with --resume, or give another with --out DIR")
    if resume:
        _refuse_other_recipe(folder, recipe)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / RECIPE_NAME, recipe.as_yaml())


def _release(folder: Path) -> None:
    """Leave no folder of a run that failed before its first step: the mended command may have the name. One that holds
    figures, a checkpoint or a batch kept for inspection stays.
    """
    kept = [path for name in ("checkpoints", "not_finite", "failed_rewards") for path in folder.rglob(name)]
    if not kept and not any(path.stat().st_size for path in folder.rglob("*.jsonl")):
        shutil.rmtree(folder)


def _seconds_spent(folder: Path) -> float:
    """Of stages that earlier sessions of the run have finished."""
    return float(sum(read_summary(path.parent)["seconds"] for path in folder.glob(f"*/{SUMMARY_NAME}")))


def _refuse_other_recipe(folder: Path, recipe: Recipe) -> None:
    saved = folder / RECIPE_NAME
    if not saved.is_file() and any(stage.checkpoint.upload for stage in recipe.stages.values()):
        return  # another machine may have uploaded what this one has not
    if not saved.is_file():
        raise ConfigError(f"--resume: {folder} holds no run (no {RECIPE_NAME})")
    begun = load_recipe(saved)
    if begun.digest != recipe.digest:
        raise ConfigError(
            f"--resume: the recipe differs from the one {folder} was begun with: {_differences(begun, recipe)}; to go "
            f"on as it was begun: rlhf train {saved} --resume --out {folder}"
        )
    if (folder / SUMMARY_NAME).is_file() and "stages" in read_summary(folder):  # a single stage's own has no stages
        raise ConfigError(f"--resume: the run in {folder} is finished; see {folder / SUMMARY_NAME}")


def _differences(one: Recipe, other: Recipe) -> str:
    """Settings that differ, with both values: `seed: 0 -> 1, ...`."""
    before, after = (_flat(recipe.model_dump(mode="json", exclude=TITLES)) for recipe in (one, other))
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    return ", ".join(f"{key}: {before.get(key)!r} -> {after.get(key)!r}" for key in keys)


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Leaves by dotted path."""
    leaves: dict[str, Any] = {}
    for key, value in table.items():
        name = f"{prefix}{key}"
        leaves |= _flat(value, f"{name}.") if isinstance(value, Mapping) and value else {name: value}
    return leaves


def _made_by_a_stage(recipe: Recipe, name: str) -> bool:
    path = recipe.stages[name].model.path
    return path is None or path.startswith("stage:")


# --- evaluation ------------------------------------------------------------------------------------------------------


def _evaluate(recipe: Recipe, plugins: Plugins, folder: Path) -> dict[str, Any]:
    """Grade `before` and `after` on the same prompts; the figures of `summary.json`."""
    config = recipe.evaluation
    assert config is not None
    sides = {"before": config.before, "after": config.after}
    models = {label: _answers_at(recipe, side, folder) for label, side in sides.items() if side is not None}
    results = evaluate_models(
        models,
        config.suite,
        num_prompts=config.num_prompts,
        max_tokens=config.max_tokens,
        temperature=config.temperature,
        seed=recipe.seed,
        plugins=plugins,
    )
    for label, result in results.items():
        result.write_rows(folder / "evaluation" / f"{label}.jsonl")
    scores: dict[str, Any] = {label: result.scores() for label, result in results.items()}
    answering = {label: dict(result.answering) for label, result in results.items() if result.answering}
    intervals = {label: result.intervals() for label, result in results.items()}
    return scores | {"intervals": intervals} | ({"answering": answering} if answering else {})


def _answers_at(recipe: Recipe, answers: AnswersConfig, folder: Path) -> AnswersConfig:
    """With the folders of this run's stages for `stage:NAME`."""

    def at(source: str) -> str:
        stage = source.removeprefix("stage:")
        return source if stage == source else str(stage_folder(recipe, stage, folder) / "model")

    models = tuple(map(at, answers.reward_model))
    return answers.model_copy(update={"model": at(answers.model), "reward_model": models})
