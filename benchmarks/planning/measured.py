"""One configuration in a process of its own: what it really takes, beyond what its libraries take by themselves.

Run by `python -m benchmarks.planning`; reads a configuration as JSON and prints figures as JSON.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def main() -> None:
    """Measure what standard input describes; with `write`, only put its model into its folder."""
    config = json.load(sys.stdin)
    if sys.argv[1:] == ["write"]:
        write_model(config, Path(config["folder"]))
        return
    import torch

    torch.set_num_threads(config["threads"])
    with tempfile.TemporaryDirectory() as folder:
        warm = dict(config, hidden=64, mlp=128, layers=1, heads=2, vocab=256, rows=2, width=16)
        _steps(_engine(warm, Path(folder)), warm, 2)  # libraries and kernels are loaded with the first use
    path = Path(config["folder"])
    _forget_peak()
    before = _status("VmRSS")
    engine = _engine(config, path)
    loaded = _status("VmHWM")
    seconds = _steps(engine, config, config["steps"])
    figures = {"before": before, "loaded": loaded, "peak": _status("VmHWM"), "seconds": min(seconds[1:])}
    if int(os.environ.get("RANK", "0")) == 0:
        print(json.dumps(figures))


def _engine(config: dict[str, Any], path: Path) -> Any:
    from rlhf.config import LoraConfig, ModelConfig, OptimizerConfig, RoleSpec
    from rlhf.engines.settings import DeepSpeedConfig, TorchConfig

    if not (path / "config.json").is_file():
        write_model(config, path)
    lora = LoraConfig(rank=16) if config["method"] == "lora" else None
    model = ModelConfig(
        path=str(path), dtype=config["dtype"], gradient_checkpointing=config["checkpointing"], lora=lora
    )
    spec = RoleSpec(role=config["role"], model=model, optimizer=OptimizerConfig(lr=1e-4), num_steps=10)
    tokens = config["rows"] * config["width"]
    if config["zero"] is None:
        from rlhf.engines.torch_engine import TorchEngine

        return TorchEngine(TorchConfig(micro_batch_tokens=tokens), spec)
    from rlhf.engines.deepspeed_engine import DeepSpeedEngine

    return DeepSpeedEngine(DeepSpeedConfig(micro_batch_tokens=tokens, zero_stage=config["zero"]), spec)


def write_model(config: dict[str, Any], path: Path) -> None:
    """A fresh Llama of these sizes."""
    from rlhf.config import NewModelConfig
    from rlhf.engines.pretrained import create_model, save_model

    new = NewModelConfig(
        hidden_size=config["hidden"],
        mlp_size=config["mlp"],
        num_layers=config["layers"],
        num_heads=config["heads"],
        context=max(1024, config["width"]),
        tie_embeddings=config["tied"],
    )
    network = create_model(new, vocab_size=config["vocab"], bos_token_id=None, eos_token_id=1, pad_token_id=0, seed=0)
    save_model(network, path)


def _steps(engine: Any, config: dict[str, Any], count: int) -> list[float]:
    """Processor seconds of optimizer steps over rows of one length, in `pieces` micro-batches for each process."""
    import torch

    from rlhf.types import PreferenceBatch, TokenBatch

    world = int(os.environ.get("WORLD_SIZE", "1"))
    rows = config["rows"] * config["pieces"] * world
    tokens = torch.randint(config["vocab"], (rows, config["width"]), generator=torch.Generator().manual_seed(0))
    real = torch.ones_like(tokens, dtype=torch.bool)
    batch: Any = TokenBatch(tokens=tokens, attention_mask=real, response_mask=real)
    if config["role"] == "reward":
        from rlhf.algorithms.reward_model import RankingLoss

        loss: Any = RankingLoss()
        present_BK = torch.ones(rows // 2, 2, dtype=torch.bool)
        batch = PreferenceBatch(candidates=batch, present_BK=present_BK, margin_B=torch.zeros(rows // 2))
    else:
        from rlhf.algorithms.supervised import NextTokenLoss

        loss = NextTokenLoss()
    seconds = []
    for _ in range(count):
        started = time.process_time()
        engine.train_step(batch, loss)
        seconds.append(time.process_time() - started)
    return seconds


def _status(name: str) -> int:
    """Bytes the kernel tells of this process."""
    told = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    assert told is not None
    return int(told[1]) * 1024


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


if __name__ == "__main__":
    main()
