"""`rlhf data`: check, convert and curate files of rows, of any size."""

from __future__ import annotations

import typer

from rlhf.cli import data_check, data_convert, data_curate

app = typer.Typer(no_args_is_help=True, help="Check, convert or curate rows of data.")
app.command("check")(data_check.check)
app.command("convert")(data_convert.convert)
app.command("curate")(data_curate.curate)
