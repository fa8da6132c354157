"""The reward `ifeval`: how far a response follows the checkable instructions of its row."""

from __future__ import annotations

from collections.abc import Sequence

from rlhf.errors import DataError
from rlhf.protocols import Parts
from rlhf.types import Rollout, Score
from rlhf_ifeval.checked import COLUMNS, CheckConfig, check


class IfevalReward:
    """0 to 1; both credits are logged as the parts `share` and `all`. Says nothing of a row without instructions."""

    columns = COLUMNS

    def __init__(self, config: CheckConfig, parts: Parts) -> None:
        self.config = config

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        return [self._score(rollout) for rollout in rollouts]

    def _score(self, rollout: Rollout) -> Score:
        try:
            checked = check(rollout, self.config.verdict)
        except DataError as error:  # of this row alone
            return Score(error=str(error))
        if checked is None:
            return Score()
        return Score(value=checked.worth(self.config.credit), parts={"share": checked.share, "all": checked.all})
