"""What a stage scores on rows kept from training, before its first step and after its last."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlhf.evaluation.statistics import Estimate

# What algorithms measure, in words; a figure of a plugin goes by its own name.
TITLES: Mapping[str, str] = {
    "loss": "loss, nats a token",
    "accuracy": "pairs ranked right",
    "accuracy_longer_wins": "baseline: the longer answer wins",
    "reward": "reward",
    "kl_from_teacher": "KL from the teacher, nats a token",
    "kl_to_reference": "KL to the reference, nats a completion",
}


@dataclass(frozen=True, kw_only=True)
class HeldOutFigure:
    """One figure of one stage; None where it was not measured (`before` after a resume)."""

    stage: str
    name: str
    before: Estimate | None
    after: Estimate | None

    @property
    def title(self) -> str:
        return TITLES.get(self.name, self.name.replace("_", " "))

    @property
    def n(self) -> int:
        """Rows it was measured on."""
        return max(estimate.n for estimate in (self.before, self.after) if estimate is not None)


def held_out_figures(stage: str, summary: Mapping[str, Any]) -> list[HeldOutFigure]:
    """The figures under `held_out` of a stage's summary, in the order of `TITLES`, a plugin's own last."""
    before, after = (_figures(summary, label) for label in ("before", "after"))
    known = [name for name in TITLES if name in before or name in after]
    names = dict.fromkeys([*known, *before, *after])
    return [HeldOutFigure(stage=stage, name=n, before=before.get(n), after=after.get(n)) for n in names]


def side_by_side(runs: Mapping[str, Sequence[HeldOutFigure]]) -> dict[tuple[str, str], dict[str, Estimate]]:
    """What several runs ended with: an estimate by run, for each stage and figure in words."""
    table: dict[tuple[str, str], dict[str, Estimate]] = {}
    for run, figures in runs.items():
        for figure in figures:
            if figure.after is not None:
                table.setdefault((figure.stage, figure.title), {})[run] = figure.after
    return table


def _figures(summary: Mapping[str, Any], label: str) -> dict[str, Estimate]:
    held_out = summary.get("held_out")
    figures = held_out.get(label) if isinstance(held_out, Mapping) else None
    if not isinstance(figures, Mapping):
        return {}
    found = {str(name): _estimate(value) for name, value in figures.items()}
    return {name: estimate for name, estimate in found.items() if estimate is not None}


def _estimate(value: Any) -> Estimate | None:
    if not isinstance(value, Mapping) or not isinstance(value.get("mean"), int | float):
        return None
    mean = float(value["mean"])
    # Zero on every row (the KL of a policy that still is its reference) is no sample of anything: no interval.
    ends = [value.get(end) if mean else None for end in ("low", "high")]
    low, high = (float(end) if isinstance(end, int | float) else math.nan for end in ends)
    n = value.get("n")
    return Estimate(value=mean, low=low, high=high, n=n if isinstance(n, int) else 0)
