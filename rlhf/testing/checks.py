"""The contract as functions of Python, for an author's own tests."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rlhf.protocols import Grader, RewardFn
from rlhf.testing.building import function_judge
from rlhf.testing.contract import Subject, judging_checks, rows_meant_for
from rlhf.testing.findings import Check, Finding, run_checks
from rlhf.testing.footprints import RandomNumbers, Settings, captured_stdout, require_quiet
from rlhf.testing.rollouts import ordinary_rollouts
from rlhf.testing.verdicts import GraderJudge, Judge, RewardJudge
from rlhf.types import Rollout

Answer = tuple[float | None, str | None]
"""A value, or an error, or neither: a verdict as plain data."""


def check_reward(reward: RewardFn | Callable[..., Any], rows: Sequence[Rollout] | None = None) -> None:
    """Hold a reward, or a plain function, to the contract. `rows` are some it is meant for, with the columns it needs;
    a few everyday ones where absent (`rlhf.testing.rollout` makes one).

    Raises `AssertionError` listing what is broken; a check that cannot be made is passed over.
    """
    build = partial(function_judge, _name_of(reward), reward) if _is_plain(reward) else partial(_reward, reward)
    _require_sound(part_findings(f"reward {_name_of(reward)}", build, rows))


def check_grader(grader: Grader, rows: Sequence[Rollout] | None = None) -> None:
    """Hold a grader to the contract; as `check_reward`."""
    _require_sound(part_findings(f"grader {type(grader).__name__}", partial(GraderJudge, grader), rows))


def check_plugin(
    target: str | Path,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    data: str | Path | None = None,
    timeout: float = 60.0,
) -> None:
    """All of `rlhf plugins check`: a package's folder, an installed plugin's name, FILE.py or FILE.py:FUNCTION, in a
    process of its own. `options` of its parts, by the part's name; `data` is a file of rows they are meant for.

    Raises `AssertionError` as `check_reward` does, and `UserError` where there is no such plugin.
    """
    from rlhf.testing.plugin_check import check_target

    _require_sound(check_target(str(target), options or {}, None if data is None else Path(data), timeout))


def part_findings(
    part: str,
    build: Callable[[], Judge],
    rows: Sequence[Rollout] | None = None,
    on_start: Callable[[str], None] | None = None,
) -> Iterable[Finding]:
    """The findings on one reward or grader, as they come."""
    settings, generators = Settings(), RandomNumbers()
    has_own_rows = rows is not None
    subject = Subject(build, ordinary_rollouts() if rows is None else list(rows), has_own_rows)
    with captured_stdout() as output:
        built: list[Check] = []
        yield from run_checks(part, [("builds", partial(_builds, subject, built))], on_start)
        if not built:
            return
        yield from run_checks(part, built, on_start)
        if len(built) == 1:  # why it cannot be judged with
            return
    after: list[Check] = [
        ("standard output", partial(require_quiet, output)),
        ("process settings", settings.require_unchanged),
        ("random numbers", generators.require_unchanged),
    ]
    yield from run_checks(part, after, on_start)


def answers_of(build: Callable[[], Judge], rows: Sequence[Rollout] | None = None) -> list[Answer]:
    """What it says of each row it is meant for."""
    judge = build()
    mine = rows_meant_for(judge, rows)
    with captured_stdout():
        return [(verdict.value, verdict.error) for verdict in judge.judge(mine)]


def _builds(subject: Subject, checks: list[Check]) -> str:
    checks += judging_checks(subject)
    return ""


def _require_sound(findings: Iterable[Finding]) -> None:
    failed = [finding for finding in findings if finding.outcome == "failed"]
    if failed:
        lines = "".join(f"\n  {f.part}, {f.check}: {f.cause}" for f in failed)
        raise AssertionError(f"the contract is broken ({len(failed)} checks):{lines}")


def _is_plain(reward: object) -> bool:
    """A function of texts and columns, and not one of rollouts."""
    return inspect.isroutine(reward) and list(inspect.signature(reward).parameters) != ["rollouts"]


def _reward(reward: RewardFn) -> Judge:
    return RewardJudge(reward, getattr(reward, "columns", ()))


def _name_of(reward: object) -> str:
    return getattr(reward, "__name__", type(reward).__name__)
