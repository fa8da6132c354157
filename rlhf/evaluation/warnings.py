"""What a reader must know before believing the figures: failures, rows left out, numbers that were none."""

from __future__ import annotations

from rlhf.evaluation.run_folder import RunRecord, StageRecord

MANY_CUT = 0.1
"""The share of completions cut at `max_tokens` from which it is worth a warning; docs/metrics.md says so too."""


def warnings_of(run: RunRecord) -> list[str]:
    """One sentence each, in the order of the pipeline."""
    found = [f"{problem}." for problem in run.problems]
    for stage in run.stages:
        found += _of_stage(stage)
    for label, rows in run.evaluations.items():
        failed = sum(row.get("score") is None for row in rows)
        if failed:
            found.append(f"Evaluation {label!r}: {failed} of {len(rows)} grades failed; they are not in the means.")
    return found


def _of_stage(stage: StageRecord) -> list[str]:
    found = []
    failed = sum(_numbers(stage, "reward/failed"))
    if failed:
        found.append(
            f"Stage {stage.name!r}: {failed:,.0f} rollouts whose reward failed; they were left out of training."
        )
    for metric, words in (
        ("data/bad_rows", "rows skipped because something was wrong with them (`on_bad_row: skip`)"),
        ("data/dropped", "rows dropped (too long, or nothing to train on)"),
        ("data/cut", "rows cut to the longest length"),
    ):
        so_far = max(_numbers(stage, metric), default=0.0)  # counted since the stage began, unlike failed rewards
        if so_far:
            found.append(f"Stage {stage.name!r}: {so_far:,.0f} {words}.")
    broken = {str(name) for row in stage.metrics for name in row.get("nonfinite", ())}
    if broken:
        steps = f"{sum('nonfinite' in row for row in stage.metrics)} of {len(stage.metrics)} steps"
        found.append(f"Stage {stage.name!r}: {', '.join(sorted(broken))} was not a number in {steps}.")
    cut = _numbers(stage, "rollout/truncated")
    if cut and sum(cut) / len(cut) >= MANY_CUT:
        found.append(f"Stage {stage.name!r}: {sum(cut) / len(cut):.0%} of the completions were cut at max_tokens.")
    return found


def _numbers(stage: StageRecord, metric: str) -> list[float]:
    return [row[metric] for row in stage.metrics if isinstance(row.get(metric), int | float)]
