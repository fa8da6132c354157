"""How fast this machine is at a role's work: the work itself on one and two layers, and what that comes to for all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rlhf.planning.cost import Pace
from rlhf.planning.replica import Work, autocast, build, run_forward

REPEATS = 3

Clock = Callable[[], float]
"""Seconds; of the processor where others are at work on it too."""


def matmul_peak(device: str, threads: int | None = None, size: int = 2048) -> float:
    """Operations a second of a large product in the format the device is best at."""
    import torch

    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    with _threads(threads):
        a = torch.ones(size, size, device=device, dtype=dtype)

        def product() -> None:
            a @ a
            if device == "cuda":
                torch.cuda.synchronize()

        return 2.0 * size**3 / _seconds(product, 5, time.perf_counter)


def calibrated(
    work: Work, sequences: int, device: str, threads: int | None = None, clock: Clock = time.perf_counter
) -> Pace:
    """Measured now, on a network of this width with few layers and no meaning."""
    import torch

    with _threads(threads), torch.device(device):
        samples = [_timed(work, sequences, layers, device, clock) for layers in (1, 2)]
    layers = work.network.layers
    train, score, generate = (
        one[name] + max(0.0, two[name] - one[name]) * (layers - 1)
        for one, two in [samples]
        for name in ("train", "score", "generate")
    )
    step = samples[1]["step"] * _trained(work)
    return Pace(train=train, score=score, step=step, generate=generate, how="measured now, on one and two layers")


def _timed(work: Work, sequences: int, layers: int, device: str, clock: Clock) -> dict[str, float]:
    import torch

    network = build(work, layers)
    figures = {"train": 0.0, "step": 0.0, "generate": 0.0}
    with torch.no_grad():
        figures["score"] = _seconds(lambda: run_forward(network, work, device), REPEATS, clock)
        if sequences and work.network.kind == "decoder":
            figures["generate"] = _token_after_token(network, work, sequences, device, clock)
    if work.trains:
        figures["train"] = _seconds(lambda: run_forward(network, work, device).backward(), REPEATS, clock)  # type: ignore[no-untyped-call]
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-4)
        figures["step"] = _seconds(optimizer.step, REPEATS, clock) / sum(parameter.numel() for parameter in trained)
    return figures


def _token_after_token(network: Any, work: Work, sequences: int, device: str, clock: Clock) -> float:
    """One token for each sequence, in the middle of a row."""
    import torch
    from transformers import DynamicCache

    tokens = torch.zeros(sequences, max(1, work.width // 2), dtype=torch.long)
    with autocast(work, device):
        cache = DynamicCache(config=network.config)
        network(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
        one = torch.zeros(sequences, 1, dtype=torch.long)
        return _seconds(
            lambda: network(input_ids=one, past_key_values=cache, use_cache=True, logits_to_keep=1), REPEATS, clock
        )


def _trained(work: Work) -> int:
    return work.network.parameters if work.lora is None else work.network.adapter_parameters(work.lora)


def _seconds(call: Callable[[], Any], repeats: int, clock: Clock) -> float:
    call()  # the first one makes room and picks kernels
    taken = []
    for _ in range(repeats):
        started = clock()
        call()
        taken.append(clock() - started)
    return statistics.median(taken)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
