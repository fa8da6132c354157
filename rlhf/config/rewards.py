"""A reward as a recipe names it, and how it is run."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field, model_validator

from rlhf.config.parts import Part, PartConfig


class Gate(PartConfig):
    """What another reward of the same list must give."""

    reward: str
    """Its name."""
    at_least: float
    """Before weight and normalisation."""


class RewardPart(Part):
    """A reward by name, its weight in the sum, and how it is run. All other keys are the reward's own options."""

    model_config = ConfigDict(use_attribute_docstrings=True, allow_inf_nan=False)

    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]{1,64}$")
    """What metrics and samples call it; its type where absent, and TYPE_2 for a second one."""
    weight: float = 1.0
    on_error: Literal["raise", "drop", "penalty"] = "raise"
    """What becomes of a completion it fails on (it raises, takes too long, or gives what is not a finite number in its
    range): the run stops; the completion leaves the batch; or it is given `penalty`. Counted as `reward/NAME/errors`.
    """
    penalty: float | None = None
    """In place of the value of a completion it fails on, with `on_error: penalty`; multiplied by `weight`."""
    max_error_rate: float = Field(default=0.5, gt=0, le=1)
    """The run stops when more than this share of the last 256 completions failed, whatever `on_error` says."""
    range: tuple[float, float] | None = None
    """Lowest and highest value it may give; others are failures."""
    timeout: float = Field(default=120.0, gt=0)
    """Seconds one call may take: of one completion for a function of one, else of a whole batch."""
    retries: int = Field(default=0, ge=0)
    """How often completions it failed on are tried again, after pauses of 0.5 s and longer, drawn at random."""
    concurrency: int | None = Field(default=None, ge=1)
    """Calls at a time of a function of one completion: one after the other where absent, and 32 where it is async."""
    cache: bool = False
    """Ask once about the same completion of the same prompt; for rewards that always answer the same."""
    normalize: Literal["none", "batch", "running"] = "none"
    """Less the mean and divided by the standard deviation, of its values in the step or of all so far."""
    only_if: Gate | None = None
    """Ask only about completions that pass another reward; the rest get nothing from this one."""
    processes: int | None = Field(default=None, ge=0)
    """Processes of its own; 0: in the run's process, where nothing can stop it. Absent: 1, but 0 for what ships with
    the toolkit.
    """
    memory: float = Field(default=8.0, gt=0)
    """GiB a process of its own may allocate."""

    @model_validator(mode="after")
    def _settings_fit(self) -> RewardPart:
        if (self.penalty is None) == (self.on_error == "penalty"):
            raise ValueError("`on_error: penalty` and `penalty: VALUE` need each other")
        if self.range is not None and self.range[0] >= self.range[1]:
            raise ValueError(f"range: the lowest value comes first, given {list(self.range)}")
        return self


RESERVED_OPTIONS = frozenset(RewardPart.model_fields)
"""Keys of a reward's table that are the recipe's, so no reward may have an option of that name."""
