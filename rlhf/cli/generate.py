"""`rlhf generate`: answers of a model to the prompts of a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlhf.cli.data_options import (
    AddressOption,
    ColumnOption,
    FileArgument,
    FormatOption,
    ResumeOption,
    RuntimeOption,
    WorkersOption,
    place_for,
    row_format,
)
from rlhf.cli.options import JsonOption, PluginOption
from rlhf.cli.terminal import output_to_stderr, print_json

if TYPE_CHECKING:
    from rlhf.runtime.data_jobs.generating import Generated

SamplingOptions = Annotated[
    list[str] | None,
    typer.Argument(metavar="[key=value ...]", help="What `rollout` of a recipe holds: temperature=0.7 max_tokens=128."),
]
JudgeOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="A grader or reward that scores completions (options: NAME.key=value)."),
]
WriteOption = Annotated[
    str, typer.Option(metavar="all|best|pairs", help="Every completion, the best of each prompt, or best and worst.")
]


def generate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model's folder (runs/NAME/STAGE/model) or hub name.")
    ],
    prompts: FileArgument,
    out: Annotated[Path, typer.Option(metavar="FILE", help="A new .jsonl.")],
    options: SamplingOptions = None,
    n: Annotated[int, typer.Option("--n", min=1, metavar="N", help="Completions of each prompt.")] = 1,
    seed: Annotated[
        int, typer.Option(min=0, help="Of sampling; each sample's is made of it, the prompt and its number.")
    ] = 0,
    chat: Annotated[bool, typer.Option("--chat", help="Take a plain text prompt as one turn of the user.")] = False,
    judge: JudgeOption = None,
    write: WriteOption = "all",
    format_name: FormatOption = None,
    column: ColumnOption = None,
    resume: ResumeOption = False,
    runtime: RuntimeOption = None,
    address: AddressOption = None,
    workers: WorkersOption = None,
    json: JsonOption = False,
    plugin: PluginOption = None,
) -> None:
    """Sample completions: rows of prompt and completion, which SFT and `rlhf grade` read, or with --write pairs those
    that preference methods read.
    """
    from rlhf.config import RolloutConfig
    from rlhf.errors import ConfigError, nearest
    from rlhf.recipe_file import apply_overrides, parse_override
    from rlhf.runtime.data_jobs.generating import GenerateOptions
    from rlhf.runtime.data_jobs.generating import generate as run
    from rlhf.validation import validated

    if write not in ("all", "best", "pairs"):
        raise ConfigError(f"--write {write}: all, best or pairs.{nearest(write, ('all', 'best', 'pairs'))}")
    given: dict[str, Any] = apply_overrides({}, dict(parse_override(word) for word in options or ()))
    judge_options = given.pop(judge, {}) if judge is not None else {}
    chosen = GenerateOptions(
        model=model,
        num_samples=n,
        rollout=validated(RolloutConfig, given, "rollout"),
        seed=seed,
        chat=chat,
        judge=judge,
        judge_options=judge_options,
        write=write,  # type: ignore[arg-type]  # one of the three
        plugin_files=tuple(plugin or ()),
    )
    place = place_for(prompts, runtime, address, workers)
    with output_to_stderr(True):  # what libraries print is not the answer
        found = run(prompts, out, chosen, row_format(format_name, column), place, resume=resume)
    if json:
        print_json(found.as_dict())
    else:
        _print(found)


def _print(found: Generated) -> None:
    if found.too_long:
        typer.echo(f"{found.too_long:,} prompts left out: longer than the model's context allows", err=True)
    if found.engine:
        typer.echo(found.engine, err=True)
    typer.echo(f"{found.prompts:,} prompts, {found.tokens:,} tokens, {found.written:,} rows: {found.out}")
