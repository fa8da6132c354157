"""`rlhf reward`: try a reward on rows of data, without training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlhf.cli.options import JsonOption, PluginOption
from rlhf.cli.terminal import output_to_stderr, print_json
from rlhf.cli.trial import (
    ColumnOption,
    LimitOption,
    OptionArguments,
    ShowOption,
    estimate_dict,
    find_judge,
    interval_text,
    print_trial,
    read_data,
    tried_dict,
    warn_left_out,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rlhf.testing.rows import TriedRows
    from rlhf.testing.trying import Trial

app = typer.Typer(no_args_is_help=True, help="Try a reward on data.")


@app.callback()
def reward() -> None:
    """Keep `test` a command of its own: without this, typer would take a lone command's place."""


@app.command("test")
def try_reward(
    reward: Annotated[str, typer.Argument(metavar="REWARD", help="FILE.py:FUNCTION, FILE.py that has one, or a name.")],
    data: Annotated[
        Path, typer.Option(metavar="FILE", help="Rows with completions: samples.jsonl, any format of docs/data.md.")
    ],
    options: OptionArguments = None,
    limit: LimitOption = None,
    show: ShowOption = 20,
    column: ColumnOption = None,
    json: JsonOption = False,
    plugin: PluginOption = None,
) -> None:
    """Judge the completions of a file: a table of scores, their mean and spread, errors, and rows a second.

    Both sides of a pair are judged, and how often the chosen one scores higher is told with its 95 % interval. There is
    no tokenizer: `token_ids` has one made-up id a word. Exit 1 where an answer is no number, or a row raises.
    """
    from rlhf.testing.trying import try_judge

    with output_to_stderr(True):  # what a reward prints is not the answer
        rows = read_data(data, column, limit)
        judge = find_judge("reward", reward, options, plugin)
        try:
            trial = try_judge(judge, rows, f"reward {reward!r}")
        finally:
            judge.close()  # type: ignore[attr-defined]  # a reward's
    if json:
        tried = [tried_dict(item) for item in trial.tried]
        summary = _summary(trial) | {"rows_left_out": rows.left_out}
        print_json({"reward": reward, "data": str(data), "summary": summary, "rows": tried})
    else:
        warn_left_out(rows)
        print_trial(trial, show)
        _print_summary(trial)
        if not trial.values and not trial.num_errors and not trial.num_faults:
            typer.echo(_why_none(rows, getattr(judge, "optional_columns", ())), err=True)
    if trial.num_faults or not trial.values:
        raise typer.Exit(1)


def _summary(trial: Trial) -> dict[str, Any]:
    return {
        "completions": len(trial.tried),
        "scored": len(trial.values),
        "mean": estimate_dict(trial.mean),
        "std": trial.std,
        "errors": trial.num_errors,
        "broken": trial.num_faults,
        "chosen_over_rejected": estimate_dict(trial.in_order),
        "rows_per_second": len(trial.tried) / trial.seconds if trial.seconds else None,
    }


def _why_none(rows: TriedRows, optional: Sequence[str]) -> str:
    """What it may mean that a reward answered None for every row."""
    known = {name for row in rows.rows for name in row.prompt.metadata}
    known |= {"reference"} if any(row.prompt.reference is not None for row in rows.rows) else set()
    columns = ", ".join(sorted(known)) or "none besides prompt and completion"
    absent = [name for name in optional if name not in known]
    why = f"it looks for {', '.join(map(repr, absent))}, which the data does not have" if absent else ""
    why = why or "it looks for a column the data does not have, or for something no completion holds"
    return f"None for every row: None says that a reward does not apply; perhaps {why}. Columns: {columns}."


def _print_summary(trial: Trial) -> None:
    words = [f"{len(trial.values)} of {len(trial.tried)} completions scored"]
    if trial.mean is not None and trial.std is not None:
        words.append(f"mean {interval_text(trial.mean)}, std {trial.std:.3f}")
    words += [f"{trial.num_errors} errors"]
    words += [f"{trial.num_faults} broken"] if trial.num_faults else []
    typer.echo(f"\n{'; '.join(words)}; {trial.rows_per_second:,.0f} rows/s")
    if trial.in_order is not None:
        typer.echo(f"chosen > rejected: {interval_text(trial.in_order)} of {trial.in_order.n} rankings (a tie is half)")
