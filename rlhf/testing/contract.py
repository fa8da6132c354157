"""The contract of rewards and graders: one answer a row, the same in any company, whatever the text.

Rows are judged one by one in production: batches differ from step to step, are split over processes, and hold what a
policy happens to write. So an answer may depend on its own row alone, and no text may raise.
"""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from rlhf.rewards.building import AsksForModels
from rlhf.testing.findings import Check, Failed, Skipped, fail
from rlhf.testing.footprints import require_nothing_left
from rlhf.testing.hostile_texts import ADVERSARIAL, CHARACTERS, EMPTY, GROUPS, LANGUAGES
from rlhf.testing.rollouts import ordinary_rollouts, rollout
from rlhf.testing.verdicts import BrokenAnswer, Judge, Verdict, cause_of, excerpt
from rlhf.types import Message, Prompt, Rollout

SLOW_S = 10.0
"""A row of 100,000 characters that takes longer holds up a whole batch."""


@dataclass(frozen=True)
class Subject:
    """A reward or a grader under test: how to build it, and rows it is meant for."""

    build: Callable[[], Judge]
    rows: Sequence[Rollout]
    has_own_rows: bool
    """The rows are its author's, with the columns it needs, and not our everyday ones."""


def judging_checks(subject: Subject) -> list[Check]:
    """Every check of how it judges, in the order they are best read."""
    judge = subject.build()
    missing = [name for name in judge.columns if name != "reference"] if not subject.has_own_rows else []
    if missing:
        reason = f"needs the data's {', '.join(map(repr, missing))}: give rows with these columns with --data"
        return [("judging", partial(_skip, reason))]
    subject = replace(subject, rows=rows_meant_for(judge, subject.rows if subject.has_own_rows else None))
    if not subject.rows:
        return [("judging", partial(_skip, f"no row of the data is for the axis {getattr(judge, 'axis', None)!r}"))]
    return [
        ("rows untouched", partial(_rows_untouched, judge, subject)),  # first: later ones share their rows
        ("answers", partial(_answers, judge, subject)),
        ("empty batch", partial(_empty_batch, judge)),
        ("one by one", partial(_one_by_one, judge, subject)),
        ("any order", partial(_any_order, judge, subject)),
        ("any company", partial(_any_company, judge, subject)),
        ("repeatable", partial(_repeatable, judge, subject)),
        *[(name, partial(_texts, judge, subject, texts)) for name, texts in GROUPS.items()],
        ("time", partial(_time, judge, subject)),
        ("nothing left running", partial(require_nothing_left, partial(judge.judge, subject.rows))),
    ]


def rows_meant_for(judge: Judge, rows: Sequence[Rollout] | None) -> list[Rollout]:
    """Those it speaks of; of everyday ones, where none are given, conversations alone for one that reads turns."""
    if rows is None:
        everyday = ordinary_rollouts()
        rows = [row for row in everyday if row.prompt.messages] if getattr(judge, "reads_turns", False) else everyday
    return [row for row in rows if judge.speaks_of(row)]


def _skip(reason: str) -> str:
    raise Skipped(reason)


# --- the rows it is meant for ----------------------------------------------------------------------------------------


def _answers(judge: Judge, subject: Subject) -> str:
    """A list of the right length; every item finite, an error or None; and some of them a number."""
    verdicts = _judged(judge, subject.rows)
    values = [verdict.value for verdict in verdicts if verdict.value is not None]
    if not values:
        hint = "" if subject.has_own_rows else "; give rows it is meant for with --data"
        raise Skipped(f"none of {len(verdicts)} rows got a number (the first: {verdicts[0]}){hint}")
    low, high = min(values), max(values)
    spread = f"{low:.4g} for every row" if low == high else f"{low:.4g} to {high:.4g}"
    rest = len(verdicts) - len(values)
    return spread + (f"; {rest} of {len(verdicts)} rows without a number" if rest else "")


def _empty_batch(judge: Judge) -> str:
    if judge.reads_columns:
        raise Skipped("a plain function is given its columns, of which a batch without rows has none")
    judge.judge([])
    return ""


def _one_by_one(judge: Judge, subject: Subject) -> str:
    together = _judged(judge, subject.rows)
    alone = [_judged(judge, [row])[0] for row in subject.rows]
    _require_same(together, alone, subject.rows, "in a batch", "alone")
    return ""


def _any_order(judge: Judge, subject: Subject) -> str:
    together = _judged(judge, subject.rows)
    for seed in (None, 0, 1):
        order = list(reversed(range(len(subject.rows))))
        if seed is not None:
            random.Random(seed).shuffle(order)
        moved = dict(zip(order, _judged(judge, [subject.rows[place] for place in order]), strict=True))
        found = [moved[place] for place in range(len(subject.rows))]
        _require_same(together, found, subject.rows, "in one order", "in another")
    return ""


def _any_company(judge: Judge, subject: Subject) -> str:
    """A hostile neighbour changes nobody's answer."""
    apart = _judged(judge, subject.rows)
    strangers = _with_texts(subject.rows, [*EMPTY, *LANGUAGES, *CHARACTERS, *ADVERSARIAL])
    mixed = [row for number, own in enumerate(subject.rows) for row in (own, strangers[number % len(strangers)])]
    found = _judged(judge, [*mixed, *strangers])[: len(mixed) : 2]
    _require_same(apart, found, subject.rows, "among its like", "among hostile rows")
    return ""


def _repeatable(judge: Judge, subject: Subject) -> str:
    first = _judged(judge, subject.rows)
    _require_same(first, _judged(judge, subject.rows), subject.rows, "at first", "when asked again")
    _require_same(first, _judged(subject.build(), subject.rows), subject.rows, "at first", "when built anew")
    return ""


def _rows_untouched(judge: Judge, subject: Subject) -> str:
    given = copy.deepcopy(list(subject.rows))
    judge.judge(given)
    for before, after in zip(subject.rows, given, strict=True):
        for name in ("messages", "metadata"):
            old, new = getattr(before.prompt, name), getattr(after.prompt, name)
            if old != new:
                fail(f"it changed the row's {name}, from {excerpt(old, 50)} to {excerpt(new, 50)}; work on a copy")
    return ""


# --- texts nobody meant ----------------------------------------------------------------------------------------------


def _texts(judge: Judge, subject: Subject, texts: Sequence[str]) -> str:
    """Each text as a completion, and as a prompt too: one answer each, and none takes for ever."""
    slowest, errors, total = 0.0, 0, 0
    for number, text in enumerate(texts):
        prompted = subject.rows[number % len(subject.rows)]
        for row in (rollout(prompted.prompt, text), _with_prompt(prompted, text)):
            started = time.perf_counter()
            try:
                verdicts = _judged(judge, [row])
            except (Failed, BrokenAnswer, AsksForModels):
                raise
            except Exception as error:  # noqa: BLE001 - any exception is a broken contract; this names the text
                fail(f"it raised {cause_of(error)}, for the text {excerpt(text, 50)!r}")
            slowest = max(slowest, time.perf_counter() - started)
            errors += verdicts[0].error is not None
            total += 1
    if slowest > SLOW_S:
        fail(f"one row took {slowest:.0f} s; at most {SLOW_S:.0f} s")
    took = f"at most {_duration(slowest)} a row"
    return took if not errors else f"{took}; {errors} of {total} could not be judged, and it says so"


def _time(judge: Judge, subject: Subject) -> str:
    started = time.perf_counter()
    _judged(judge, subject.rows)
    return f"{_duration((time.perf_counter() - started) / len(subject.rows))} a row"


def _with_texts(rows: Sequence[Rollout], texts: Sequence[str]) -> list[Rollout]:
    """Rows of the same prompts, hence with all their columns, and these completions."""
    return [rollout(rows[number % len(rows)].prompt, text) for number, text in enumerate(texts)]


def _with_prompt(row: Rollout, text: str) -> Rollout:
    """The text as question and answer both; the other columns as they are."""
    prompt: Prompt = replace(row.prompt, text=None, messages=(Message(role="user", content=text),))
    return rollout(prompt, text)


# --- comparing -------------------------------------------------------------------------------------------------------


def _judged(judge: Judge, rows: Sequence[Rollout]) -> list[Verdict]:
    verdicts = judge.judge(rows)
    for row, verdict in zip(rows, verdicts, strict=True):
        if verdict.fault is not None:
            fail(f"{verdict.fault}, for the completion {excerpt(row.completion.text, 50)!r}")
    return verdicts


def _require_same(
    first: Sequence[Verdict], second: Sequence[Verdict], rows: Sequence[Rollout], here: str, there: str
) -> None:
    for one, other, row in zip(first, second, rows, strict=True):
        if not one.agrees_with(other):
            fail(f"{one} {here}, {other} {there}, for the completion {excerpt(row.completion.text, 50)!r}")


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"
