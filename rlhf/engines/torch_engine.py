"""The train engine of one process: plain PyTorch on its GPU or CPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from rlhf.config import RoleSpec
from rlhf.engines.checkpoints import (
    model_tensors,
    read_state,
    restore_model,
    trained_parameters,
    write_state,
)
from rlhf.engines.compiled_layers import compile_layers
from rlhf.engines.device_memory import move, release
from rlhf.engines.export import export_model, handed_weights
from rlhf.engines.fingerprints import live_fingerprints
from rlhf.engines.micro_batched import MicroBatchedEngine
from rlhf.engines.models import build_model
from rlhf.engines.optimizer import adamw, clip, gradient_norm
from rlhf.engines.precision import Precision, local_device
from rlhf.engines.settings import TorchConfig
from rlhf.types import Fingerprint


class TorchEngine(MicroBatchedEngine):
    """A role's model and, where it is trained, its AdamW. Satisfies `rlhf.protocols.TrainEngine`."""

    def __init__(self, config: TorchConfig, spec: RoleSpec) -> None:
        self.config = config
        self.spec = spec
        self.device = local_device()
        trains_all = spec.optimizer is not None and spec.model.lora is None
        precision = Precision.of(spec.model, self.device, full_weights=trains_all)
        self.model, self.packing = build_model(spec, precision, packing=config.packing)
        self.model.to(self.device)
        if config.compile and spec.optimizer is not None:
            compile_layers(self.model.network, spec, precision, self.packing)
        self.optimizer = None if spec.optimizer is None else adamw(self.model, spec.optimizer)
        self.steps = 0

    def _backward(self, loss: Tensor, last: bool) -> None:
        loss.backward()  # type: ignore[no-untyped-call]

    def _apply(self, lr: float) -> float:
        assert self.optimizer is not None
        assert self.spec.optimizer is not None
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        norm = gradient_norm(trained)
        if not norm.isfinite():
            self._drop_gradients()
            return float(norm)
        clip(trained, norm, self.spec.optimizer.max_grad_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self._drop_gradients()
        return float(norm)

    def _drop_gradients(self) -> None:
        self.model.zero_grad(set_to_none=True)

    def _reduced(self, sums: Tensor) -> Tensor:
        return sums

    def _highest(self, peaks: Tensor) -> Tensor:
        return peaks

    def weights(self, *, base: bool = True) -> Iterator[tuple[str, Tensor]]:
        """Full weights by Hugging Face names, tied heads included, adapters merged, in the format of its arithmetic.

        With `lora.hand_over: adapter` adapters come apart, and alone without `base`. Views where they need no change:
        copy what must last.
        """
        return handed_weights(self.model.network, self.spec.model, self.model.precision.compute, base=base)

    def fingerprints(self) -> dict[str, Fingerprint]:
        """Of its live parameters, as `weights` should hand them on."""
        return live_fingerprints(self.model.network, self.spec.model, self.model.precision.compute)

    def export(self, path: Path) -> None:
        """Write a folder that `from_pretrained` loads; with LoRA also the bare adapter in `adapter/`."""
        export_model(self.model.network, self.spec.model.lora, path)

    def save(self, path: Path) -> None:
        """Write trained weights, optimizer state and counts of steps: `load` continues bit for bit."""
        tensors, dtype = model_tensors(self.model, self.optimizer), self.model.precision.compute
        counts = {"steps": self.steps, "skipped": self.skipped}
        write_state(path, tensors, role=self.spec.role, engine="torch", dtype=dtype, **counts)

    def load(self, path: Path) -> None:
        """Take up what `save` wrote. Raises `RunError` where it is missing, broken or of another model."""
        shapes = {name: tuple(parameter.shape) for name, parameter in trained_parameters(self.model).items()}
        tensors, self.steps, self.skipped = read_state(path, role=self.spec.role, shapes=shapes)
        restore_model(self.model, self.optimizer, tensors)

    def sleep(self) -> None:
        """Weights and optimizer state wait in CPU memory."""
        move(self.model, self.optimizer, torch.device("cpu"))
        release()

    def wake(self) -> None:
        """Take them back, with the same values."""
        move(self.model, self.optimizer, self.device)
