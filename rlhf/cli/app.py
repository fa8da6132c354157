"""The commands, joined."""

from __future__ import annotations

from typing import Annotated

import typer

from rlhf import __version__
from rlhf.cli import (
    algorithms,
    data,
    doctor,
    evaluate,
    export,
    generate,
    grade,
    graders,
    hooks,
    jobs,
    plan,
    plugins,
    quickstart,
    recipes,
    report,
    reward,
    serve,
    submit,
    train,
)

app = typer.Typer(
    name="rlhf",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("quickstart")(quickstart.quickstart)
app.command("train")(train.train)
app.command("plan")(plan.plan)
app.command("submit")(submit.submit)
app.add_typer(jobs.app, name="jobs")
app.command("eval")(evaluate.evaluate)
app.command("report")(report.report)
app.add_typer(reward.app, name="reward")
app.command("generate")(generate.generate)
app.command("grade")(grade.grade)
app.add_typer(data.app, name="data")
app.command("serve")(serve.serve)
app.command("export")(export.export)
app.add_typer(recipes.app, name="recipes")
app.command("algorithms")(algorithms.algorithms)
app.add_typer(plugins.app, name="plugins")
app.add_typer(graders.app, name="graders")
app.command("hooks")(hooks.hooks)
app.command("doctor")(doctor.doctor)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"rlhf {__version__}")
        raise typer.Exit


@app.callback()
def rlhf(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; works after any command, as RLHF_DEBUG=1.")
    ] = False,
) -> None:
    """Align a language model with one recipe: pre-training, SFT, reward model, PPO, 3H evaluation.

    Begin with `rlhf quickstart`. Exit codes: 0 done, 1 the run failed, 2 the input is at fault, 130 interrupted,
    143 terminated.
    """
