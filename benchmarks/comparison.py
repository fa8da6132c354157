"""A comparison as figures: means with intervals over seeds, the table, and the plot."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlhf.evaluation.result import bounds
from rlhf.evaluation.statistics import mean_over_seeds

Row = Mapping[str, Any]

SCORES = ("helpful", "honest", "harmless", "mean")
COSTS = ("reward", "kl", "train_seconds", "tokens_per_answer")
_COLOURS = ("#6c7075", "#2b8457", "#2767b3", "#c4611a")
_STYLE: Any = {
    "svg.hashsalt": "comparison",  # the same figures give the same bytes
    "font.size": 10,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4df",
}


def summarised(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Each method's mean of every figure over seeds; scores, and gains over the first method, with intervals.

    A gain is taken seed by seed, for the methods of a seed share its SFT model and prompts.
    """
    by_method = _by_method(rows)
    first = next(iter(by_method.values()))
    summaries = []
    for name, mine in by_method.items():
        gains = [row["mean"] - other["mean"] for row, other in zip(mine, first, strict=True)]
        figures: dict[str, Any] = {score: _over_seeds([row[score] for row in mine]) for score in SCORES}
        figures |= {cost: sum(row[cost] for row in mine) / len(mine) for cost in COSTS}
        summaries.append({"method": name, **figures, "gain": _over_seeds(gains)})
    return summaries


def _by_method(rows: Sequence[Row]) -> dict[str, list[Row]]:
    names = dict.fromkeys(row["method"] for row in rows)
    return {name: [row for row in rows if row["method"] == name] for name in names}


def _over_seeds(values: Sequence[float]) -> dict[str, Any]:
    estimate = mean_over_seeds(values)
    return {"mean": estimate.value, "interval": bounds(estimate)}


# --- the table -------------------------------------------------------------------------------------------------------

_HEAD = (
    "method", "helpful", "honest", "harmless", "mean of the three", "gain over SFT", "reward", "KL to SFT, nats",
    "training s", "tokens per answer",
)  # fmt: skip


def as_table(comparison: Mapping[str, Any]) -> str:
    """`comparison.md`: means over seeds, then the mean of the three by seed."""
    seeds = comparison["seeds"]
    short = ", **shortened: the figures mean nothing**" if comparison["short"] else ""
    methods = [_cells(summary) for summary in comparison["methods"]]
    by_seed = [[name, *(f"{row['mean']:.3f}" for row in rows)] for name, rows in _by_method(comparison["rows"]).items()]
    parts = [
        f"# SFT, best-of-n and PPO: recipe `{comparison['recipe']}`, {seeds} seed{'s'[: seeds > 1]}{short}",
        _markdown(_HEAD, methods),
        _NOTE,
        "## Mean of the three by seed",
        _markdown(("method", *(f"seed {seed}" for seed in range(seeds))), by_seed),
    ]
    return "\n\n".join(parts) + "\n"


_NOTE = """\
Scores are gold, 0 to 1, on prompts never trained on. In brackets: 95 % interval over seeds (Student's t); one seed has
none. Reward: of the learned reward model, for the answers given. KL of best-of-n: upper bound."""


def _cells(summary: Row) -> list[str]:
    scores = [_text(summary[score], ".3f") for score in SCORES]
    return [
        summary["method"],
        *scores,
        _text(summary["gain"], "+.3f"),
        f"{summary['reward']:+.2f}",
        f"{summary['kl']:.2f}",
        f"{summary['train_seconds']:.0f}",
        f"{summary['tokens_per_answer']:.1f}",
    ]


def _text(estimate: Row, form: str) -> str:
    low, high = estimate["interval"]
    interval = "" if low is None or high is None else f" [{low:{form}}, {high:{form}}]"
    return f"{estimate['mean']:{form}}{interval}"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in [head, *rows]]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# --- the plot --------------------------------------------------------------------------------------------------------


def draw(comparison: Mapping[str, Any]) -> str:
    """`comparison.svg`: the mean of the three with its interval, and gold score against KL."""
    by_method = _by_method(comparison["rows"])
    colours = {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(by_method)}
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9.6, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        _draw_means(left, comparison["methods"], by_method, colours)
        _draw_trade(right, by_method, colours)
        figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _draw_means(
    axes: Axes, methods: Sequence[Row], by_method: Mapping[str, Sequence[Row]], colours: Mapping[str, str]
) -> None:
    for y, summary in enumerate(methods):
        name = summary["method"]
        low, high = summary["mean"]["interval"]
        if low is not None and high is not None:
            axes.hlines(y, low, high, color=colours[name], linewidth=2.2, alpha=0.6)
        seeds = [row["mean"] for row in by_method[name]]
        axes.plot(seeds, [y] * len(seeds), "|", color=colours[name], markersize=9)
        axes.plot(summary["mean"]["mean"], y, "o", color=colours[name], markersize=7)
    axes.set_yticks(range(len(methods)), [summary["method"] for summary in methods])
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.set_xlabel("mean of the three, gold; bar: interval over seeds")


def _draw_trade(axes: Axes, by_method: Mapping[str, Sequence[Row]], colours: Mapping[str, str]) -> None:
    for name, rows in by_method.items():
        axes.plot([row["kl"] for row in rows], [row["mean"] for row in rows], "o", color=colours[name], label=name)
    axes.set_ylim(0, 1)
    axes.set_xlabel("KL to SFT, nats an answer (best-of-n: bound)")
    axes.set_ylabel("mean of the three, gold")
