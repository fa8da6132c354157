"""What two DeepSpeed processes do when one of them meets trouble: a NaN in one micro-batch, or nothing to learn."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from rlhf.config import ModelConfig, OptimizerConfig, RoleSpec
from rlhf.engines.deepspeed_engine import DeepSpeedEngine
from rlhf.engines.settings import DeepSpeedConfig
from rlhf.errors import DataError, RunError
from rlhf.types import LossSum, PolicyOutput, TokenBatch
from tests.unit.engines.families import make_batch
from tests.unit.engines.losses import Likelihood

LENGTHS = [9, 3, 12, 4, 7, 5, 11]
STAGES = (0, 1, 2, 3)
MAX_SKIPPED = 2
_POISON = 4
"""The row that carries it, 7 tokens long: in a micro-batch of its own rank among others."""


@dataclass(frozen=True)
class Poisoned(Likelihood):
    """A NaN in the loss, or only in the gradient, of the micro-batch that holds one row; `met` says where that was."""

    gradient_only: bool = False
    met: list[int] = field(default_factory=list)

    def __call__(self, output: PolicyOutput, batch: TokenBatch) -> LossSum:
        loss = super().__call__(output, batch)
        tokens = make_batch(LENGTHS).tokens[_POISON, : LENGTHS[_POISON]]
        here = any(torch.equal(row[: len(tokens)].cpu(), tokens) for row in batch.tokens)
        if not here:
            return loss
        self.met.append(len(batch))
        poison = (output.logprobs.sum() * 0).sqrt() if self.gradient_only else torch.nan
        return replace(loss, total=loss.total + poison)


def built(model: str, stage: int, folder: Path | None = None) -> DeepSpeedEngine:
    optimizer = OptimizerConfig(lr=1e-2, eps=1e-3, max_skipped=MAX_SKIPPED)
    spec = RoleSpec(
        role="policy",
        model=ModelConfig(path=model),
        optimizer=optimizer,
        folder=None if folder is None else str(folder),
    )
    return DeepSpeedEngine(DeepSpeedConfig(zero_stage=stage, micro_batch_tokens=16), spec)


def poisoned(model: str, out: Path) -> dict[str, Any]:
    """Steps with a poisoned micro-batch until the run ends, in each stage."""
    found = {}
    for stage in STAGES:
        for gradient_only in (False, True):
            name = f"{stage} {'gradient' if gradient_only else 'loss'}"
            folder = out / "poisoned" / name
            engine = built(model, stage, folder)
            engine.train_step(make_batch(LENGTHS, seed=1), Likelihood())
            before = {name: tensor.clone() for name, tensor in engine.weights()}
            loss = Poisoned(gradient_only=gradient_only)
            skipped = [engine.train_step(make_batch(LENGTHS), loss) for _ in range(MAX_SKIPPED)]
            engine.save(folder / "saved")
            ended = ""
            try:
                engine.train_step(make_batch(LENGTHS), loss)
            except RunError as error:
                ended = str(error).replace(str(folder), "FOLDER")
            found[name] = {
                "met": loss.met,
                "skipped": skipped,
                "weights kept": all(torch.equal(before[name], tensor) for name, tensor in engine.weights()),
                "saved is finite": _is_finite(folder / "saved"),
                "ended": ended,
                "steps": engine.steps,
            }
    return found


def _is_finite(folder: Path) -> bool:
    saved = [tensor for path in sorted(folder.rglob("*.safetensors")) for tensor in load_file(path).values()]
    return bool(saved) and all(bool(tensor.isfinite().all()) for tensor in saved if tensor.is_floating_point())


def uneven(learns: tuple[int, ...]) -> TokenBatch:
    """The batch, of which only these rows have anything to learn."""
    batch = make_batch(LENGTHS, width=14)
    taught_B = torch.zeros(len(LENGTHS), dtype=torch.bool)
    taught_B[list(learns)] = True
    return replace(batch, response_mask=batch.response_mask & taught_B[:, None])


UNEVEN = {"one row of all": (2,), "the shortest row": (1,), "one rank's rows": (2, 4, 3, 5), "all": tuple(range(7))}


def idle(model: str) -> dict[str, Any]:
    """Steps in which a micro-batch, or a whole rank, has not one token to learn from; and one without any at all."""
    found: dict[str, Any] = {}
    for stage in STAGES:
        engine = built(model, stage)
        found[str(stage)] = [engine.train_step(uneven(learns), Likelihood()) for learns in UNEVEN.values()]
        try:
            engine.train_step(uneven(()), Likelihood())
        except DataError as error:
            found[f"{stage} refused"] = str(error)
        found[f"{stage} goes on"] = engine.train_step(uneven(UNEVEN["all"]), Likelihood())
    return found
