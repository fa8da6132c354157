"""`rlhf eval`: grade a model on the three Hs, alone or beside a baseline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlhf.cli.multiple_choice import MULTIPLE_CHOICE, by_multiple_choice
from rlhf.cli.options import JsonOption
from rlhf.cli.terminal import output_to_stderr, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rlhf.config import AnswersConfig
    from rlhf.evaluation.result import EvaluationResult
    from rlhf.evaluation.statistics import Estimate
    from rlhf.types import Axis


def evaluate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model's folder (runs/NAME/STAGE/model) or hub name.")
    ],
    suite: Annotated[
        str, typer.Option(metavar="NAME", help="Which prompts and graders: 3h, or truthfulqa_mc with --data.")
    ] = "3h",
    data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Rows of TruthfulQA, for --suite truthfulqa_mc.")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(metavar="MODEL", help="A model to compare with, on the same prompts.")
    ] = None,
    json: JsonOption = False,
    num_prompts: Annotated[int, typer.Option(min=3, help="At most this many prompts.")] = 600,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer in tokens.")] = 64,
    temperature: Annotated[float, typer.Option(min=0, help="Of sampling; 0 is greedy.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Of sampling.")] = 0,
    best_of: Annotated[int, typer.Option(min=1, metavar="N", help="MODEL gives the best of N samples.")] = 1,
    rejection_beta: Annotated[
        float | None, typer.Option(metavar="BETA", help="Pick by rejection sampling at this temperature instead.")
    ] = None,
    reward_model: Annotated[str | None, typer.Option(metavar="FOLDER", help="Picks among samples.")] = None,
    reward: Annotated[str | None, typer.Option(metavar="NAME", help="A reward that picks, by name.")] = None,
    in_context: Annotated[
        str | None, typer.Option(metavar="FILE", help="Examples shown to MODEL before every prompt.")
    ] = None,
) -> None:
    """Grade a model's answers as helpful, honest and harmless, with 95 % intervals over prompts.

    The last five options say how MODEL answers; a baseline always answers as it is. With `--suite truthfulqa_mc`
    nothing is sampled: MC1 and MC2 say how likely the models find TruthfulQA's answers (Lin et al. 2022).
    """
    if suite == MULTIPLE_CHOICE or data is not None:
        by_multiple_choice(model, baseline, suite, data, json=json)
        return
    from rlhf.config import AnswersConfig
    from rlhf.runtime.evaluating import evaluate_models
    from rlhf.validation import validated

    given = {
        "best_of": best_of,
        "rejection_beta": rejection_beta,
        "reward_model": reward_model,
        "reward": reward,
        "in_context": in_context,
    }
    said = {name: value for name, value in given.items() if value is not None}
    models = {"baseline": AnswersConfig(model=baseline)} if baseline is not None else {}
    models["model"] = validated(AnswersConfig, {"model": model, **said}, "")
    with output_to_stderr(json):
        results = evaluate_models(
            models, suite, num_prompts=num_prompts, max_tokens=max_tokens, temperature=temperature, seed=seed
        )
    if json:
        print_json(_as_json(models, results))
    else:
        _print(results)


def _print(results: dict[str, EvaluationResult]) -> None:
    from rlhf.cli.outcome import estimate_text
    from rlhf.evaluation.three_h import MEAN_ROW

    differences = _differences(results)
    rows = []
    for axis in results["model"].axes:
        cells = [estimate_text(result.axes[axis].estimate) or "no grade" for result in results.values()]
        rows.append([axis, *cells, estimate_text(differences.get(axis), "+")])
    means = {label: mean for label, result in results.items() if (mean := _mean(result)) is not None}
    if means:
        cells = [estimate_text(means.get(label)) for label in results]
        rows.append([MEAN_ROW, *cells, estimate_text(_mean_difference(results), "+")])
    print_table(["", *results, "change" if differences else ""], rows)
    if differences:
        typer.echo("change: model minus baseline, prompt by prompt")
    for label, result in results.items():
        if result.answering:
            typer.echo(f"{label}: {_answering_text(result.answering)}")
        failed = sum(score.failed for score in result.axes.values())
        if failed or result.dropped:
            typer.echo(f"{label}: {failed} grades failed, {result.dropped} prompts did not fit the context", err=True)


def _answering_text(figures: Mapping[str, float]) -> str:
    """What choosing among samples gained and cost, in words."""
    words = [
        f"the answers chosen have a mean reward of {figures['reward']:.4g}",
        f"{figures['tokens_per_answer']:.4g} tokens were sampled for each",
    ]
    if "kl_bound" in figures:
        words.append(f"choosing is at most {figures['kl_bound']:.3g} nats of KL away from answering as it is")
    return "; ".join(words)


def _as_json(models: dict[str, AnswersConfig], results: dict[str, EvaluationResult]) -> dict[str, Any]:
    from rlhf.evaluation.result import bounds

    figures: dict[str, Any] = {
        label: {"path": models[label].model} | result.as_dict() for label, result in results.items()
    }
    changes = {axis: {"mean": e.value, "interval": bounds(e)} for axis, e in _differences(results).items()}
    return figures | ({"change": changes} if changes else {})


def _mean(result: EvaluationResult) -> Estimate | None:
    """The mean of the three axes, where there are three and each has a grade."""
    from rlhf.evaluation.statistics import mean_of_groups

    groups = [list(_by_prompt(result, axis).values()) for axis in result.axes]
    return mean_of_groups(groups) if len(groups) == 3 and all(groups) else None


def _mean_difference(results: dict[str, EvaluationResult]) -> Estimate | None:
    from rlhf.evaluation.statistics import mean_of_groups

    groups = list(_paired(results).values())
    if len(groups) < 3:
        return None
    return mean_of_groups([[after - before for before, after in zip(*pair, strict=True)] for pair in groups])


def _differences(results: dict[str, EvaluationResult]) -> dict[Axis, Estimate]:
    """Model minus baseline on each axis, prompt by prompt, over the prompts both have a grade for."""
    from rlhf.evaluation.statistics import paired_difference

    return {axis: paired_difference(*pair) for axis, pair in _paired(results).items()}


def _paired(results: dict[str, EvaluationResult]) -> dict[Axis, tuple[list[float], list[float]]]:
    """Scores of the baseline and of the model on the prompts both have a grade for, axis by axis."""
    if "baseline" not in results:
        return {}
    pairs = {}
    for axis in results["model"].axes:
        before, after = (_by_prompt(results[label], axis) for label in ("baseline", "model"))
        shared = sorted(before.keys() & after.keys())
        if shared:
            pairs[axis] = ([before[i] for i in shared], [after[i] for i in shared])
    return pairs


def _by_prompt(result: EvaluationResult, axis: Axis) -> dict[str, float]:
    graded = [item for item in result.graded if item.grade.axis == axis]
    return {item.rollout.prompt.id: item.grade.score for item in graded if item.grade.score is not None}
