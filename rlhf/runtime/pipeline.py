"""A whole run: check everything, run the stages in order, evaluate, write the summary and the report."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rlhf.config import AnswersConfig
from rlhf.errors import Interrupted, ResourceError, WorkerDied
from rlhf.evaluation.report import write_report
from rlhf.plugins import Plugins, load_plugins, refuse_while_importing
from rlhf.protocols import Dataset
from rlhf.recipe import Recipe, check_parts, load_recipe
from rlhf.runtime.checkpoints import newest_good, package_versions, require_upload_place
from rlhf.runtime.claim import claimed, way_back
from rlhf.runtime.conditions import keep_conditions
from rlhf.runtime.evaluating import check_evaluation, evaluate_models
from rlhf.runtime.given_rewards import GivenReward, with_rewards
from rlhf.runtime.inline import run_inline
from rlhf.runtime.interruption import Interruption, StepDropped
from rlhf.runtime.journal import DriverJournal, Journal
from rlhf.runtime.models import require_model, write_new_model
from rlhf.runtime.placement_checks import require_place
from rlhf.runtime.plan import StagePlan, build_dataset, plan_stage, stage_folder
from rlhf.runtime.preflight import require_fits
from rlhf.runtime.restarts import Restarts
from rlhf.runtime.result import RunResult
from rlhf.runtime.reward_checks import require_rewards
from rlhf.runtime.sampling_checks import require_sampling_fits
from rlhf.runtime.stage import StageOutcome
from rlhf.runtime.vocabularies import require_one_vocabulary, require_one_vocabulary_ahead
from rlhf.tracking.progress import Progress, progress_for
from rlhf.tracking.summary import SUMMARY_NAME, read_summary, write_summary

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
    strict_resume: bool = False,
    rewards: Sequence[GivenReward] | None = None,
) -> RunResult:
    """Run a recipe; see `rlhf.train`."""
    refuse_while_importing()
    loaded, plugins = prepare(recipe, overrides, rewards)
    folder = Path(out) if out is not None else Path("runs") / loaded.name
    progress, resume = progress_for(sys.stderr), resume or strict_resume
    progress.note(require_fits(loaded, plugins))
    with claimed(folder, loaded, progress.note, resume=resume, strict=strict_resume):
        started, spent = time.monotonic(), _seconds_spent(folder) if resume else 0.0
        summary: dict[str, Any] = {
            "name": loaded.name,
            "seed": loaded.seed,
            "recipe_hash": loaded.digest,
            "stages": _run_stages(loaded, plugins, folder, progress, resume, strict_resume),
            "versions": package_versions(),
        }
        if loaded.evaluation is not None:
            progress.note(f"evaluating on suite {loaded.evaluation.suite}")
            with _interruptible(progress, folder) as interruption, interruption.drops_this():
                summary |= _evaluate(loaded, plugins, folder)
        summary["seconds"] = round(spent + time.monotonic() - started, 2)
        write_summary(folder, summary)
        write_report(folder)
    last = plan_stage(loaded, list(loaded.stages)[-1], plugins, folder)
    return RunResult(folder=folder, summary=read_summary(folder), model=last.model_folder)


@contextmanager
def _interruptible(progress: Progress, folder: Path) -> Iterator[Interruption]:
    """Inside, a signal ends in `Interrupted`, which says how to go on."""
    with Interruption.caught(progress.note) as interruption:
        try:
            yield interruption
        except StepDropped:
            raise Interrupted(
                f"stopped between two steps; continue with: {way_back(folder)}", interruption.exit_code
            ) from None
        except Interrupted as stop:
            raise Interrupted(f"{stop}; continue with: {way_back(folder)}", interruption.exit_code) from None


# --- stages ----------------------------------------------------------------------------------------------------------


def _run_stages(
    recipe: Recipe, plugins: Plugins, folder: Path, progress: Progress, resume: bool, strict: bool
) -> list[dict[str, Any]]:
    """Every stage's summary; what a signal or a lost worker leaves undone says how to go on."""
    back = way_back(folder)
    restarts = Restarts(recipe.runtime.max_restarts, f"continue with: {back}", progress.note)
    # In this order: Ray takes SIGTERM for itself when it starts.
    with _runner(recipe, plugins, progress.note, back) as run_stage, _interruptible(progress, folder) as interruption:
        summaries = []
        for name in recipe.stages:
            with interruption.drops_this():  # asked for while the stage before was at its end
                plan = plan_stage(recipe, name, plugins, folder)
            summaries.append(_stage(recipe, plan, plugins, folder, progress, restarts, run_stage, resume, strict))
        with interruption.drops_this():
            return summaries


def _stage(
    recipe: Recipe,
    plan: StagePlan,
    plugins: Plugins,
    folder: Path,
    progress: Progress,
    restarts: Restarts,
    run_stage: RunStage,
    resume: bool,
    strict: bool,
) -> dict[str, Any]:
    """Run one stage, or, on resume, take the summary of one that is done."""
    name = plan.name
    if resume and (plan.folder / SUMMARY_NAME).is_file():
        summary = read_summary(plan.folder)
        progress.note(f"stage {name}: done before ({summary['steps']} steps)")
        return summary
    plan.folder.mkdir(parents=True, exist_ok=True)
    plan = _with_fresh_model(plan, build_dataset(plan.config, plugins), resume)
    require_one_vocabulary(plan)
    require_upload_place(plan)
    started = time.monotonic()
    plugins.hook.on_run_start(stage=name, recipe=recipe.model_dump(mode="json"), folder=plan.folder)
    while True:
        saved = newest_good(plan, progress.note) if resume else 0
        progress.start(name, plan.num_steps, resumed_from=saved)
        if plan.runtime.type == "ray":
            progress.note(f"stage {name}: starting workers")
        for line in keep_conditions(plan, resumed=saved > 0, strict=strict, way_back=way_back(folder)):
            progress.note(f"stage {name}: {line}")
        journal = DriverJournal(recipe, plugins, name, plan.folder, progress, 1 + saved, restarts=restarts.count)
        outcome: StageOutcome | None = None
        try:
            outcome = run_stage(plan, journal, resume)
            break
        except (WorkerDied, ResourceError) as loss:
            restarts.after(loss, name, finished=journal.last_step, saved=newest_good(plan, progress.note))
            resume = True
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
def _runner(recipe: Recipe, plugins: Plugins, note: Callable[[str], None], way_back: str) -> Iterator[RunStage]:
    """How a stage is run: in this process, or on Ray, which is then up for as long as the run."""
    if recipe.runtime.type == "inline":
        yield lambda plan, journal, resume: run_inline(plan, plugins, journal, resume=resume)
        return
    from rlhf.runtime.on_ray import ray_runner  # the only way to Ray: the inline runtime never loads it

    with ray_runner(recipe, plugins, note, way_back) as run_stage:
        yield run_stage


def _seconds_spent(folder: Path) -> float:
    """Of stages that earlier sessions of the run have finished."""
    return float(sum(read_summary(path.parent)["seconds"] for path in folder.glob(f"*/{SUMMARY_NAME}")))


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
