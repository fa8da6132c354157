"""Too little memory is said as that: who was at what, how large it was, and what to lower."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

from rlhf.config import ModelConfig, OptimizerConfig, RoleSpec
from rlhf.engines import registration
from rlhf.engines.settings import TorchConfig, TransformersRolloutConfig
from rlhf.engines.torch_engine import TorchEngine
from rlhf.engines.transformers_rollout import TransformersRollout
from rlhf.errors import RunError
from rlhf.types import Prompt, Sampling
from tests.unit.engines.families import make_batch
from tests.unit.engines.losses import Likelihood

CUDA = "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79 GiB.\nIf reserved but .."
HOST = (
    "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
)
KINDS = [
    (
        torch.OutOfMemoryError(CUDA),
        r"ran out of GPU memory while {} \(CUDA out of memory\. Tried .* 79 GiB\.\); lower ",
    ),
    (RuntimeError(HOST), r"ran out of host memory while {} \(.*tried to allocate 9 bytes\.\); lower "),
    (MemoryError(), r"ran out of host memory while {} \(MemoryError\); lower "),
]
LENGTHS = [9, 3, 12]


def failing(error: Exception) -> Callable[..., None]:
    """What stands in for the part that asks for memory."""

    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def spec(path: str) -> RoleSpec:
    return RoleSpec(role="policy", model=ModelConfig(path=path), optimizer=OptimizerConfig())


@pytest.mark.parametrize(("error", "message"), KINDS)
def test_a_step_names_the_role_the_step_and_the_batch(model_path, monkeypatch, error, message) -> None:
    engine = TorchEngine(TorchConfig(micro_batch_tokens=64), spec(model_path("llama")))
    engine.train_step(make_batch(LENGTHS), Likelihood())
    monkeypatch.setattr(engine.model, "forward", failing(error))
    size = "3 rows of 24 tokens, at most 64 tokens at once"
    with pytest.raises(RunError, match=f"^the policy {message.format(f'learning in optimizer step 2 from {size}')}"):
        engine.train_step(make_batch(LENGTHS), Likelihood())
    with pytest.raises(RunError, match=f"^the policy {message.format(f'reading {size}')}engine.micro_batch_tokens$"):
        engine.forward(make_batch(LENGTHS))


@pytest.mark.parametrize(("error", "message"), KINDS)
def test_writing_names_how_many_at_once_and_how_long(model_path, monkeypatch, error, message) -> None:
    engine = TransformersRollout(TransformersRolloutConfig(batch_size=4), ModelConfig(path=model_path("llama")))
    monkeypatch.setattr(engine.decoder, "step", failing(error))
    doing = "writing 4 completions at once, of up to 7 tokens"
    with pytest.raises(RunError, match=f"^the rollout engine {message.format(doing)}rollout.engine.batch_size or"):
        engine.generate([Prompt(id="0", text="", token_ids=(3, 4))], Sampling(max_tokens=7, num_samples=6))


@pytest.mark.parametrize(("error", "message"), KINDS)
def test_loading_names_the_model(model_path, monkeypatch, error, message) -> None:
    path = model_path("llama")
    monkeypatch.setattr("rlhf.engines.torch_engine.build_model", failing(error))
    with pytest.raises(RunError, match=f"^the policy {message.format(f'loading {path}')}the size of the model"):
        registration.torch_engine(TorchConfig(), spec(path))
    monkeypatch.setattr("rlhf.engines.transformers_rollout.TransformersRollout.__init__", failing(error))
    with pytest.raises(RunError, match=f"^the rollout engine {message.format(f'loading {path}')}the size"):
        registration.transformers_rollout(TransformersRolloutConfig(), ModelConfig(path=path))


def test_other_errors_come_out_as_they_are(model_path, monkeypatch) -> None:
    engine = TorchEngine(TorchConfig(), spec(model_path("llama")))
    monkeypatch.setattr(engine.model, "forward", failing(RuntimeError("shapes do not match")))
    with pytest.raises(RuntimeError, match=r"^shapes do not match$"):
        engine.forward(make_batch(LENGTHS))


LIMITED = """
import resource, sys
import torch
from rlhf.engines.settings import TorchConfig
from rlhf.engines.torch_engine import TorchEngine
from rlhf.errors import RunError
from tests.unit.engines.families import make_batch
from tests.unit.engines.losses import Likelihood
from tests.unit.engines.test_memory_faults import spec

torch.set_num_threads(1)
engine = TorchEngine(TorchConfig(micro_batch_tokens=10**9, packing=False), spec(sys.argv[1]))
engine.train_step(make_batch([4]), Likelihood())
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, used + 2**26))
try:
    engine.train_step(make_batch([60] * 3000), Likelihood())
except RunError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks the system how much it has taken, and for no more")
def test_a_process_that_may_have_no_more_says_so(model_path) -> None:
    """The real allocator, at a limit the system sets."""
    command = [sys.executable, "-c", LIMITED, model_path("llama")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert "the policy ran out of host memory while learning in optimizer step 2 from 3000 rows of 180000 tokens" in (
        done.stdout
    ), done.stderr[-2000:]
