"""Functions of a file that could be rewards, found by reading it: its code is not run."""

from __future__ import annotations

import ast
from pathlib import Path

from rlhf.errors import ConfigError, nearest

JUDGED = ("completions", "completion", "queries", "solution_str", "solution_strs")
"""Parameters by which a reward is given what the policy said, in the forms of TRL, of one row, of OpenRLHF and verl."""


def only_reward_function(path: Path) -> str:
    """The name of the one function at the top of the file that could be a reward.

    Raises `ConfigError` where there is no such file or function, or more than one.
    """
    names = reward_functions(path)
    if len(names) == 1:
        return names[0]
    if not names:
        raise ConfigError(
            f"{path} has no function of {', '.join(JUDGED[:-1])} or {JUDGED[-1]}, which is what a reward judges; write "
            f"one, or name a reward that the file registers, with plugins: {{paths: [{path}]}}"
        )
    raise ConfigError(
        f"{path} has {len(names)} functions that could be the reward; say which: "
        f"{', '.join(f'{path}:{name}' for name in names)}"
    )


def reward_functions(path: Path) -> list[str]:
    """Public functions at the top of the file that take what the policy said, in their order."""
    if not path.is_file():
        siblings = [p.name for p in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise ConfigError(f"no such file {str(path)!r}.{nearest(path.name, siblings)}")
    try:
        module = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError) as error:
        at = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise ConfigError(f"{path}{at}: not valid Python: {error}") from None
    functions = [node for node in module.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [node.name for node in functions if not node.name.startswith("_") and _parameters(node) & set(JUDGED)]


def _parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    arguments = function.args
    return {argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
