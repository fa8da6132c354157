"""Plans against measurements: `python -m benchmarks.planning`.

Each configuration is trained for a few steps in fresh processes. Their peak memory, less what the libraries took before
the model was there, is compared with what `rlhf.planning` says; so is the time of a step with what a calibration on few
layers says.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Case:
    """A model and how it is trained."""

    name: str
    hidden: int
    mlp: int
    layers: int
    heads: int
    vocab: int
    rows: int
    """Of a micro-batch."""
    width: int
    pieces: int = 2
    """Micro-batches of a step in each process."""
    method: str = "full"
    role: str = "policy"
    dtype: str = "float32"
    checkpointing: bool = False
    tied: bool = False
    zero: int | None = None
    """ZeRO stage on DeepSpeed; None: plain torch."""
    world: int = 1
    steps: int = 2
    threads: int = 1


WIDE = Case("", hidden=1024, mlp=2752, layers=4, heads=16, vocab=16000, rows=2, width=128)
DEEP = Case("", hidden=384, mlp=1024, layers=16, heads=6, vocab=8000, rows=4, width=128)

CASES = [
    replace(WIDE, name="wide, full", pieces=1),
    replace(WIDE, name="wide, full, 8 rows", rows=8, pieces=1),
    replace(WIDE, name="wide, full, 2 micro-batches", pieces=2),
    replace(WIDE, name="wide, full, checkpointing", rows=8, pieces=1, checkpointing=True),
    replace(WIDE, name="wide, full, bfloat16", dtype="bfloat16", pieces=1),
    replace(WIDE, name="wide, LoRA", method="lora", rows=8, pieces=1),
    replace(WIDE, name="wide, LoRA, bfloat16", method="lora", dtype="bfloat16", rows=16, pieces=1),
    replace(DEEP, name="deep, full, tied", tied=True),
    replace(DEEP, name="deep, full, 16 rows", rows=16, pieces=1),
    replace(DEEP, name="deep, LoRA", method="lora", rows=16, pieces=1),
    replace(DEEP, name="deep, reward model", role="reward", rows=8, pieces=1),
    replace(WIDE, name="wide, ZeRO-0, one process", zero=0, pieces=1),
    replace(WIDE, name="wide, ZeRO-1, one process", zero=1, pieces=1),
    replace(WIDE, name="wide, ZeRO-2, one process", zero=2, pieces=2),
    replace(WIDE, name="wide, ZeRO-3, one process", zero=3, pieces=1),
    replace(WIDE, name="wide, ZeRO-1, two processes", zero=1, world=2, pieces=1),
    replace(WIDE, name="wide, ZeRO-2, two processes", zero=2, world=2, pieces=1),
    replace(WIDE, name="wide, ZeRO-3, two processes", zero=3, world=2, pieces=1),
]


def measure(case: Case) -> dict[str, Any]:
    """What the first process of the configuration tells; all run at once."""
    with tempfile.TemporaryDirectory() as folder:
        config = json.dumps(asdict(case) | {"folder": folder})
        module = [sys.executable, "-m", "benchmarks.planning.measured"]
        subprocess.run([*module, "write"], input=config, text=True, check=True, cwd=ROOT)
        ranks = [
            subprocess.Popen(
                module, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=_environment(case, rank)
            )
            for rank in range(case.world)
        ]
        for process in ranks[1:]:
            assert process.stdin is not None
            process.stdin.write(config)
            process.stdin.close()
        told, _ = ranks[0].communicate(config)
        if any(process.wait() for process in ranks):
            raise SystemExit(f"{case.name}: a process failed")
        figures: dict[str, Any] = json.loads(told.strip().splitlines()[-1])
        return figures


def _environment(case: Case, rank: int) -> dict[str, str]:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = _PORTS.setdefault(case.name, str(chosen.getsockname()[1]))
    group = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "WORLD_SIZE": str(case.world),
        "RANK": str(rank),
        "LOCAL_RANK": "0",
        "DS_ACCELERATOR": "cpu",
    }
    return os.environ | group | {"OMP_NUM_THREADS": str(case.threads), "TRANSFORMERS_VERBOSITY": "error"}


_PORTS: dict[str, str] = {}


def planned(case: Case) -> tuple[Any, Any]:
    """The work of a micro-batch, and how it is spread."""
    from transformers import LlamaConfig

    from rlhf.config import LoraConfig
    from rlhf.planning.network import SCALAR, network_of
    from rlhf.planning.replica import Work
    from rlhf.planning.spread import Spread

    shape = LlamaConfig(
        hidden_size=case.hidden,
        intermediate_size=case.mlp,
        num_hidden_layers=case.layers,
        num_attention_heads=case.heads,
        vocab_size=case.vocab,
        tie_word_embeddings=case.tied,
    )
    lora = LoraConfig(rank=16) if case.method == "lora" else None
    network = network_of(shape, SCALAR if case.role == "reward" else "decoder", case.name)
    asked = case.rows if case.role == "reward" else case.rows * (case.width - 1)
    weights: Any = "float32" if lora is None else case.dtype
    work = Work(network, case.rows, case.width, asked, weights, case.dtype, lora=lora, checkpointing=case.checkpointing)  # type: ignore[arg-type]
    engine: Any = "torch" if case.zero is None else "deepspeed"
    return work, Spread(case.world, engine, case.zero or 0, pieces=case.pieces)


def planned_seconds(work: Any, spread: Any, threads: int) -> float:
    """Processor seconds of a step of one process, from one and two layers."""
    from rlhf.planning.calibration import calibrated

    pace = calibrated(work, 0, "cpu", threads, time.process_time)
    return spread.pieces * pace.train + pace.step / (spread.ranks if spread.sharded else 1)


def main() -> None:
    """Print the table."""
    from rlhf.planning.memory import memory_of

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="*", help="parts of the names of configurations")
    chosen = parser.parse_args().only
    print("| configuration | fullest when | planned, MB | measured, MB | off | planned, s | measured, s | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for case in CASES:
        if chosen and not any(part in case.name for part in chosen):
            continue
        work, spread = planned(case)
        peak, seconds = memory_of(work, spread).peak, planned_seconds(work, spread, case.threads)
        figures = measure(case)
        seen = figures["peak"] - figures["before"]
        cells = [
            case.name,
            peak.name,
            f"{peak.total / 1e6:,.0f}",
            f"{seen / 1e6:,.0f}",
            f"{peak.total / seen - 1:+.1%}",
            f"{seconds:.2f}",
            f"{figures['seconds']:.2f}",
            f"{seconds / figures['seconds']:.2f}",
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
