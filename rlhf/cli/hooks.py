"""`rlhf hooks`: every extension point."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import typer


@dataclass(frozen=True)
class Hook:
    """A hook as a plugin's author writes it."""

    name: str
    signature: str  # "register_rewards(register: Register) -> None"
    doc: str


def hook_reference() -> list[Hook]:
    """Every hook of `rlhf.hookspecs`, in the order of that file, which is the order of calls."""
    from rlhf import hookspecs

    marked = [value for value in vars(hookspecs).values() if hasattr(value, f"{hookspecs.PROJECT}_spec")]
    return [Hook(function.__name__, _signature(function), inspect.getdoc(function) or "") for function in marked]


def hooks() -> None:
    """Print every hook: its signature, when and where it is called, and what becomes of its result."""
    for hook in hook_reference():
        typer.echo(hook.signature)
        typer.echo("".join(f"    {line}\n" if line else "\n" for line in hook.doc.splitlines()))


def _signature(function: Callable[..., Any]) -> str:
    """As in the source: annotations are strings there, and stay without quotes."""
    annotations = function.__annotations__
    parameters = ", ".join(f"{name}: {annotations[name]}" for name in inspect.signature(function).parameters)
    return f"{function.__name__}({parameters}) -> {annotations['return']}"
