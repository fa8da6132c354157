"""What of a recipe may be another when a run is resumed.

A setting decides results, and must stay; or it decides how sums are rounded, so that the run goes on, but not bit for
bit; or it decides neither.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from rlhf.errors import ConfigError
from rlhf.recipe import Recipe

_STAGE = r"stages\.[^.]+\."
_FREE = re.compile(
    r"description|paper|trackers(\..*)?|evaluation(\..*)?|runtime\.(address|start_timeout|call_timeout|max_restarts)"
    rf"|{_STAGE}checkpoint\..*|{_STAGE}rollout\.timeout|{_STAGE}(.*\.)?optimizer\.max_skipped"
    rf"|{_STAGE}algorithm\.max_logprob_gap"  # a run that it ended is resumed with a higher one
    rf"|{_STAGE}(reward|cost)\.\d+\.(timeout|retries|concurrency|processes|memory|max_error_rate)"
)
"""How long to wait, what to keep, where to tell, and when to give up."""
_ROUNDING = re.compile(
    r"runtime\.(type|placement|threads|workers)(\..*)?"
    rf"|{_STAGE}engine\..*|{_STAGE}(.*\.)?(attention|gradient_checkpointing)"
)


class Changes(NamedTuple):
    """Settings that differ, each as `key: before -> now`."""

    decisive: list[str]
    rounding: list[str]


def changes(begun: Recipe, now: Recipe) -> Changes:
    """What differs between the recipe a run was begun with and the one it is resumed with, free settings apart."""
    before, after = (dict(_leaves(recipe.deciding())) for recipe in (begun, now))
    found = Changes([], [])
    for key in {**before, **after}:  # in the recipe's order
        if before.get(key) != after.get(key) and not _FREE.fullmatch(key):
            kind = found.rounding if _ROUNDING.fullmatch(key) else found.decisive
            kind.append(f"{key}: {_shown(before.get(key))} -> {_shown(after.get(key))}")
    return found


def decisive_settings(recipe: Recipe) -> dict[str, Any]:
    """All that must stay, by dotted key: what a run's identity is made of."""
    leaves = _leaves(recipe.deciding())
    return {key: value for key, value in leaves if not (_FREE.fullmatch(key) or _ROUNDING.fullmatch(key))}


def require_resumable(begun: Recipe, now: Recipe, way_back: str, *, strict: bool) -> list[str]:
    """Lines to say of settings that round otherwise. `way_back` is the command that goes on with the recipe as it was.

    Raises `ConfigError` that names every setting with other results, and with `strict` those lines too.
    """
    decisive, rounding = changes(begun, now)
    if decisive:
        raise ConfigError(
            f"--resume: the recipe differs from the one the run was begun with: {', '.join(decisive)}; to go on as it "
            f"was begun: {way_back}"
        )
    return not_bit_for_bit(rounding, way_back, strict=strict)


def not_bit_for_bit(differing: list[str], way_back: str, *, strict: bool) -> list[str]:
    """A line for each difference. Raises `ConfigError` where there are some and the user wants none (`strict`)."""
    if differing and strict:
        raise ConfigError(
            f"--strict-resume: the run would not go on bit for bit: {', '.join(differing)}; make it as it was, or "
            f"leave --strict-resume out: {way_back}"
        )
    return [f"{difference}; the run continues, not bit for bit" for difference in differing]


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Values by dotted path; of a list that holds tables, those of each."""
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        value = dict(enumerate(value))
    if not isinstance(value, Mapping) or not value:
        yield key, value
        return
    for name, item in value.items():
        yield from _leaves(item, f"{key}.{name}" if key else str(name))


def _shown(value: Any) -> str:
    """As `repr`, but data written in a recipe does not fill the screen."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
