"""Running a measure: its contenders take turns, A, B, C, A, B, C, and what each did becomes a row.

Every contender's first step is a warm-up and does not count. The float32 matrix peak and the copy bandwidth are
measured between the rounds, by this process, while all contenders wait; a row's fraction of the peak is of their
medians.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.throughput.machine import copy_bandwidth, matrix_peak
from benchmarks.throughput.measures import Entry, Measure
from benchmarks.throughput.turns import ROOT, Contender, ContenderFailed, Turn
from benchmarks.throughput.workload import Workload

START_LIMIT_S = 240.0
WARM_UP_LIMIT_S = 240.0
STEP_LIMIT_S = 240.0
PAUSE_S = 0.2
"""Between turns: threads that spin for a while after their work are asleep by then."""


@dataclass(frozen=True)
class Settings:
    """How the whole benchmark runs."""

    threads: int
    short: bool
    rounds: int | None
    """Where the measures' own numbers are not wanted."""
    workload: Workload
    peers: Path
    """Older libraries that a contender may need (`--peers`)."""
    ends_at: float = math.inf
    """By the monotonic clock: what has not begun by then is left out."""


@dataclass
class Row:
    """What one contender did in one measure."""

    measure: str
    contender: str
    side: str
    unit: str
    amount: float
    seconds: list[float] = field(default_factory=list)
    median_s: float | None = None
    rate: float | None = None
    """Units a second, at the median."""
    fraction_of_peak: float | None = None
    peak_bytes: int | None = None
    extra_bytes: int | None = None
    """Of the peak, what this piece of work added."""
    shares: dict[str, float] = field(default_factory=dict)
    """Seconds of the parts of a step, at the median of each."""
    idle_share: float | None = None
    """Of a processor, used while others had their turn; it should be next to nothing."""
    failed: str | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Peaks:
    """The machine's own figures, a few times over the run."""

    flops: list[float] = field(default_factory=list)
    copies: list[float] = field(default_factory=list)

    def take(self, threads: int) -> None:
        self.flops.append(matrix_peak(threads))
        self.copies.append(copy_bandwidth(threads))

    def bound(self, flops: float, copied_bytes: float) -> float:
        """Seconds that work must take on this machine at least."""
        return flops / statistics.median(self.flops) + copied_bytes / statistics.median(self.copies)


def say(text: str) -> None:
    """Progress, to standard error."""
    print(text, file=sys.stderr, flush=True)


def race(measure: Measure, settings: Settings, peaks: Peaks) -> list[Row]:
    """All rounds of a measure."""
    entries = [entry for entry in measure.entries if entry.short or not settings.short]
    rows = {e.name: Row(measure.name, e.name, e.side, measure.unit, measure.amount) for e in entries}
    turns: dict[str, list[Turn]] = {entry.name: [] for entry in entries}
    rounds = 1 + (settings.rounds or (1 if settings.short else measure.rounds))
    with _started(entries, rows, settings, measure.name) as contenders:
        for number in range(rounds):
            for contender in [c for c in contenders if rows[c.name].failed is None]:
                limit = STEP_LIMIT_S if number else WARM_UP_LIMIT_S
                _take_turn(contender, contenders, rows, turns, limit)
            peaks.take(settings.threads)
            _say_round(measure.name, number, rounds, turns)
    for name, row in rows.items():
        _sum_up(row, turns[name][1:], measure, peaks)
    return list(rows.values())


def _say_round(name: str, number: int, rounds: int, turns: dict[str, list[Turn]]) -> None:
    done = ", ".join(f"{name} {taken[-1].seconds:.2f} s" for name, taken in turns.items() if taken)
    left = sum(taken[-1].seconds for taken in turns.values() if taken) * (rounds - 1 - number)
    what = f"round {number} of {rounds - 1}" if number else "warm-up"
    say(f"{name}: {what}: {done}; about {left:.0f} s left of {name}")


def _take_turn(
    contender: Contender,
    contenders: Sequence[Contender],
    rows: dict[str, Row],
    turns: dict[str, list[Turn]],
    limit_s: float,
) -> None:
    """One step of one contender; the others are watched for work of their own."""
    before = {other.name: other.cpu_seconds() for other in contenders if other is not contender}
    began = time.monotonic()
    try:
        turns[contender.name].append(contender.step(limit_s))
    except ContenderFailed as failure:
        rows[contender.name].failed = str(failure)
        say(f"  {contender.name}: {failure}")
        contender.kill()
        return
    passed = time.monotonic() - began
    for other in contenders:
        if other is not contender and rows[other.name].failed is None:
            used = (other.cpu_seconds() - before[other.name]) / passed
            rows[other.name].idle_share = max(used, rows[other.name].idle_share or 0.0)
    time.sleep(PAUSE_S)


@contextmanager
def _started(
    entries: Sequence[Entry], rows: dict[str, Row], settings: Settings, measure: str
) -> Iterator[list[Contender]]:
    """All contenders of a measure, loaded at the same time, since that is not measured."""
    say(f"{measure}: starting {', '.join(entry.name for entry in entries)}")
    contenders = [start(entry, settings, measure) for entry in entries]
    try:
        for contender in contenders:
            try:
                contender.wait_ready(START_LIMIT_S)
            except ContenderFailed as failure:
                rows[contender.name].failed = str(failure)
                say(f"  {contender.name}: {failure}")
                contender.kill()
        time.sleep(PAUSE_S)
        yield contenders
    finally:
        for contender in contenders:
            contender.stop()


def start(entry: Entry, settings: Settings, measure: str) -> Contender:
    """The contender's process."""
    label = f"{measure}-{entry.name}".replace(" ", "-").replace(",", "")
    task = json.dumps(entry.task | {"label": label, "threads": settings.threads})
    path = [str(settings.peers)] if entry.peers_folder else []
    environment = {
        "PYTHONPATH": ":".join([*path, str(ROOT)]),
        "OMP_NUM_THREADS": str(settings.threads),
        "HF_HUB_OFFLINE": "1",
        **entry.environment,
    }
    command = [entry.module, task, str(settings.workload.folder)]
    logs = settings.workload.folder / "logs"
    logs.mkdir(exist_ok=True)
    return Contender(entry.name, command, logs / f"{label}.log", environment)


def _sum_up(row: Row, turns: Sequence[Turn], measure: Measure, peaks: Peaks) -> None:
    if not turns:
        row.failed = row.failed or "took no step"
        return
    row.seconds = [turn.figures.get("metrics", {}).get(measure.figure, turn.seconds) for turn in turns]
    row.median_s = statistics.median(row.seconds)
    row.rate = row.amount / row.median_s
    row.fraction_of_peak = peaks.bound(measure.flops, measure.copied_bytes) / row.median_s
    row.peak_bytes = max(turn.peak_bytes for turn in turns)
    row.shares = _shares([turn.figures.get("metrics", {}) for turn in turns])


def _shares(figures: Sequence[dict[str, float]]) -> dict[str, float]:
    """`time/generate` and the like; what the step took beside them is `other`: driver, data, Ray."""
    names = [name for name in figures[0] if name.startswith("time/") and name != "time/step"]
    shares = {name.removeprefix("time/"): statistics.median(f.get(name, 0.0) for f in figures) for name in names}
    if shares and "time/step" in figures[0]:
        shares["other"] = statistics.median(f["time/step"] - sum(f.get(n, 0.0) for n in names) for f in figures)
    return shares
