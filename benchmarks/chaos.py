"""Processes killed at random: does the run end as if nothing had happened?

    python -m benchmarks.chaos --kills 200 [--seed 0] [--while-saving]

trains a tiny model by PPO on Ray (policy, value, reference and reward model, two rollout engines) while another thread
kills one of its processes with `kill -9` every few seconds, at any moment or while a checkpoint is being written. Then
the same steps are run undisturbed in one process, and weights, samples and figures are compared bit for bit. Prints a
table in Markdown; the exit code is 1 where anything differs, or was left behind.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

import rlhf
from rlhf.runtime.checkpoints import verify

# Engines that leave the pid of their process under ROLE-PID, and a hook that ends the run when it has suffered enough.
PLUGIN = """
import os
from pathlib import Path

from rlhf import hookimpl
from rlhf.engines.settings import TorchConfig, TransformersRolloutConfig

FOLDER = Path({folder!r})


def traced(config, spec):
    from rlhf.engines.torch_engine import TorchEngine

    (FOLDER / f"{{spec.role}}-{{os.getpid()}}").touch()
    return TorchEngine(config, spec)


def traced_rollout(config, model):
    from rlhf.engines.transformers_rollout import TransformersRollout

    (FOLDER / f"rollout-{{os.getpid()}}").touch()
    return TransformersRollout(config, model)


@hookimpl
def register_train_engines(register):
    register("traced", traced, config=TorchConfig)


@hookimpl
def register_rollout_engines(register):
    register("traced_rollout", traced_rollout, config=TransformersRolloutConfig)


@hookimpl
def should_stop(step, metrics):
    return "that is enough" if (FOLDER / "enough").exists() else None
"""
MODEL = {"new": {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "context": 64, "tokenizer": {"type": "words"}}}
ENDLESS = 1_000_000
ON_RAY = {"max_restarts": 1000, "workers": {"rollout": {"num": 2}}}
LONGEST_PAUSE_S = 5.0
DISTURBED = ("time", "run/restarts", "rollout/reissued", "logprob", "rollout/logprob")
"""Figures that tell of the disturbance itself, and log-probs, whose last bit depends on the company of a prompt."""


def stages() -> dict[str, Any]:
    """What PPO starts from, made in a moment."""
    few = {"steps": 4, "batch_size": 8}
    return {
        "sft": {"algorithm": {"type": "sft", **few}, "model": MODEL},
        "reward": {"algorithm": {"type": "reward_model", **few}, "model": "stage:sft"},
    }


def recipe(start: Path, plugin: Path, steps: int, runtime: str) -> dict[str, Any]:
    """PPO with a checkpoint after every step."""
    return {
        "name": "chaos",
        "trackers": [],
        "seed": 3,
        "plugins": {"paths": [str(plugin)]},
        "runtime": {"type": runtime, "threads": 1} | (ON_RAY if runtime == "ray" else {}),
        "engine": {"type": "traced"},
        "data": {"type": "pocket"},
        "algorithm": {
            "type": "ppo",
            "steps": steps,
            "prompts_per_step": 8,
            "samples_per_prompt": 2,
            "minibatch_size": 8,
        },
        "model": str(start / "sft" / "model"),
        "reward_model": str(start / "reward" / "model"),
        "rollout": {"max_tokens": 8, "engine": {"type": "traced_rollout"}},
        "optimizer": {"lr": 1e-3},
        "checkpoint": {"every": 1},
    }


class Killer(threading.Thread):
    """Kills one process of the run after the other."""

    def __init__(self, folder: Path, checkpoints: Path, kills: int, seed: int, *, while_saving: bool) -> None:
        super().__init__(daemon=True)
        self._folder, self._checkpoints, self._left = folder, checkpoints, kills
        self._random, self._while_saving = random.Random(seed), while_saving
        self.killed: Counter[str] = Counter()
        self.over = threading.Event()

    def run(self) -> None:
        while not any(self._checkpoints.glob("step-*")) and not self.over.is_set():
            time.sleep(0.1)  # a run that loses a worker before its first step ends: it would again
        while self._left and not self.over.is_set():
            time.sleep(self._random.uniform(0.0, LONGEST_PAUSE_S))
            if self._while_saving and not self._save_begins():
                continue
            if living := sorted(self.living().items()):
                pid, role = self._random.choice(living)
                os.kill(pid, signal.SIGKILL)
                self.killed[role] += 1
                self._left -= 1
        (self._folder / "enough").touch()

    def living(self) -> dict[int, str]:
        """Processes of the run that have models, by pid."""
        found = (path.name.rpartition("-") for path in self._folder.glob("*-*"))
        return {int(pid): role for role, _, pid in found if Path("/proc", pid).exists()}

    def _save_begins(self) -> bool:
        """Wait for a checkpoint that is being written, and a moment of it."""
        until = time.monotonic() + 60
        while time.monotonic() < until and not self.over.is_set():
            if any(self._checkpoints.glob("*.tmp")):
                time.sleep(self._random.uniform(0.0, 0.05))
                return True
            time.sleep(0.001)
        return False


def figures(path: Path) -> list[dict[str, Any]]:
    """Lines of a file, without those figures."""
    rows = map(json.loads, path.read_text().splitlines())
    return [{name: value for name, value in row.items() if not name.startswith(DISTURBED)} for row in rows]


def same_weights(one: Path, other: Path) -> bool:
    """Bit for bit."""
    mine, theirs = (load_file(next(model.glob("*.safetensors"))) for model in (one, other))
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def is_whole(folder: Path) -> bool:
    """Nothing of a save that was cut off, and nothing damaged."""
    for manifest in folder.glob("step-*/manifest.json"):
        verify(manifest.parent)
    return not any(folder.glob("*.tmp"))


def trial(kills: int, seed: int, *, while_saving: bool, folder: Path) -> dict[str, Any]:
    """What was killed, and whether the ends agree."""
    marks = folder / "marks"
    marks.mkdir(parents=True)
    plugin = folder / "traced.py"
    plugin.write_text(PLUGIN.format(folder=str(marks)))
    start = rlhf.train(
        {"name": "start", "trackers": [], "runtime": {"type": "inline"}, "defaults": {"data": {"type": "pocket"}}}
        | {"stages": stages()},
        out=folder / "start",
    ).folder
    killer = Killer(marks, folder / "run" / "checkpoints", kills, seed, while_saving=while_saving)
    killer.start()
    began = time.monotonic()
    try:
        run = rlhf.train(recipe(start, plugin, ENDLESS, "ray"), out=folder / "run")
    finally:
        killer.over.set()
        killer.join()
    seconds = time.monotonic() - began
    (marks / "enough").unlink()
    steps = run.summary["stages"][-1]["steps"]
    whole = rlhf.train(recipe(start, plugin, steps, "inline"), out=folder / "whole")
    checks: dict[str, Callable[[], bool]] = {
        "weights equal": lambda: same_weights(run.model, whole.model),
        "figures equal": lambda: figures(run.folder / "metrics.jsonl") == figures(whole.folder / "metrics.jsonl"),
        "samples equal": lambda: figures(run.folder / "samples.jsonl") == figures(whole.folder / "samples.jsonl"),
        "checkpoints whole": lambda: is_whole(run.folder / "checkpoints"),
        "no process left": lambda: not set(killer.living()) - {os.getpid()},
        "no lock left": lambda: not (run.folder / "run.lock").exists(),
    }
    return {
        "killed": dict(sorted(killer.killed.items())),
        "steps": steps,
        "restarts": int(run.metrics[-1]["run/restarts"]),
        "seconds": round(seconds),
        **{name: check() for name, check in checks.items()},
    }


def main() -> int:
    """Read the options, run, tell."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--while-saving", action="store_true", help="kill while a checkpoint is being written")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        told = trial(options.kills, options.seed, while_saving=options.while_saving, folder=Path(folder))
    print("| what | found |\n|---|---|")
    print("\n".join(f"| {name} | {value} |" for name, value in told.items()))
    return 0 if all(value is not False for value in told.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
