"""All roles in this process: for debugging, tests, and machines without Ray or DeepSpeed."""

from __future__ import annotations

from typing import Any

from rlhf.config import Part
from rlhf.plugins import Plugins
from rlhf.protocols import RolloutEngine
from rlhf.runtime.engine_choice import built_rollout, vllm_on_gpu
from rlhf.runtime.journal import Journal
from rlhf.runtime.live_run import LiveRun
from rlhf.runtime.plan import StagePlan
from rlhf.runtime.sharing import take_turns
from rlhf.runtime.stage import StageOutcome, drive
from rlhf.runtime.threads import use_threads


def run_inline(plan: StagePlan, plugins: Plugins, journal: Journal, *, resume: bool) -> StageOutcome:
    """Run a stage here."""
    use_threads(plan)
    rollout = build_rollout(plan, plugins, journal) if plan.samples else None
    engines: dict[str, Any]
    if rollout is not None and plan.runtime.placement == "colocated":
        rollout.sleep()
        engines, rollout = take_turns(build_engines(plan, plugins), rollout)
    else:
        engines = build_engines(plan, plugins)
    return drive(LiveRun(plan, plugins, with_reference(engines), rollout, journal), resume=resume)


def build_engines(plan: StagePlan, plugins: Plugins) -> dict[str, Any]:
    """An engine for each role, in this process; `auto` is `torch` here."""
    part = Part(type="torch", **plan.engine.options) if plan.engine.type == "auto" else plan.engine
    return {
        role: plugins.registry.build("train_engine", part.type, part.options, spec, where="engine")
        for role, spec in plan.specs.items()
    }


def with_reference(engines: dict[str, Any]) -> dict[str, Any]:
    """Without a reference of its own, a policy's is what it was before its adapters."""
    if "policy" in engines and "reference" not in engines:
        return engines | {"reference": AdapterOff(engines["policy"])}
    return engines


def build_rollout(plan: StagePlan, plugins: Plugins, journal: Journal) -> RolloutEngine:
    """The rollout engine, loaded with the policy's starting weights."""
    on_gpu = vllm_on_gpu(plan.runtime, 1.0)
    engine, choice = built_rollout(plan.config.rollout.engine, plan.config.model, plugins.registry, on_gpu)
    if choice is not None:
        journal.note(choice)
    return engine


class AdapterOff:
    """The reference of a LoRA policy: the policy with its adapter off. Only ever runs forward."""

    def __init__(self, policy: Any) -> None:
        self._policy = policy

    def forward(self, batch: Any) -> Any:
        """Log-probs under the untouched base model."""
        return self._policy.base_forward(batch)
