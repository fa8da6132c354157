"""Neither micro-batches nor ranks change a policy-gradient step, whatever the way tokens are weighed."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rlhf.engines.settings import TorchConfig
from tests.integration.policy_steps import LOSSES, spec, steps, work
from tests.unit.engines.families import write_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_model("llama-tied", tmp_path_factory.mktemp("model"))


def on_torch(model: str, micro_batch_tokens: int) -> dict[str, torch.Tensor]:
    from rlhf.engines.torch_engine import TorchEngine

    return steps(TorchEngine(TorchConfig(micro_batch_tokens=micro_batch_tokens), spec(model)))


@pytest.fixture(scope="module")
def whole(model: str) -> dict[str, torch.Tensor]:
    return on_torch(model, 10_000)


def assert_close(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        figures = name.startswith("figures")
        tolerance = {"rtol": 1e-4, "atol": 1e-5} if figures else {"rtol": 1e-5, "atol": 1e-5}
        torch.testing.assert_close(ours[name], tensor, **tolerance, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("size", [1, 30])
def test_micro_batches_do_not_change_a_step(model: str, whole: dict[str, torch.Tensor], size: int) -> None:
    assert len(LOSSES) == 4
    assert_close(on_torch(model, size), whole)


@pytest.mark.deepspeed
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_ranks_do_not_change_a_step(model: str, whole: dict[str, torch.Tensor], tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(work, (2, port, model, str(tmp_path)), nprocs=2)
    for rank in (0, 1):
        assert_close(load_file(tmp_path / f"rank-{rank}.safetensors"), whole)
