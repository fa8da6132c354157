"""The train engine over many processes: DeepSpeed ZeRO (Rajbhandari et al. 2020, arXiv:1910.02054), stages 0 to 3.

Every process makes the same calls, with the same global batch, and runs the rows of it that fall to it.

DeepSpeed averages gradients over the processes. Losses here are sums divided by a global count, so each is multiplied
by the number of processes before it goes backward, and the mean becomes the sum that was meant.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rlhf.config import RoleSpec
from rlhf.engines.checkpoints import read_state, trained_parameters, write_state
from rlhf.engines.compiled_layers import compile_layers
from rlhf.engines.export import export_model, handed_weights, whole
from rlhf.engines.fingerprints import live_fingerprints, sampled, sampled_shard
from rlhf.engines.micro_batched import MicroBatchedEngine
from rlhf.engines.models import build_model
from rlhf.engines.optimizer import adamw, clip, gradient_norm
from rlhf.engines.precision import Precision, local_device
from rlhf.engines.processes import Processes
from rlhf.engines.settings import DeepSpeedConfig
from rlhf.engines.sharding import shard, shard_rows
from rlhf.engines.zero_state import drop_gradients, restore_zero, zero_shapes, zero_tensors
from rlhf.errors import ConfigError, RunError
from rlhf.types import Batch, Fingerprint


class DeepSpeedEngine(MicroBatchedEngine):
    """A role's model spread over processes. Satisfies `rlhf.protocols.TrainEngine` in each of them."""

    def __init__(self, config: DeepSpeedConfig, spec: RoleSpec) -> None:
        _check_options(config, spec)
        self.config: DeepSpeedConfig = config
        self.spec = spec
        self.processes = Processes.join()
        self.device = local_device(self.processes.local_rank)
        trains_all = spec.optimizer is not None and spec.model.lora is None
        precision = Precision.of(spec.model, self.device, full_weights=trains_all)
        self.model, self.packing = build_model(spec, precision, packing=config.packing)
        self.steps = 0
        self.zero_stage = config.zero_stage
        self._engine: Any = None
        if spec.optimizer is None and config.zero_stage < 3:
            self.model.to(self.device)  # nothing to spread
        else:
            self._engine = _initialize(self.model, config, spec)
        if config.compile and spec.optimizer is not None:
            compile_layers(self.model.network, spec, precision, self.packing)

    @property
    def _callable(self) -> Any:
        return self._engine or self.model

    def forward(self, batch: Batch) -> Any:
        """The role's output for every row of the global batch, in its order, in every process."""
        if self.processes.world_size == 1:
            return self._forward_rows(batch)
        rows = shard_rows(batch, self.processes.world_size)
        output = self._forward_rows(self._share(batch, rows))
        rows_each = len(batch.inputs) // len(batch)
        return type(output)(**{name: self._merged(value, rows, rows_each) for name, value in vars(output).items()})

    def _merged(self, mine: Tensor, rows: list[Tensor], rows_each: int) -> Tensor:
        """What every process has for its rows, in the order of the batch."""
        everyone = self.processes.gather(mine.to(self.device)).to(mine.device)
        whole_batch = mine.new_zeros((sum(len(r) for r in rows) * rows_each, *mine.shape[1:]))
        for theirs, places in zip(everyone, rows, strict=True):
            index = (places[:, None] * rows_each + torch.arange(rows_each)).flatten()
            whole_batch[index] = theirs[: len(index)]
        return whole_batch

    def _mine(self, batch: Batch) -> Batch:
        return self._share(batch, shard_rows(batch, self.processes.world_size))

    def _share(self, batch: Batch, rows: list[Tensor]) -> Batch:
        return shard(batch, rows[self.processes.rank], max(map(len, rows)))  # type: ignore[type-var]

    def _pieces(self, batch: Batch) -> list[tuple[Tensor, Batch]]:
        """As many in every process, for all meet in every one: those with less to do run blank rows at the end."""
        pieces = super()._pieces(batch)
        nothing = torch.arange(0)
        blank = shard(batch, nothing, 1).trim()  # type: ignore[type-var]
        most = int(self.processes.largest(torch.tensor(len(pieces), device=self.device)))
        return pieces + [(nothing, blank)] * (most - len(pieces))

    def _backward(self, loss: Tensor, last: bool) -> None:
        self._engine.set_gradient_accumulation_boundary(is_boundary=last)
        self._engine.backward(loss * self.processes.world_size)

    def _apply(self, lr: float) -> float:
        optimizer = self._engine.optimizer
        for group in optimizer.param_groups:
            group["lr"] = lr
        if self.zero_stage == 0:
            return self._apply_whole()
        if optimizer.has_overflow(partition_gradients=True):  # stage 3 would look at this in float16 only
            self._drop_gradients()
            return float("nan")
        self._engine.step()
        return float(self._engine.get_global_grad_norm() or 0.0) if self._engine.was_step_applied() else float("nan")

    def _apply_whole(self) -> float:
        """Stage 0 keeps plain gradients in every process; they are clipped by the same function as in one process."""
        assert self.spec.optimizer is not None
        trained = list(trained_parameters(self.model).values())
        norm = gradient_norm(trained)
        if not norm.isfinite():
            self._drop_gradients()
            return float(norm)
        clip(trained, norm, self.spec.optimizer.max_grad_norm)
        self._engine.step()
        return float(norm)

    def _drop_gradients(self) -> None:
        drop_gradients(self._engine, self.model, self.zero_stage)

    @property
    def _rank(self) -> int:
        return self.processes.rank

    def _reduced(self, sums: Tensor) -> Tensor:
        return self.processes.sum(sums)

    def _highest(self, peaks: Tensor) -> Tensor:
        return self.processes.largest(peaks)

    def _gather(self, parameters: Sequence[nn.Parameter]) -> AbstractContextManager[object]:
        if self.zero_stage < 3:
            return whole(parameters)
        from deepspeed.runtime.zero import GatheredParameters

        gathered: AbstractContextManager[object] = GatheredParameters(list(parameters))
        return gathered

    def weights(self, *, base: bool = True) -> Iterator[tuple[str, Tensor]]:
        """Full weights by Hugging Face names in the format of its arithmetic, one at a time; every process must take
        them all. With `lora.hand_over: adapter` adapters come apart, and alone without `base`.
        """
        precision = self.model.precision
        return handed_weights(self.model.network, self.spec.model, precision.compute, self._gather, base=base)

    def fingerprints(self) -> dict[str, Fingerprint]:
        """Of its live parameters, as `weights` should hand them on. Every process must call this."""
        spread = self.zero_stage == 3 and self._engine is not None
        return live_fingerprints(
            self.model.network,
            self.spec.model,
            self.model.precision.compute,
            sample=sampled_shard(self.processes.rank) if spread else sampled,
            summed=(lambda values: self.processes.sum(values.to(self.device))) if spread else (lambda values: values),
            gather=self._gather,
        )

    def export(self, path: Path) -> None:
        """Write a folder that `from_pretrained` loads. Every process must call this; the first one writes."""
        writes = self.processes.rank == 0
        export_model(self.model.network, self.spec.model.lora, path, gather=self._gather, write=writes)
        self._everyone_done(None)

    def save(self, path: Path) -> None:
        """Write all that `load` needs. Every process must call this; the first one writes.

        Tensors are written whole, so `load` may have another number of processes, ZeRO stage or engine.
        """
        tensors = self._tensors()
        failure: OSError | None = None
        if self.processes.rank == 0:
            try:
                write_state(path, tensors, **self._told_of())
            except OSError as error:
                failure = error
        for _ in tensors:  # meet the others in what is left to gather
            pass
        self._everyone_done(failure)

    def _told_of(self) -> dict[str, Any]:
        kind = {"engine": f"deepspeed, zero_stage {self.zero_stage}", "dtype": self.model.precision.compute}
        return {"role": self.spec.role, "steps": self.steps, "skipped": self.skipped, **kind}

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        if self._engine is not None and self.spec.optimizer is not None:
            yield from zero_tensors(self._engine, self.model, self.zero_stage, self.steps)

    def load(self, path: Path) -> None:
        """Take up what any engine of this role saved. Raises `RunError` where it is missing, broken or of another."""
        shapes = zero_shapes(self.model, self.zero_stage) if self.spec.optimizer is not None else {}
        tensors, self.steps, self.skipped = read_state(path, role=self.spec.role, shapes=shapes)
        if self.spec.optimizer is not None:
            restore_zero(self._engine, self.model, self.zero_stage, tensors)

    def sleep(self) -> None:
        """Keeps what it has on a device: what lies in CPU memory, ZeRO's own offloading decides (the recipe's)."""

    def wake(self) -> None:
        """Has not slept."""

    def _everyone_done(self, failure: Exception | None) -> None:
        """Wait for all; where one failed, all raise, and none waits for ever in the next collective."""
        failed = self.processes.sum(torch.tensor(float(failure is not None), device=self.device))
        if failed:
            raise RunError(
                f"the {self.spec.role} could not be saved: {failure or 'see the first process'}"
            ) from failure


def _check_options(config: DeepSpeedConfig, spec: RoleSpec) -> None:
    if config.zero_stage == 3 and spec.model.is_quantized:
        raise ConfigError("model.lora.quantize: zero_stage 3 cannot cut weights of four bits; set zero_stage 0, 1 or 2")
    if config.compile and config.zero_stage == 3:
        raise ConfigError("engine.compile: zero_stage 3 gathers weights inside each layer; set zero_stage 0, 1 or 2")
    if config.offload_optimizer and config.zero_stage == 0:
        raise ConfigError("offload_optimizer needs zero_stage 1, 2 or 3; zero_stage is 0")
    if config.offload_parameters and config.zero_stage != 3:
        raise ConfigError(f"offload_parameters needs zero_stage 3; zero_stage is {config.zero_stage}")


def _initialize(model: nn.Module, config: DeepSpeedConfig, spec: RoleSpec) -> Any:
    """DeepSpeed's engine around the module; the optimizer is torch's own AdamW in every stage."""
    import deepspeed

    zero: dict[str, Any] = {"stage": config.zero_stage}
    if config.offload_optimizer and spec.optimizer is not None:
        zero["offload_optimizer"] = {"device": "cpu"}
    if config.offload_parameters:
        zero["offload_param"] = {"device": "cpu"}
    options = {
        "train_micro_batch_size_per_gpu": 1,  # micro-batches are ours; this only sets its counters
        "gradient_accumulation_steps": 1,
        "gradient_clipping": spec.optimizer.max_grad_norm if spec.optimizer and config.zero_stage else 0.0,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }
    optimizer = None if spec.optimizer is None else adamw(model, spec.optimizer)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=options)
    return engine
