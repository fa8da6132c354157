"""A long run: does the memory of a process, the number of files, or the time of a step grow?

    python -m benchmarks.soak [--steps 5000] [--runtime inline|ray] [--json FILE]

trains a tiny model by PPO, with checkpoints, samples and TensorBoard, and looks at every process of the run as it goes.
The first fifth of the steps is warm-up. Prints a table in Markdown; the exit code is 1 where the memory or the handles
of a process grow by more than 1 % per 1,000 steps, the last steps take more than a tenth longer than the first, or
the run's folder holds files it does not declare.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil

import rlhf
from benchmarks.chaos import stages

WARM_UP = 0.2
MOST_GROWTH = 0.01
"""Per 1,000 steps, of a process's memory or handles."""
MOST_SLOWER = 1.1
LEAST_LOOKS = 20
"""At a process, to say anything of its growth."""
APPENDED = re.compile(r"(metrics|samples|events)\.jsonl|tensorboard/.*")
"""What a run declares to grow with its steps."""
CHECKPOINT = re.compile(r"checkpoints/step-\d+(\.tmp)?/")
PLUGIN = """
from pathlib import Path

from rlhf import hookimpl


@hookimpl
def on_step_end(step, metrics):
    Path({file!r}).write_text(str(step))
"""


@dataclass
class Looks:
    """What a process held, by step: bytes that are its alone, and open files and threads."""

    name: str
    steps: list[int] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    handles: list[int] = field(default_factory=list)

    def after(self, warm_up: int) -> dict[str, Any] | None:
        """Growth per 1,000 steps as shares, once it is warm; None where it was not seen for long."""
        warm = [index for index, step in enumerate(self.steps) if step >= warm_up]
        if len(warm) < LEAST_LOOKS:
            return None
        steps = [self.steps[index] for index in warm]
        memory, handles = ([values[index] for index in warm] for values in (self.memory, self.handles))
        return {
            "process": self.name,
            "MB": round(median(memory) / 1e6),
            "memory per 1,000 steps": growth(steps, memory),
            "handles": int(median(handles)),
            "handles per 1,000 steps": growth(steps, handles),
        }


def growth(steps: list[int], values: list[int]) -> float:
    """Of a median's share, per 1,000 steps: the median of the slopes between pairs (Theil 1950; Sen 1968), which a few
    peaks do not move.
    """
    at, held = np.asarray(steps, dtype=np.float64), np.asarray(values, dtype=np.float64)
    first, second = np.triu_indices(len(at), k=1)
    apart = at[second] - at[first]
    far = apart >= (at[-1] - at[0]) / 4
    slope = np.median((held[second] - held[first])[far] / apart[far])
    return round(float(1000 * slope / np.median(held)), 4)


class Watch(threading.Thread):
    """Looks at this process and all that comes of it, until it is told to stop."""

    def __init__(self, step_file: Path, pause: float) -> None:
        super().__init__(daemon=True)
        self._step_file, self._pause = step_file, pause
        self.looks: dict[int, Looks] = {}
        self.over = threading.Event()

    def run(self) -> None:
        myself = psutil.Process()
        while not self.over.wait(self._pause):
            step = int(self._step_file.read_text() or 0) if self._step_file.is_file() else 0
            for process in [myself, *myself.children(recursive=True)]:
                self._look(process, step)

    def _look(self, process: psutil.Process, step: int) -> None:
        try:
            with process.oneshot():
                memory, handles = process.memory_full_info().uss, process.num_fds() + process.num_threads()
                name = "driver" if process.pid == psutil.Process().pid else (process.cmdline() or ["ended"])[0]
        except psutil.Error:
            return  # it has ended
        seen = self.looks.setdefault(process.pid, Looks(name))
        seen.name = Path(name).name.split(".")[0]
        seen.steps.append(step)
        seen.memory.append(memory)
        seen.handles.append(handles)


def recipe(start: Path, plugin: Path, steps: int, runtime: str) -> dict[str, Any]:
    """PPO with all that a run may write."""
    return {
        "name": "soak",
        "trackers": ["tensorboard"],
        "plugins": {"paths": [str(plugin)]},
        "runtime": {"type": runtime, "threads": 1},
        "data": {"type": "pocket"},
        "algorithm": {"type": "ppo", "steps": steps, "prompts_per_step": 8, "minibatch_size": 8},
        "model": str(start / "sft" / "model"),
        "reward_model": str(start / "reward" / "model"),
        "rollout": {"max_tokens": 8},
        "optimizer": {"lr": 1e-4},
        "checkpoint": {"every": 50, "keep": 2},
    }


def undeclared(run: Path, before: set[str]) -> list[str]:
    """Files that a short run of the same recipe did not write, and that do not belong to a checkpoint."""
    return sorted(name for name in files(run) - before if not APPENDED.fullmatch(name))


def files(run: Path) -> set[str]:
    """By their paths in the run, all checkpoints being one."""
    names = (str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())
    return {CHECKPOINT.sub("checkpoints/step/", name) for name in names}


def slower(run: Path) -> float:
    """Time of the last tenth's steps over that of the first tenth after warm-up, medians."""
    times = [json.loads(line)["time/step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    warm = times[int(WARM_UP * len(times)) :]
    tenth = max(1, len(warm) // 10)
    return round(median(warm[-tenth:]) / median(warm[:tenth]), 3)


def trial(steps: int, runtime: str, folder: Path, *, pause: float = 1.0) -> dict[str, Any]:
    """What grew, by process, and whether all of it is within bounds."""
    step_file, plugin = folder / "step", folder / "marks.py"
    plugin.write_text(PLUGIN.format(file=str(step_file)))
    start = rlhf.train(
        {"name": "start", "trackers": [], "runtime": {"type": "inline"}, "defaults": {"data": {"type": "pocket"}}}
        | {"stages": stages()},
        out=folder / "start",
    ).folder
    few = rlhf.train(recipe(start, plugin, 100, "inline"), out=folder / "few").folder
    step_file.unlink()
    watch = Watch(step_file, pause)
    watch.start()
    try:
        run = rlhf.train(recipe(start, plugin, steps, runtime), out=folder / "run").folder
    finally:
        watch.over.set()
        watch.join()
    found = [looks.after(int(WARM_UP * steps)) for looks in watch.looks.values()]
    processes = [row for row in found if row is not None]
    kinds = ("memory per 1,000 steps", "handles per 1,000 steps")
    return {
        "steps": steps,
        "processes": processes,
        "last steps over first": slower(run),
        "undeclared files": undeclared(run, files(few)),
        "flat": bool(processes) and all(row[kind] <= MOST_GROWTH for row in processes for kind in kinds),
        "no slower": slower(run) <= MOST_SLOWER,
        "nothing undeclared": not undeclared(run, files(few)),
    }


def main() -> int:
    """Read the options, run, tell."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--runtime", choices=("inline", "ray"), default="inline")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        told = trial(options.steps, options.runtime, Path(folder))
    if options.json is not None:
        options.json.write_text(json.dumps(told, indent=2))
    rows = told.pop("processes")
    for row in rows[:1]:
        print("| " + " | ".join(row) + " |\n" + "|---" * len(row) + "|")
    for row in rows:
        print("| " + " | ".join(map(str, row.values())) + " |")
    print("\n| what | found |\n|---|---|")
    print("\n".join(f"| {name} | {value} |" for name, value in told.items()))
    return 0 if all(value is not False for value in told.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
