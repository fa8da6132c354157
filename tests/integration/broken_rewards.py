"""Every way for a reward to go wrong, each a function of its own, and what one recipe makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.tiny_runs import GRPO, MODEL, Recipe, changed, single

FILE = """
import os
import subprocess
import sys
import time


def good(completion):
    return float(len(completion))


def talks(completions):
    print("a word")
    return [0.0] * len(completions)


def raises(completions):
    raise KeyError("answer")


def hangs(completions):
    while True:
        pass


def half_the_rows(completions):
    return [1.0] * (len(completions) // 2)


def one_number(completions):
    return 1.0


def not_a_number(completions):
    return [float("nan")] * len(completions)


def infinite(completions):
    return [float("inf")] * len(completions)


def text(completions):
    return ["1.0"] * len(completions)


def nothing(completions):
    return None


def out_of_range(completions):
    return [10.0] * len(completions)


def prints_secrets(completions):
    print(os.environ["MY_API_KEY"])
    raise RuntimeError(os.environ["MY_API_KEY"])


def forks(completions):
    if os.fork() == 0:
        time.sleep(3600)
    return [1.0 * len(text) for text in completions]


def exits(completions):
    os._exit(7)


def asks_to_exit(completions):
    sys.exit("enough")


def eats_memory(completions):
    hoard = []
    while True:
        hoard.append(bytearray(10**8))
"""

SECRET = "sk-not-for-any-log"
ERRORS = {
    "raises": "raised KeyError: 'answer'",
    "hangs": "took longer than 1 s",
    "half_the_rows": "returned 12 numbers for 24 completions",
    "one_number": "must return a list, given float",
    "not_a_number": "gave nan",
    "infinite": "gave inf",
    "text": "must return numbers, Score or None, given '1.0' among them",
    "nothing": "must return a list, given NoneType",
    "out_of_range": "gave 10, out of its range of 0 to 5",
    "prints_secrets": "raised RuntimeError: <MY_API_KEY>",
    "exits": "its process ended with exit code 7",
    "asks_to_exit": "raised SystemExit: enough",
    "eats_memory": "raised MemoryError",
}
"""What is said of each; `forks` is no failure, for one of the two copies answers."""


def broken(folder: Path, name: str, runtime: str = "inline", **settings: Any) -> Recipe:
    """A stage of two steps whose reward is `name`; beside it a good one, where failures are to be survived."""
    file = folder / "broken.py"
    file.write_text(FILE)
    # A busy machine may take more than a second to fill half a gigabyte.
    timeout = 30 if name == "eats_memory" else 1
    part = {"type": f"{file}:{name}", "timeout": timeout, "memory": 0.5, "range": [0, 5], **settings}
    if name == "forks":
        part["range"] = [0, 1000]
    stage = {**GRPO, "model": {"new": MODEL}, "reward_model": None, "reward": [{"type": "num_tokens"}, part]}
    return changed(single(stage, runtime), {"algorithm.steps": 2, "held_out_rows": 0})
