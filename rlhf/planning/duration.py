"""How long a stage takes, and how much it computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rlhf.planning.cost import Pace, flops_per_token, scoring_flops, training_flops
from rlhf.planning.stage import RoleNeeds, StageNeeds

PaceOf = Callable[[RoleNeeds, int], Pace]
"""Of a role, and of so many sequences written at once by its model (0: none)."""


@dataclass(frozen=True)
class Estimate:
    """Of one step and of the whole stage."""

    parts: Mapping[str, float]
    """Seconds of a step by what is done."""
    steps: int
    flops: float
    """Floating-point operations of the stage, all processes together."""
    tokens: float
    """Tokens trained on or scored in the stage, each row counted once."""
    how: str

    @property
    def seconds_per_step(self) -> float:
        return sum(self.parts.values())

    @property
    def seconds(self) -> float:
        """Of the stage, without loading, evaluation and checkpoints."""
        return self.steps * self.seconds_per_step


def flops_of(needs: StageNeeds) -> float:
    """Of the whole stage."""
    batches = needs.batches
    step = 0.0
    for role in needs.roles:
        if role.work.trains:
            step += training_flops(
                role.work, batches.updates_per_step * batches.per_update * batches.rows_each * batches.lengths.mean
            )
        if _scores(role, needs):
            step += scoring_flops(role.work, batches.tokens_per_step)
    if needs.rollout is not None:
        one = flops_per_token(needs.rollout.network, batches.lengths.mean)
        step += batches.tokens_per_step * (one.forward + one.head * batches.lengths.answer)
    return step * batches.steps


def estimate(needs: StageNeeds, pace_of: PaceOf) -> Estimate:
    """Roles in processes of their own work at the same time; those in one process after each other."""
    batches = needs.batches
    training: dict[str, float] = {}
    scoring: dict[str, float] = {}
    how, generating = "", 0.0
    for role in needs.roles:
        writes = needs.rollout.sequences if needs.rollout and role.role == "policy" else 0
        pace = pace_of(role, writes)
        how = pace.how
        per_token = pace.train / role.work.tokens
        rows = batches.rows_per_rank * batches.lengths.mean
        if role.work.trains:
            training[role.role] = batches.updates_per_step * (rows * per_token + pace.step / _parts(role))
        if _scores(role, needs):
            scoring[role.role] = batches.tokens_per_step / role.spread.ranks * pace.score / role.work.tokens
        if writes and needs.rollout is not None:
            rounds = batches.per_step / (needs.rollout.sequences * needs.rollout.workers)
            generating = max(1.0, rounds) * batches.lengths.mean * batches.lengths.answer * pace.generate
    together = needs.processes == "actors" and not needs.colocated
    parts = {"generate": generating, "score": _joined(scoring, together), "train": _joined(training, together)}
    return Estimate(
        parts={name: seconds for name, seconds in parts.items() if seconds},
        steps=batches.steps,
        flops=flops_of(needs),
        tokens=batches.steps * batches.tokens_per_step,
        how=how,
    )


def _joined(seconds: Mapping[str, float], together: bool) -> float:
    return (max if together else sum)(seconds.values()) if seconds else 0.0


def _parts(role: RoleNeeds) -> int:
    """Over how many processes the optimizer's state is spread."""
    return role.spread.ranks if role.spread.sharded else 1


def _scores(role: RoleNeeds, needs: StageNeeds) -> bool:
    """What samples are compared with is read once; a policy's own log-probs where a step has several updates."""
    if not role.work.trains:
        return True
    return needs.rollout is not None and (role.role != "policy" or needs.batches.updates_per_step > 1)
