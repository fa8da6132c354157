"""What each process of the DeepSpeed tests does; results go to files, which the tests then compare."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from rlhf.config import LoraConfig, ModelConfig, OptimizerConfig, RoleSpec
from rlhf.engines.deepspeed_engine import DeepSpeedEngine
from rlhf.engines.fingerprints import fingerprints_of
from rlhf.engines.settings import DeepSpeedConfig
from rlhf.runtime.handover import require_same
from rlhf.types import PreferenceBatch, TokenBatch
from tests.integration.uneven_ranks import idle, poisoned
from tests.unit.engines.families import make_batch
from tests.unit.engines.losses import ClippedSurrogate, Likelihood, NotFinite, RankingLoss, experience

LENGTHS = [9, 3, 12, 4, 7, 5, 11]


@dataclass(frozen=True)
class Case:
    """One engine in one group of processes."""

    name: str
    world_size: int
    role: str = "policy"
    lora: LoraConfig | None = None
    packing: bool = False
    config: dict[str, Any] = field(default_factory=dict)

    def spec(self, path: str) -> RoleSpec:
        return RoleSpec(
            role=self.role,
            model=ModelConfig(path=path, lora=self.lora),
            optimizer=OptimizerConfig(
                lr=1e-2, eps=1e-3, max_grad_norm=0.5, schedule="cosine", weight_decay=0.1, warmup=0.3
            ),
            num_steps=5,
        )


def _case(name: str, world_size: int, **options: Any) -> Case:
    own = {key: options.pop(key) for key in ("role", "lora", "packing") if key in options}
    return Case(name, world_size, **own, config={"micro_batch_tokens": 30, **options})


CASES = [
    _case("one process, stage 0", 1, zero_stage=0),
    _case("one process, stage 2, rows one by one", 1, zero_stage=2, micro_batch_tokens=1),
    _case("two, stage 0", 2, zero_stage=0),
    _case("two, stage 1", 2, zero_stage=1),
    _case("two, stage 2", 2, zero_stage=2),
    _case("two, stage 3", 2, zero_stage=3),
    _case("two, stage 3, all rows at once", 2, zero_stage=3, micro_batch_tokens=10000),
    _case("two, stage 2, packed", 2, zero_stage=2, packing=True),
    _case("two, stage 2, optimizer in CPU memory", 2, zero_stage=2, offload_optimizer=True),
    _case("two, stage 3, all in CPU memory", 2, zero_stage=3, offload_optimizer=True, offload_parameters=True),
    _case("two, stage 2, reward", 2, role="reward", zero_stage=2),
    _case("two, stage 3, reward", 2, role="reward", zero_stage=3),
    _case("two, stage 3, lora", 2, lora=LoraConfig(rank=4), zero_stage=3),
    _case("two, stage 2, four bits", 2, lora=LoraConfig(rank=4, quantize="nf4"), zero_stage=2),
    _case("two, stage 2, reward on four bits", 2, role="reward", lora=LoraConfig(rank=4, quantize="nf4"), zero_stage=2),
]


def steps(engine: Any) -> list[dict[str, float]]:
    """A few optimizer steps; also a batch of one row, of which other processes have none."""
    batch = make_batch(LENGTHS, width=14)
    if engine.spec.role == "reward":
        pairs = preferences()
        return [engine.train_step(pairs, RankingLoss()) for _ in range(3)]
    experiences = experience(batch, engine.forward(batch).logprobs)
    return [
        engine.train_step(batch, Likelihood(embedding_noise=5.0)),
        engine.train_step(experiences, ClippedSurrogate()),
        engine.train_step(batch[:1], Likelihood()),
    ]


def one_more(engine: Any) -> dict[str, float]:
    if engine.spec.role == "reward":
        return engine.train_step(preferences(), RankingLoss())
    return engine.train_step(make_batch(LENGTHS, seed=3), Likelihood())


def preferences() -> PreferenceBatch:
    """Three prompts with two candidates each: an odd number for two processes."""
    rows = make_batch([9, 3, 12, 4, 7, 5])
    return PreferenceBatch(candidates=rows, present_BK=torch.ones(3, 2, dtype=torch.bool), margin_B=torch.zeros(3))


def outputs(engine: Any, batch: TokenBatch | PreferenceBatch | None = None) -> dict[str, torch.Tensor]:
    batch = batch or (preferences() if engine.spec.role == "reward" else make_batch(LENGTHS, width=14))
    return {name: value.contiguous() for name, value in vars(engine.forward(batch)).items()}


def weights(engine: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in engine.weights()}


def work(rank: int, world_size: int, port: int, model: str, torch_checkpoint: str, out: str) -> None:
    """Run every case of this world size, then what only needs doing once."""
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world_size), LOCAL_RANK=str(rank))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    for case in CASES:
        if case.world_size == world_size:
            run_case(case, model, Path(out) / case.name, rank)
    if world_size == 2:
        report = {
            "skipped": skipped(model),
            "resumed": resumed_from_torch(model, torch_checkpoint),
            "frozen": frozen(model),
            "bfloat16": in_bfloat16(model),
            "poisoned": poisoned(model, Path(out)),
            "idle": idle(model),
        }
        (Path(out) / f"once-{rank}.json").write_text(json.dumps(report))
    torch.distributed.destroy_process_group()


def run_case(case: Case, model: str, folder: Path, rank: int) -> None:
    config = DeepSpeedConfig(packing=case.packing, **case.config)
    engine = DeepSpeedEngine(config, case.spec(model))
    report: dict[str, Any] = {"metrics": steps(engine)}
    trained, seen = weights(engine), outputs(engine)
    if case.role == "policy":
        report["fingerprints agree"] = agree(engine)
    if case.lora and case.role == "policy":
        seen["base"] = engine.base_forward(make_batch(LENGTHS, width=14)).logprobs
    engine.save(folder / "saved")
    engine.export(folder / "export")
    straight = one_more(engine)
    again = DeepSpeedEngine(config, case.spec(model))
    again.load(folder / "saved")
    same_weights = all(torch.equal(weights(again)[name], tensor) for name, tensor in trained.items())
    resumed = one_more(again)
    after = weights(engine)
    same_after = all(torch.equal(after[name], tensor) for name, tensor in weights(again).items())
    report["resume is exact"] = [same_weights, resumed == straight, same_after]
    (folder / f"report-{rank}.json").write_text(json.dumps(report))
    if rank == 0:
        save_file({**trained}, folder / "weights.safetensors")
        save_file(seen, folder / "outputs.safetensors")


def agree(engine: Any) -> bool:
    """What is told of the shares of all processes is true of the whole weights; merged ones may round."""
    require_same(engine.fingerprints(), fingerprints_of(engine.weights()), {}, "the whole")
    return engine.spec.model.lora is None or _agree_apart(engine)


def _agree_apart(engine: Any) -> bool:
    """The same of adapters that go apart: to the last bit, and alone once they may."""
    merged = engine.spec
    lora = merged.model.lora.model_copy(update={"hand_over": "adapter"})
    engine.spec = merged.model_copy(update={"model": merged.model.model_copy(update={"lora": lora})})
    told = engine.fingerprints()
    whole, alone = fingerprints_of(engine.weights()), fingerprints_of(engine.weights(base=False))
    engine.spec = merged
    adapters = {name: mark for name, mark in told.items() if ".lora_" in name}
    return told == whole and alone == adapters and 0 < len(adapters) < len(whole) and any(map(_moved, adapters.items()))


def _moved(item: tuple[str, Any]) -> bool:
    name, mark = item
    return ".lora_B" in name and any(mark.values)


def skipped(model: str) -> dict[str, list[bool]]:
    """A step whose loss or gradient is not finite, in each stage: is it skipped, and the next as if it had not been."""
    seen = {}
    for stage, offload in ((0, False), (1, False), (2, False), (2, True), (3, False), (3, True)):
        case = _case("", 2, zero_stage=stage, offload_optimizer=offload)
        untroubled = DeepSpeedEngine(DeepSpeedConfig(**case.config), case.spec(model))
        one_more(untroubled)
        for gradient_only in (False, True):
            engine = DeepSpeedEngine(DeepSpeedConfig(**case.config), case.spec(model))
            before = weights(engine)
            metrics = engine.train_step(make_batch(LENGTHS), NotFinite(gradient_only))
            kept = _same(weights(engine), before)
            one_more(engine)
            name = f"{stage} {'offload' if offload else ''} {'gradient' if gradient_only else 'loss'}"
            seen[name] = [metrics == {"policy/skipped": 1.0}, kept, _same(weights(engine), weights(untroubled))]
    return seen


def _same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], tensor) for name, tensor in other.items())


def resumed_from_torch(model: str, checkpoint: str) -> list[float]:
    """Losses of the step after a checkpoint that the torch engine wrote."""
    losses = []
    for stage in (0, 1, 3):
        case = _case("", 2, zero_stage=stage)
        engine = DeepSpeedEngine(DeepSpeedConfig(**case.config), case.spec(model))
        engine.load(Path(checkpoint))
        one_more(engine)
        losses.append(one_more(engine)["policy/loss"])
    return losses


def frozen(model: str) -> dict[str, list[float]]:
    """Scores and log-probs of roles that are never trained, spread over processes and not."""
    found = {}
    for role in ("reference", "reward"):
        for stage in (2, 3):
            spec = RoleSpec(role=role, model=ModelConfig(path=model))
            engine = DeepSpeedEngine(DeepSpeedConfig(zero_stage=stage, micro_batch_tokens=20), spec)
            first = next(iter(outputs(engine, make_batch(LENGTHS)).values()))
            found[f"{role} {stage}"] = first.flatten().tolist()
    return found


def in_bfloat16(model: str) -> dict[str, list[float]]:
    """Losses of steps in bfloat16 arithmetic over float32 weights, activations recomputed."""
    found = {}
    for stage in (0, 2, 3):
        spec = RoleSpec(
            role="policy",
            model=ModelConfig(path=model, dtype="bfloat16", gradient_checkpointing=True),
            optimizer=OptimizerConfig(lr=1e-2),
        )
        engine = DeepSpeedEngine(DeepSpeedConfig(zero_stage=stage, micro_batch_tokens=30), spec)
        found[str(stage)] = [engine.train_step(make_batch(LENGTHS), Likelihood())["policy/loss"] for _ in range(4)]
    return found
