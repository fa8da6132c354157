"""Whether workers can be where the recipe puts them, as far as it can be told before Ray is up."""

from __future__ import annotations

from rlhf.errors import ConfigError
from rlhf.recipe import RuntimeConfig
from rlhf.runtime.plan import StagePlan, workers_of

_SEVERAL_GPUS = ("tensor_parallel_size", "pipeline_parallel_size")
"""Options of vLLM by which one engine takes several."""


def require_place(plan: StagePlan) -> None:
    """Refuse workers where there can be none, and shares of a device that are more than it. Raises `ConfigError`."""
    if plan.runtime.placement == "colocated" and plan.samples and plan.config.rollout.max_staleness:
        raise ConfigError(
            f"rollout.max_staleness: {plan.config.rollout.max_staleness} lets sampling and learning overlap, and "
            "colocated engines take turns; set runtime.placement=apart, or leave it out"
        )
    if plan.runtime.type == "inline":
        _require_one_process(plan.runtime)
    elif plan.samples and plan.runtime.placement == "colocated":
        _require_one_device(plan)


def _require_one_process(runtime: RuntimeConfig) -> None:
    for role, workers in runtime.workers.items():
        if workers.num > 1:
            raise ConfigError("runtime.workers: the inline runtime is one process; use runtime.type=ray for more")
        for key in ("cpus", "gpus"):
            if getattr(workers, key) is not None:
                raise ConfigError(
                    f"runtime.workers.{role}.{key}: the inline runtime is one process, which has no shares to give, "
                    f"given {getattr(workers, key):g}; leave it out, or use runtime.type=ray"
                )


def _require_one_device(plan: StagePlan) -> None:
    """What each role asks of the device that all are on."""
    asked = {role: workers_of(plan.runtime, role).gpus for role in (*plan.specs, "rollout")}
    claimed = sum(gpus or 0.0 for gpus in asked.values())
    shares = ", ".join(f"{role} {gpus:g}" for role, gpus in asked.items() if gpus)
    if claimed > 1 + 1e-6:
        raise ConfigError(
            f"runtime.workers: colocated workers share one GPU, and ask for {claimed:g} ({shares}); lower gpus, or set "
            "runtime.placement=apart"
        )
    unsaid = [role for role, gpus in asked.items() if gpus is None]
    if unsaid and claimed > 1 - 1e-3:
        raise ConfigError(
            f"runtime.workers: colocated workers share one GPU, of which {shares} leave nothing for "
            f"{', '.join(unsaid)}; lower gpus, or give those gpus: 0 to run on the CPU"
        )
    options = plan.config.rollout.engine.options.get("options", {})
    for name in _SEVERAL_GPUS:
        if options.get(name, 1) != 1:
            raise ConfigError(
                f"rollout.engine.options.{name}: a colocated rollout worker has one GPU, given {options[name]}; start "
                "more of them (runtime.workers.rollout.num), or set runtime.placement=apart"
            )
