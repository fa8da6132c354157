"""Align a language model with one recipe: pre-training, SFT, reward model, PPO, 3H evaluation, on Ray.

`import rlhf` is light: it loads neither torch nor ray. What trains is behind `rlhf.train`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from rlhf.config import PartConfig
    from rlhf.hookspecs import hookimpl
    from rlhf.runtime.result import RunResult

__all__ = ["PartConfig", "__version__", "hookimpl", "train"]


def train(
    recipe: str | Path | Mapping[str, Any],
    overrides: Mapping[str, Any] | None = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    strict_resume: bool = False,
    rewards: Sequence[str | Mapping[str, Any] | Callable[..., Any]] | None = None,
) -> RunResult:
    """Run a recipe and return what came of it: `.summary`, `.metrics`, `.model`, `.folder`.

    `recipe` is a YAML file, the name of a shipped recipe, or the same settings as a dictionary; `overrides` has dotted
    keys (`{"algorithm.kl_coef": 0.1}`). `out` is the run's folder; an existing one is refused unless `resume`,
    or `strict_resume`, which refuses to go on where the rest would not be bit for bit what it would have been.
    `rewards` replaces those of the recipe: names, tables as in a recipe, or functions. One that lives in a file works
    on Ray; one typed into a notebook needs the inline runtime.
    """
    from rlhf.plugins import refuse_while_importing

    refuse_while_importing()  # before what is slow to load: a reward's process comes by here when it imports a script
    from rlhf.runtime.pipeline import train as run_pipeline

    return run_pipeline(recipe, overrides, out=out, resume=resume, strict_resume=strict_resume, rewards=rewards)


def __getattr__(name: str) -> Any:
    """`rlhf.hookimpl` and `rlhf.PartConfig` on first use, so that `import rlhf` stays light."""
    if name == "hookimpl":
        from rlhf.hookspecs import hookimpl

        return hookimpl
    if name == "PartConfig":
        from rlhf.config import PartConfig

        return PartConfig
    raise AttributeError(f"module 'rlhf' has no attribute {name!r}")
