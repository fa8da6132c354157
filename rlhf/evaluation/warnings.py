"""What a reader must know before believing the figures: failures, rows left out, numbers that were none."""

from __future__ import annotations

from rlhf.evaluation.run_folder import RunRecord, StageRecord

_TRUNCATED_SHARE = 0.3  # above it a good part of the rewards judges unfinished text


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
    for metric, words in (
        ("reward/failed", "rollouts whose reward failed; they were left out of training"),
        ("data/dropped", "rows dropped (too long, or nothing to train on)"),
        ("data/cut", "rows cut to the longest length"),
    ):
        count = sum(row[metric] for row in stage.metrics if isinstance(row.get(metric), int | float))
        if count:
            found.append(f"Stage {stage.name!r}: {count:,.0f} {words}.")
    broken = {str(name) for row in stage.metrics for name in row.get("nonfinite", ())}
    if broken:
        steps = f"{sum('nonfinite' in row for row in stage.metrics)} of {len(stage.metrics)} steps"
        found.append(f"Stage {stage.name!r}: {', '.join(sorted(broken))} was not a number in {steps}.")
    cut = [row["rollout/truncated"] for row in stage.metrics if isinstance(row.get("rollout/truncated"), int | float)]
    if cut and sum(cut) / len(cut) > _TRUNCATED_SHARE:
        found.append(f"Stage {stage.name!r}: {sum(cut) / len(cut):.0%} of the completions were cut at max_tokens.")
    return found
