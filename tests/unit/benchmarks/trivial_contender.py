"""A contender for the tests, run as a module: its task says how it behaves."""

from __future__ import annotations

import json
import subprocess
import sys
import time

from benchmarks.throughput.turns import Turns


def main(task: str) -> None:
    given = json.loads(task)
    turns = Turns.from_environment()
    if given.get("cannot"):
        turns.cannot(given["cannot"])
        return
    if given.get("child"):
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    going, number = turns.ready(), 0
    while going:
        number += 1
        if number == given.get("dies_at"):
            sys.exit("the model fell over")
        if number == given.get("hangs_at"):
            time.sleep(60)
        time.sleep(given.get("seconds", 0.0))
        metrics = {"time/step": 3.0, "time/generate": 2.0 + number, "time/train": -float(number)}
        going = turns.done(metrics=metrics)


if __name__ == "__main__":
    main(sys.argv[1])
