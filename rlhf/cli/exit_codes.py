"""Runs a command and turns what it raises into one line and an exit code.

0 done; 1 a run failed; 2 the user's input is at fault; 130 interrupted and 143 terminated, both after saving.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

import typer

from rlhf.errors import Interrupted, RunError, UserError

FAILED = 1
BAD_INPUT = 2
INTERRUPTED = 130

UsageError: type[Exception] = typer.BadParameter.__bases__[0]
"""An unknown command, a missing argument: typer has it from click and gives it no public name."""


def run_command(argv: Sequence[str]) -> int:
    """Run `rlhf argv...` and return the exit code. `--debug` may stand anywhere in it."""
    from rlhf.cli.app import app

    debug = "--debug" in argv or os.environ.get("RLHF_DEBUG", "") not in ("", "0")
    arguments = [argument for argument in argv if argument != "--debug"]
    try:
        code = typer.main.get_command(app).main(args=arguments, prog_name="rlhf", standalone_mode=False)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - this is where errors become words
        return _report(error, debug)
    if code == INTERRUPTED:  # typer has turned Ctrl-C into this
        print("interrupted", file=sys.stderr)
    return code if isinstance(code, int) else 0


def _report(error: BaseException, debug: bool) -> int:
    if isinstance(error, UsageError) and type(error).__name__ == "NoArgsIsHelpError":
        print(error.format_message())  # type: ignore[attr-defined]  # the help
        return BAD_INPUT
    from rlhf.config.secrets import masked

    if debug:
        print(masked("".join(traceback.format_exception(error))), end="", file=sys.stderr)
    line, code = _explained(error)
    hint = "" if debug or isinstance(error, UserError | RunError | Interrupted) or code != FAILED else _DEBUG_HINT
    print(masked(line) + hint, file=sys.stderr)
    return code


_DEBUG_HINT = " (unexpected: --debug shows where)"


def _explained(error: BaseException) -> tuple[str, int]:
    """The line to print and the exit code."""
    if isinstance(error, Interrupted):
        return f"interrupted: {error}", error.exit_code
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return "interrupted", INTERRUPTED
    if isinstance(error, UserError):
        return f"error: {' '.join(str(error).split())}", BAD_INPUT
    if isinstance(error, UsageError):
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "rlhf"
        message = error.format_message()  # type: ignore[attr-defined]
        stop = "" if message.endswith((".", "?")) else "."
        return f"error: {message}{stop} See `{command} --help`.", BAD_INPUT
    if isinstance(error, RunError):
        return f"failed: {error}", FAILED
    return f"failed: {type(error).__name__}: {' '.join(str(error).split()) or 'no message'}", FAILED
