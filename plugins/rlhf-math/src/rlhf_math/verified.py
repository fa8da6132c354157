"""`math_verify`: is the final answer equal to the reference as mathematics? Judged by the library math-verify."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pydantic import Field

from rlhf import PartConfig
from rlhf.errors import PluginError
from rlhf.protocols import Parts
from rlhf.types import Rollout, Score
from rlhf_math.answers import after_mark, after_thinking, is_balanced, last_boxed, last_tagged
from rlhf_math.checkers import INSTALL, CheckerPool, CheckLost, CheckStopped
from rlhf_math.latex_text import same_answer
from rlhf_math.references import BadReferenceError, final_answer, reference_of

_LONGEST_ANSWER = 2000
"""Characters. Reading takes time that grows faster than the text, and an answer is short."""


class VerifiedConfig(PartConfig):
    """Options of `math_verify`."""

    column: str = "reference"
    r"""Holds the answer, as LaTeX or a number: as it is, in the last \boxed{...} of a solution, or after "####"."""
    boxed_only: bool = False
    r"""Take an answer only from \boxed{...}. Else where there is no box: from <answer> tags, after "####", or after
    words like "the answer is".
    """
    seconds: float = Field(default=5.0, gt=0, le=600)
    """Processor time one comparison may take. An answer that needs more is not right."""
    workers: int = Field(default=2, ge=1, le=64)
    """Processes that compare; each takes about 80 MB."""


@dataclass(frozen=True)
class _Reading:
    """Whether the library can work with a reference, or why rows with it cannot be judged."""

    is_mathematics: bool
    fault: str | None = None


class Verified:
    """1 where the completion's answer equals the reference, else 0.

    Parts: `answered` (an answer was found that can be read), `stopped` (comparing it took too long or crashed the
    checker, which costs the completion its point and the run nothing) and `as_text` (the reference itself is beyond the
    library, which cannot read it or takes too long to work it out: it is compared as text, as `boxed` does). An empty
    or malformed reference is an error of its row.
    """

    def __init__(self, config: VerifiedConfig, parts: Parts) -> None:
        if importlib.util.find_spec("math_verify") is None:
            raise PluginError(f"reward 'math_verify' needs the library math-verify: {INSTALL}")
        self.config = config
        self.columns = (config.column,)
        self.pool = CheckerPool(config.workers, config.seconds)
        self._reading_of = functools.lru_cache(maxsize=4096)(self._read)  # samples of a prompt share its reference

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        if not rollouts:
            return []
        with ThreadPoolExecutor(min(self.config.workers, len(rollouts))) as threads:
            return list(threads.map(self._score, rollouts))

    def _score(self, rollout: Rollout) -> Score:
        try:
            reference = reference_of(rollout, self.config.column)
            if reference is None:
                return Score()
            expected = final_answer(reference)
            reading = self._reading_of(expected)
            if reading.fault is not None:
                return Score(error=reading.fault)
            given = self._request(rollout.completion.text)
            return self._compared(expected, given) if reading.is_mathematics else _compared_as_text(expected, given)
        except (BadReferenceError, CheckLost) as error:
            return Score(error=str(error))

    def _compared(self, expected: str, given: dict[str, str] | None) -> Score:
        if given is None:
            return _verdict(right=False, answered=False)
        try:
            reply = self.pool.ask({"reference": expected, **given})
        except CheckStopped:
            return _verdict(right=False, answered=True, stopped=True)
        return _verdict(right=reply["equal"], answered=reply["parsed"])

    def _read(self, expected: str) -> _Reading:
        """What the checker makes of a reference by itself."""
        try:
            is_mathematics: bool = self.pool.ask({"reference": expected})["parsed"]
        except CheckStopped:
            is_mathematics = False
        if not is_mathematics and not is_balanced(expected):
            return _Reading(False, f"the reference has braces that do not match, given {expected!r:.80}")
        return _Reading(is_mathematics)

    def _request(self, text: str) -> dict[str, str] | None:
        """The answer if the completion marks one, or the end of its text to look for words; None for neither."""
        text = after_thinking(text)
        answer = last_boxed(text)
        if answer is None and not self.config.boxed_only and "\\boxed" not in text:
            answer = last_tagged(text) or after_mark(text)
            if answer is None:
                return {"text": text[-_LONGEST_ANSWER:]} if text.strip() else None
        return {"answer": answer} if answer and len(answer) <= _LONGEST_ANSWER else None


def _compared_as_text(expected: str, given: dict[str, str] | None) -> Score:
    r"""For references beyond the library, such as `\aleph_0`."""
    answer = (given or {}).get("answer")
    return _verdict(
        right=answer is not None and same_answer(answer, expected), answered=answer is not None, as_text=True
    )


def _verdict(*, right: bool, answered: bool, stopped: bool = False, as_text: bool = False) -> Score:
    parts = {"answered": float(answered), "stopped": float(stopped), "as_text": float(as_text)}
    return Score(value=float(right), parts=parts)
