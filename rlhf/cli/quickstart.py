"""`rlhf quickstart`: a small model gets better on this machine, and a page shows it."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Annotated

import typer


def quickstart(
    out: Annotated[Path, typer.Option(metavar="DIR", help="The run's folder; one that exists is left alone.")] = Path(
        "runs/quickstart"
    ),
    seed: Annotated[int | None, typer.Option(help="Another seed than the recipe's.")] = None,
) -> None:
    """Train a small assistant through SFT, a reward model and PPO, and grade it before and after."""
    from rlhf.cli.outcome import print_outcome
    from rlhf.runtime.pipeline import train

    folder = _free_folder(out)
    if folder != out:
        typer.echo(f"{out} exists, so this run goes to {folder}", err=True)
    print_outcome(train("quickstart", {} if seed is None else {"seed": seed}, out=folder))


def _free_folder(wanted: Path) -> Path:
    """`wanted`, or the first of `wanted-2`, `wanted-3`, ... that does not exist."""
    names = (wanted.with_name(f"{wanted.name}-{number}") for number in count(2))
    return wanted if not wanted.exists() else next(path for path in names if not path.exists())
