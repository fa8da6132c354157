"""What a check found, and how checks are run one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NoReturn

from rlhf.errors import UserError
from rlhf.rewards.building import AsksForModels
from rlhf.testing.verdicts import BrokenAnswer, cause_of

Outcome = Literal["ok", "failed", "skipped"]


@dataclass(frozen=True)
class Finding:
    """One check of one part: how it ended, and the cause in one line, or a figure worth knowing where all is well."""

    part: str  # "reward kindness", or "plugin" for what is nobody's in particular
    check: str
    outcome: Outcome
    cause: str = ""


class Failed(Exception):
    """The contract is broken; the message is the cause."""


class Skipped(Exception):
    """The check could not be made; the message says why, and how it could."""


Check = tuple[str, Callable[[], str]]
"""A name, and what makes the check: it returns a note, or raises `Failed` or `Skipped`."""


def run_checks(part: str, checks: Iterable[Check], on_start: Callable[[str], None] | None = None) -> Iterator[Finding]:
    """Findings in order. `on_start` is told of each check before it begins. An exception of the guest is a failure."""
    for name, check in checks:
        if on_start is not None:
            on_start(name)
        yield _finding(part, name, check)


def _finding(part: str, name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(part, name, "ok", check())
    except (Skipped, AsksForModels) as reason:
        return Finding(part, name, "skipped", str(reason))
    except (Failed, BrokenAnswer, UserError) as broken:  # they have their own words
        return Finding(part, name, "failed", str(broken))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a guest raises is what a check is for
        return Finding(part, name, "failed", f"it raised {cause_of(error)}")


def fail(cause: str) -> NoReturn:
    """Say that the contract is broken."""
    raise Failed(cause)
