"""The plan of a whole recipe: what each stage needs, whether that is there, and what would fit if it is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rlhf.errors import ConfigError, ResourceError, UserError
from rlhf.planning.advice import warnings
from rlhf.planning.cost import Pace, reckoned
from rlhf.planning.duration import Estimate, estimate, flops_of
from rlhf.planning.fitting import Proposal, proposals
from rlhf.planning.machine import Machine, gigabytes, local_machine, parsed_memory
from rlhf.planning.stage import Place, RoleNeeds, StageNeeds, places
from rlhf.plugins import Plugins
from rlhf.recipe import Recipe, RuntimeConfig
from rlhf.runtime.needs import stage_needs
from rlhf.runtime.plan import StagePlan, plan_stage
from rlhf.runtime.threads import at_work, threads_for

MARGIN = 1.15
"""Plans of memory agree with measurements this far (`benchmarks/RESULTS.md`): what misses by less may run yet."""


@dataclass(frozen=True)
class StageReport:
    """A stage; without `needs` where it is refused before anything could be worked out."""

    name: str
    needs: StageNeeds | None = None
    places: tuple[Place, ...] = ()
    refusals: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    proposals: tuple[Proposal, ...] = ()
    flops: float = 0.0
    estimate: Estimate | None = None
    threads: int = 1

    @property
    def cannot_run(self) -> bool:
        """Not even where the plan is wrong by as much as it has ever been seen to be."""
        tight = [place for place in self.places if not place.fits]
        return len(self.refusals) > len(tight) or any(place.needed > MARGIN * place.available for place in tight)

    @property
    def storage(self) -> float:
        """Bytes on disk at the end: checkpoints that are kept, and the model."""
        return 0.0 if self.needs is None else self.needs.checkpoint


@dataclass(frozen=True)
class PlanReport:
    """All stages on one machine."""

    recipe: Recipe
    machine: Machine
    stages: tuple[StageReport, ...]
    peak: float | None = None
    """Operations a second, given or measured."""

    @property
    def refusals(self) -> list[str]:
        return [f"stage {stage.name}: {line}" for stage in self.stages for line in stage.refusals]

    @property
    def summary(self) -> str:
        """One line for whoever starts a run."""
        spots = [(place, stage) for stage in self.stages for place in stage.places if place.available]
        if not spots:
            return "plan: nothing could be worked out"
        place, stage = max(spots, key=lambda pair: pair[0].needed / pair[0].available)
        return (
            f"plan: at most {gigabytes(place.needed)} of {gigabytes(place.available)} on {place.name} (stage "
            f"{stage.name}, to {place.phase}); `rlhf plan` says more"
        )


def machine_for(runtime: RuntimeConfig) -> Machine:
    """This machine, or the cluster the recipe names."""
    if runtime.type == "ray" and runtime.address is not None:
        from rlhf.runtime.cluster import cluster_machine  # the only way to Ray

        return cluster_machine(runtime)
    return local_machine()


def machine_named(text: str) -> Machine:
    """A machine with GPUs that is not here, as `8x80GB`; the rest of it is taken to be ample."""
    count, _, size = text.lower().partition("x")
    memory = parsed_memory(size)
    if not count.isdigit() or int(count) < 1 or memory is None:
        raise ConfigError(f"--devices {text!r}: write the number of GPUs and the memory of one, as in 8x80GB")
    gpus = int(count)
    return Machine(
        "cuda", gpus, memory, cores=16 * gpus, host_memory=4 * gpus * memory, name=f"{gpus} GPUs of {size.upper()}"
    )


def plan_recipe(
    recipe: Recipe, plugins: Plugins, machine: Machine, *, peak: float | None = None, measure: bool = False
) -> PlanReport:
    """Every stage. What cannot be is a refusal of its stage and does not stop the rest from being planned."""
    if measure:
        from rlhf.planning.calibration import matmul_peak

        peak = matmul_peak("cuda" if machine.device == "cuda" else "cpu", machine.cores if not machine.gpus else None)
    reports = tuple(_stage(recipe, name, plugins, machine, peak, measure) for name in recipe.stages)
    return PlanReport(recipe, machine, reports, peak)


def require_fits(recipe: Recipe, plugins: Plugins) -> str:
    """The summary of the plan. Raises `ResourceError` with the first refusal and what would fit instead.

    Only what certainly cannot work stops a run; a model that cannot be planned is left to the engines.
    """
    report = plan_recipe(recipe, plugins, machine_for(recipe.runtime))
    for stage in report.stages:
        if stage.needs is not None and stage.cannot_run:
            hint = "; ".join(" ".join(p.overrides) for p in stage.proposals)
            raise ResourceError(
                f"stage {stage.name}: {stage.refusals[0]}"
                + (f"; what would fit: {hint}" if hint else "; `rlhf plan` says more")
            )
    return report.summary


def _stage(
    recipe: Recipe, name: str, plugins: Plugins, machine: Machine, peak: float | None, measure: bool
) -> StageReport:
    folder = Path("runs") / recipe.name
    try:
        plan = plan_stage(recipe, name, plugins, folder)
        needs = stage_needs(recipe, plan, plugins, folder, machine)
        spots = tuple(places(needs))
    except UserError as error:
        return StageReport(name, refusals=(" ".join(str(error).split()),))
    refusals = (*_impossible(plan, machine), *_crowded(needs), *(place.words() for place in spots if not place.fits))
    threads = threads_for(plan, machine.cores, at_work(plan) if plan.samples else needs.batches.ranks)
    return StageReport(
        name,
        needs=needs,
        places=spots,
        refusals=refusals,
        warnings=() if refusals else tuple(warnings(needs)),
        proposals=tuple(proposals(needs)) if any(not place.fits for place in spots) else (),
        flops=flops_of(needs),
        estimate=None if refusals else _estimate(needs, peak, measure, threads),
        threads=threads,
    )


def _impossible(plan: StagePlan, machine: Machine) -> Iterator[str]:
    """What no memory would mend."""
    options = plan.config.rollout.engine.options.get("options", {}) if plan.samples else {}
    for key in ("tensor_parallel_size", "pipeline_parallel_size"):
        wanted = int(options.get(key, 1))
        if wanted > max(1, machine.gpus):
            yield f"rollout.engine.options.{key}: {wanted} GPUs asked for, {machine.name} has {machine.gpus}; lower it"


def _crowded(needs: StageNeeds) -> Iterator[str]:
    """Processes of a group speak through NCCL, which takes one of them for each GPU."""
    for role in needs.roles:
        ranks = role.spread.ranks
        if role.share > 0 and ranks > 1 and ranks > needs.machine.gpus:
            yield (
                f"runtime.workers.{role.role}.num: {ranks} processes that train together need as many GPUs, "
                f"{needs.machine.name} has {needs.machine.gpus}; lower it"
            )


def _estimate(needs: StageNeeds, peak: float | None, measure: bool, threads: int) -> Estimate | None:
    if peak is None:
        return None
    device = needs.machine.device

    def pace(role: RoleNeeds, sequences: int) -> Pace:
        if not measure:
            return reckoned(role.work, sequences, peak)
        from rlhf.planning.calibration import calibrated

        return calibrated(role.work, sequences, device, threads if device == "cpu" else None)

    return estimate(needs, pace)
