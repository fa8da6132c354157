"""Threads of arithmetic: the sum over the processes at work should equal the cores, for every thread too many costs."""

from __future__ import annotations

import os

from rlhf.runtime.plan import StagePlan

_ROLES_AT_WORK = 3
"""Policy, reference and value run at the same time when samples are assessed."""


def threads_for(plan: StagePlan, cores: int, processes: int) -> int:
    """Threads of each process of a stage. The same inline and on actors, since results may differ by thread count."""
    if plan.runtime.threads is not None:
        return plan.runtime.threads
    return max(1, cores // (_ROLES_AT_WORK if plan.samples else processes))


def use_threads(plan: StagePlan, processes: int) -> None:
    """Set this process's threads; before torch starts any, by environment as well."""
    count = threads_for(plan, os.cpu_count() or 1, processes)
    os.environ["OMP_NUM_THREADS"] = str(count)
    import torch

    torch.set_num_threads(count)
