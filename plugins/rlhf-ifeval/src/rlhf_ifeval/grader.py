"""The grader `ifeval_helpful`: to follow instructions is to help; its rationale names those that were not followed."""

from __future__ import annotations

from collections.abc import Sequence

from rlhf.errors import DataError
from rlhf.protocols import Parts
from rlhf.types import Axis, Grade, Rollout
from rlhf_ifeval.checked import COLUMNS, CheckConfig, Checked, check


class IfevalHelpfulGrader:
    """0 to 1 by the credit asked for. A row without instructions cannot be graded, which is an error."""

    axis: Axis = "helpful"
    columns = COLUMNS

    def __init__(self, config: CheckConfig, parts: Parts) -> None:
        self.config = config

    def grade(self, rollouts: Sequence[Rollout]) -> list[Grade]:
        return [self._grade(rollout) for rollout in rollouts]

    def _grade(self, rollout: Rollout) -> Grade:
        try:
            checked = check(rollout, self.config.verdict)
        except DataError as error:  # of this row alone
            return Grade(axis=self.axis, score=None, error=str(error))
        if checked is None:
            return Grade(axis=self.axis, score=None, rationale="no instructions to check")
        return Grade(axis=self.axis, score=checked.worth(self.config.credit), rationale=_rationale(checked))


def _rationale(checked: Checked) -> str:
    count, missed = len(checked.instructions), checked.missed
    told = f"{count - len(missed)} of {count} instructions followed"
    return f"{told}; not followed: {'; '.join(map(str, missed))}" if missed else told
