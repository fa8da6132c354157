"""The command line: one file per command. What is heavy is imported inside commands, so that help answers at once."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command that `sys.argv` names and leave with its exit code."""
    from rlhf.cli.exit_codes import run_command

    sys.exit(run_command(sys.argv[1:]))
