"""One optimizer step with each way of weighing tokens, on any engine; what both ranks of the test run."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from rlhf.algorithms.policy_objective import PolicyLoss, TokenWeights
from rlhf.config import ModelConfig, OptimizerConfig, RoleSpec
from rlhf.functional.aggregation import prompt_mean
from rlhf.types import Experience
from tests.unit.engines.families import make_batch

LENGTHS = [9, 3, 12, 4, 7, 5, 11]
GROUPS = torch.tensor([0, 0, 1, 1, 1, 2, 2])

LOSSES: dict[str, dict[str, Any]] = {
    "token_mean": {"kl_coef": 0.1, "entropy_coef": 0.01, "dual_clip": 3.0},
    "sequence_mean": {"ratio": "sequence_mean"},
    "sequence_sum": {"surrogate": "cispo"},
    "prompt_mean": {"kl_coef": 0.1, "kl_estimator": "k2"},
}


def spec(model: str) -> RoleSpec:
    optimizer = OptimizerConfig(lr=1e-2, eps=1e-3, max_grad_norm=0.5)
    return RoleSpec(role="policy", model=ModelConfig(path=model), optimizer=optimizer, num_steps=5)


def experience(engine: Any) -> Experience:
    """Seven rows, an odd number for two ranks, of a policy that has moved a little since it sampled."""
    rows = make_batch(LENGTHS, width=14)
    mask = rows.response_mask
    generator = torch.Generator().manual_seed(1)

    def near(tensor: torch.Tensor, scale: float) -> torch.Tensor:
        return torch.where(mask, tensor + scale * torch.randn(mask.shape, generator=generator), 0)

    logprobs = engine.forward(rows).logprobs
    batch = Experience(
        **dict(rows.tensors()),
        old_logprobs=near(logprobs, 0.2),
        advantages=near(torch.zeros(mask.shape), 1.0),
        ref_logprobs=near(logprobs, 0.5),
        correction=near(torch.zeros(mask.shape), 0.2).exp(),
    )
    return replace(batch, loss_weights=prompt_mean(mask, GROUPS)[0])


def steps(engine: Any) -> dict[str, torch.Tensor]:
    """Figures and weights after a step with each loss in turn."""
    found = {}
    for mode, options in LOSSES.items():
        loss = PolicyLoss(clip_low=0.2, clip_high=0.3, weights=TokenWeights(mode, 16), **options)  # type: ignore[arg-type]
        metrics = engine.train_step(experience(engine), loss)
        found[f"figures of {mode}"] = torch.tensor([metrics[name] for name in sorted(metrics)])
    return {**found, **{name: tensor.clone().contiguous() for name, tensor in engine.weights()}}


def work(rank: int, world_size: int, port: int, model: str, out: str) -> None:
    """What each rank does."""
    from rlhf.engines.deepspeed_engine import DeepSpeedEngine
    from rlhf.engines.settings import DeepSpeedConfig

    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world_size), LOCAL_RANK=str(rank))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    found = steps(DeepSpeedEngine(DeepSpeedConfig(zero_stage=2, micro_batch_tokens=20), spec(model)))
    save_file(found, Path(out) / f"rank-{rank}.safetensors")
    torch.distributed.destroy_process_group()
