"""Errors that say what is wrong, what was given, where, and what to do.

Every class takes one message and nothing else, so that it survives pickling on its way out of a Ray worker.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """The user's input is at fault: the command line prints the one line and exits with 2."""


class ConfigError(UserError):
    """A recipe, an override or a part's options."""


class UnsupportedModel(ConfigError):
    """A model that this engine cannot run; another engine may."""


class DataError(UserError):
    """A data set: missing, malformed, of an unknown format, or not what the method needs."""


class PluginError(UserError):
    """A plugin that is broken, misspelt, in conflict, or not the same on every worker."""


class ResourceError(UserError):
    """More was asked of the machine or the cluster than it has."""


class RunError(Exception):
    """A run failed: the command line prints the root cause first and exits with 1."""


class WorkerDied(RunError):
    """An actor or training worker is gone (killed, out of memory, crashed)."""


class RewardError(RunError):
    """A reward or grader failed on too many rollouts, or returned what is not a list of finite numbers."""


class Interrupted(Exception):
    """The user or the scheduler asked the run to stop; it has saved and can be resumed. Exit 130 or 143."""

    def __init__(self, message: str, exit_code: int = 130) -> None:
        super().__init__(message, exit_code)
        self.exit_code = exit_code

    def __str__(self) -> str:
        return str(self.args[0])


def nearest(name: str, known: Iterable[str]) -> str:
    """`" Did you mean 'x'?"` for the closest known name, or an empty string where none is close."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {matches[0]!r}?" if matches else ""
