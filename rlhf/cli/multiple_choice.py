"""`rlhf eval MODEL --suite truthfulqa_mc --data FILE`: how likely a model finds true answers."""

from __future__ import annotations

from pathlib import Path

from rlhf.cli.terminal import output_to_stderr, print_json, print_table

MULTIPLE_CHOICE = "truthfulqa_mc"


def by_multiple_choice(model: str, baseline: str | None, suite: str, data: Path | None, *, json: bool) -> None:
    """Print MC1 and MC2 of the model, and of the baseline on the same questions."""
    from rlhf.cli.outcome import estimate_text
    from rlhf.errors import ConfigError
    from rlhf.runtime.likelihood import evaluate_multiple_choice

    if suite != MULTIPLE_CHOICE:
        raise ConfigError(f"--data: rows of --suite {MULTIPLE_CHOICE}; suite {suite!r} has its own")
    if data is None:
        raise ConfigError(f"--suite {MULTIPLE_CHOICE}: give TruthfulQA's rows with --data FILE")
    models = {"baseline": baseline} if baseline is not None else {}
    models["model"] = model
    with output_to_stderr(json):
        results = {label: evaluate_multiple_choice(path, data) for label, path in models.items()}
    if json:
        print_json({label: {"path": models[label]} | result.as_dict() for label, result in results.items()})
        return
    mine = results["model"]
    rows = [
        ["MC1", *(estimate_text(result.mc1) for result in results.values()), f"{mine.mc1_by_chance:.3f}"],
        ["MC2", *(estimate_text(result.mc2) for result in results.values()), f"{mine.mc2_by_chance:.3f}"],
    ]
    print_table([f"{mine.mc1.n} questions", *results, "by chance"], rows)
