"""What rewards cost: a judge of one second, asked about many completions at a time; and a process of its own.

    python -m benchmarks.rewards

prints two tables in Markdown: seconds for 64 completions by the number of calls at a time, for a plain and an async
function, as a ratio to asking one after the other; and microseconds a completion that a process of its own adds to
the same function in this one.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rlhf.config import RewardPart
from rlhf.plugins import PluginSettings, load_plugins
from rlhf.rewards.building import PlainParts, build_reward
from rlhf.runtime.reward_process import HostSetup, RewardProcess
from rlhf.types import Completion, Prompt, Rollout

JUDGES = """
import asyncio
import time


def plain(prompt, completion):
    time.sleep(1.0)
    return float(len(completion))


async def awaited(prompt, completion):
    await asyncio.sleep(1.0)
    return float(len(completion))


def quick(completions):
    return [float(len(text)) for text in completions]
"""
NUM_JUDGED, AT_ONCE = 64, (8, 32)
NUM_QUICK, ROUNDS = 512, 7


def rollouts(count: int) -> list[Rollout]:
    """Completions of 200 tokens, as a step has them."""
    said = Completion(token_ids=(7,) * 200, logprobs=(-1.0,) * 200, text="word " * 200, finish_reason="stop")
    return [Rollout(prompt=Prompt(id=str(number), text="Why? " * 50), completion=said) for number in range(count)]


def process_of(file: Path, name: str, concurrency: int | None = None) -> RewardProcess:
    """The function of this name, in a process that is ready."""
    settings = PluginSettings(paths=(f"{file}:{name}",))
    known = load_plugins(settings).fingerprints(guests_only=True)
    part = RewardPart(type=name, concurrency=concurrency)
    process = RewardProcess(HostSetup(part=part, where="reward", plugins=settings, fingerprints=known))
    process.start()
    return process


def seconds(ask: Callable[[], object]) -> float:
    """Of one call."""
    started = time.perf_counter()
    ask()
    return time.perf_counter() - started


def judges(file: Path) -> list[str]:
    """Seconds of a slow judge."""
    rows = ["| calls at a time | plain function, s | async function, s | of one after the other |", "|---|---|---|---|"]
    asked = rollouts(NUM_JUDGED)
    for at_once in AT_ONCE:
        taken = []
        for name in ("plain", "awaited"):
            process = process_of(file, name, at_once)
            taken.append(statistics.median(seconds(lambda ask=process: ask(asked)) for _ in range(3)))
            process.close()
        rows.append(f"| {at_once} | {taken[0]:.2f} | {taken[1]:.2f} | {max(taken) / NUM_JUDGED:.3f} |")
    return rows


def processes(file: Path) -> list[str]:
    """Microseconds a completion."""
    asked = rollouts(NUM_QUICK)
    settings = PluginSettings(paths=(f"{file}:quick",))
    registry = load_plugins(settings).registry
    here = build_reward(RewardPart(type="quick"), registry, PlainParts(registry))
    apart = process_of(file, "quick")
    taken = {"in this process": [], "in its own": []}
    for _ in range(ROUNDS):  # in turns: the machine is not equally busy all the time
        taken["in this process"].append(seconds(lambda: here(asked)))
        taken["in its own"].append(seconds(lambda: apart(asked)))
    apart.close()
    rows = ["| where | µs a completion (median) |", "|---|---|"]
    return rows + [f"| {where} | {1e6 * statistics.median(times) / NUM_QUICK:.0f} |" for where, times in taken.items()]


def main() -> None:
    """Print both tables."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "judges.py"
        file.write_text(JUDGES)
        print("\n".join([*judges(file), "", *processes(file)]))


if __name__ == "__main__":
    main()
