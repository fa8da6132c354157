"""Log-probs of the rollout engine stand in for the policy's own where some rows show that they are the same."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from rlhf.algorithms.compared import SAME, SPOT, compared, old_logprobs
from rlhf.types import PolicyOutput, ScoredBatch
from tests.unit.algorithms.scripted_run import scored_batch


@dataclass
class Policy:
    """Says what the rollout engine said, plus `off` nats; remembers how many rows it was asked about."""

    off: float
    asked: list[int] = field(default_factory=list)

    def forward(self, batch: ScoredBatch) -> PolicyOutput:
        self.asked.append(len(batch))
        return PolicyOutput(logprobs=batch.sampled_logprobs + self.off, entropy=torch.zeros(batch.tokens.shape))


@dataclass
class OneRole:
    """A run of which only the policy is asked."""

    policy: Policy


def sampled(rows: int) -> ScoredBatch:
    batch = scored_batch([0.0] * rows, [0] * rows)
    said = torch.where(batch.response_mask, -torch.rand(batch.tokens.shape), 0.0)
    return replace(batch, sampled_logprobs=said)


def asked(rows: int, off: float, exact: bool = False) -> tuple[Any, Tensor, list[int]]:
    batch, run = sampled(rows), OneRole(Policy(off))
    old = old_logprobs(run, batch, exact=exact)  # type: ignore[arg-type]
    mask = batch.response_mask
    return old.gap, (old.logprobs - batch.sampled_logprobs)[mask].abs().max(), run.policy.asked


@pytest.mark.parametrize(("rows", "spot"), [(2 * SPOT, SPOT), (64, 8), (160, 20)])
def test_where_some_rows_agree_no_others_are_asked(rows: int, spot: int) -> None:
    gap, difference, numbers = asked(rows, off=SAME / 2)
    assert numbers == [spot]
    assert difference == 0
    assert float(gap.mean) == pytest.approx(SAME / 2, rel=1e-2)


def test_where_they_do_not_agree_all_are_asked() -> None:
    gap, difference, numbers = asked(64, off=2 * SAME)
    assert numbers == [8, 64]
    assert float(difference) == pytest.approx(2 * SAME, rel=1e-2)
    assert float(gap.largest) == pytest.approx(2 * SAME, rel=1e-2)


@pytest.mark.parametrize(("rows", "exact"), [(2 * SPOT - 1, False), (64, True)])
def test_few_rows_are_all_asked_and_so_are_those_that_must_be_exact(rows: int, exact: bool) -> None:
    _, difference, numbers = asked(rows, off=SAME / 2, exact=exact)
    assert numbers == [rows]
    assert difference > 0


def test_what_the_rollout_engine_said_of_the_prompt_does_not_count() -> None:
    batch = sampled(16)
    noisy = replace(batch, sampled_logprobs=torch.where(batch.response_mask, batch.sampled_logprobs, 9.0))
    models = compared(noisy, old_logprobs(OneRole(Policy(0.0)), noisy, exact=False))  # type: ignore[arg-type]
    assert models.old_logprobs is not None
    assert torch.equal(models.old_logprobs, batch.sampled_logprobs)
    assert models.kl.sum() == 0
