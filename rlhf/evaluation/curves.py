"""Which figures of a stage become plots, in which order, under which words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from rlhf.evaluation.plots import Line, curves


@dataclass(frozen=True)
class Shown:
    """A metric's words on the page."""

    title: str
    unit: str


# The first group is what a run is judged by; the second waits behind "more curves".
MAIN: Mapping[str, Shown] = {
    "reward/mean": Shown("Reward", "reward"),
    "policy/kl_to_reference": Shown("KL to the reference", "nats"),
    "policy/loss": Shown("Loss", "loss"),
    "reward/loss": Shown("Reward model loss", "loss"),
    "reward/accuracy": Shown("Pairs ranked right", "share"),
    "value/loss": Shown("Value loss", "loss"),
    "rollout/length": Shown("Completion length", "tokens"),
}
MORE: Mapping[str, Shown] = {
    "policy/approx_kl": Shown("KL of each step", "nats"),
    "policy/entropy": Shown("Entropy", "nats"),
    "policy/clip_fraction_high": Shown("Clipped, upper side", "share"),
    "policy/clip_fraction_low": Shown("Clipped, lower side", "share"),
    "value/explained_variance": Shown("Explained variance", "share"),
    "value/clip_fraction": Shown("Values clipped", "share"),
    "reward/std": Shown("Spread of rewards", "reward"),
    "reward/margin": Shown("Margin", "reward"),
    "rollout/truncated": Shown("Completions cut short", "share"),
    "rollout/logprob_gap": Shown("Generation against training log-probs", "nats"),
    "policy/kl_coef": Shown("KL coefficient", "coefficient"),
    "policy/grad_norm": Shown("Gradient norm", "L2 norm"),
    "policy/lr": Shown("Learning rate", "rate"),
    "reward/grad_norm": Shown("Gradient norm", "L2 norm"),
    "reward/lr": Shown("Learning rate", "rate"),
    "value/grad_norm": Shown("Gradient norm, value model", "L2 norm"),
    "value/lr": Shown("Learning rate, value model", "rate"),
    "policy/updates": Shown("Updates in each step", "updates"),
    "policy/skipped": Shown("Updates not taken", "share"),
    "reward/skipped": Shown("Updates not taken", "share"),
    "value/skipped": Shown("Updates not taken, value model", "share"),
    "cost_value/skipped": Shown("Updates not taken, value model of costs", "share"),
    "reward/failed": Shown("Rewards that failed", "rollouts"),
}
GOLD_PREFIX = "gold/"  # `gold/helpful`: scores of the stage's monitors, drawn together
_FIELDS = {"step", "time", "stage", "nonfinite"}
_NOT_DRAWN = ("time/", "data/", "tokens/", GOLD_PREFIX)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One plot of the page. `first` and `last` are the ends of the line, where there is only one."""

    title: str
    metric: str
    svg: Markup
    first: float | None = None
    last: float | None = None


Rows = Sequence[Mapping[str, Any]]


def main_curves(stage: str, runs: Mapping[str, Rows]) -> list[Curve]:
    """The plots a stage is judged by, one line a run; the 3H, where logged, as one plot a run."""
    found = [curve for name, shown in MAIN.items() if (curve := _curve(stage, name, shown, runs)) is not None]
    graded = [curve for label, rows in runs.items() if (curve := _graded(stage, label, rows)) is not None]
    return found + graded


def more_curves(stage: str, runs: Mapping[str, Rows]) -> list[Curve]:
    """Every other figure logged, those of plugins among them; times and counts are in the table instead."""
    logged = dict.fromkeys(name for rows in runs.values() for row in rows for name in row)
    others = [
        n for n in logged if n not in MAIN and n not in MORE and n not in _FIELDS and not n.startswith(_NOT_DRAWN)
    ]
    names = [*MORE, *others]
    drawn = (_curve(stage, name, MORE.get(name, Shown(name, "")), runs) for name in names)
    return [curve for curve in drawn if curve is not None]


def _curve(stage: str, name: str, shown: Shown, runs: Mapping[str, Rows]) -> Curve | None:
    lines = [line for label, rows in runs.items() if (line := line_of(label, rows, name)) is not None]
    if not lines:
        return None
    svg = curves(lines, unit=shown.unit, description=f"{stage}: {shown.title}, {name}, by step")
    numbers = [value for value in lines[0].values if value is not None]
    ends = (numbers[0], numbers[-1]) if len(lines) == 1 else (None, None)
    return Curve(title=shown.title, metric=name, svg=svg, first=ends[0], last=ends[1])


def _graded(stage: str, label: str, rows: Rows) -> Curve | None:
    names = dict.fromkeys(name for row in rows for name in row if name.startswith(GOLD_PREFIX))
    found = [line_of(name.removeprefix(GOLD_PREFIX), rows, name) for name in names]
    lines = [line for line in found if line is not None]
    if not lines:
        return None
    of_run = f" of {label}" if label else ""
    svg = curves(lines, unit="score", description=f"{stage}: 3H scores{of_run} by step")
    return Curve(title=f"3H over steps{of_run}", metric=f"{GOLD_PREFIX}*", svg=svg)


def line_of(label: str, rows: Rows, name: str) -> Line | None:
    """The metric's line; None where no step has a number under that name."""
    points = [(int(row["step"]), _number(row[name])) for row in rows if name in row]
    if not any(value is not None for _, value in points):
        return None
    return Line(label, [step for step, _ in points], [value for _, value in points])


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None
