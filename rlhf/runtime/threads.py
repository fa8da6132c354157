"""Threads of arithmetic: the sum over the processes at work should equal the cores, for every thread too many costs."""

from __future__ import annotations

import os

from rlhf.runtime.plan import StagePlan, workers_of


def threads_for(plan: StagePlan, cores: int, at_work: int) -> int:
    """Threads of each process of a stage, of which so many work at the same time."""
    return plan.runtime.threads or max(1, cores // at_work)


def at_work(plan: StagePlan) -> int:
    """Processes of a stage on actors that work at once: those that sample, and those that assess and train; where
    sampling and learning take turns, the more of both.
    """
    sampling = workers_of(plan.runtime, "rollout").num
    learning = sum(workers_of(plan.runtime, role).num for role in plan.specs)
    return sampling + learning if plan.config.rollout.max_staleness else max(sampling, learning)


def use_threads(plan: StagePlan) -> None:
    """Set the threads of the only process; before torch starts any, by environment as well."""
    count = threads_for(plan, os.cpu_count() or 1, at_work=1)
    os.environ["OMP_NUM_THREADS"] = str(count)
    import torch

    torch.set_num_threads(count)
