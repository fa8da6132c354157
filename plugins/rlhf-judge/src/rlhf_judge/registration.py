"""What this package adds: each judge as a reward and as a grader. Loads neither openai nor torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from rlhf import PartConfig, hookimpl
from rlhf_judge.constitution.judging import ConstitutionConfig, ConstitutionJudge
from rlhf_judge.opinion import JudgeGrader, JudgeReward
from rlhf_judge.pairwise import PairwiseConfig, PairwiseJudge
from rlhf_judge.panel import PanelConfig, PanelJudge
from rlhf_judge.pointwise import JudgeConfig, PointwiseJudge

JUDGES: tuple[tuple[str, Callable[[Any], Any], type[PartConfig]], ...] = (
    ("judge", PointwiseJudge, JudgeConfig),
    ("judge_pairwise", PairwiseJudge, PairwiseConfig),
    ("judge_panel", PanelJudge, PanelConfig),
    ("judge_constitution", ConstitutionJudge, ConstitutionConfig),
)


@hookimpl
def register_rewards(register: Callable[..., None]) -> None:
    """Add `judge`, `judge_pairwise`, `judge_panel` and `judge_constitution`."""
    for name, judge, config in JUDGES:
        register(name, partial(_reward, judge), config=config)


@hookimpl
def register_graders(register: Callable[..., None]) -> None:
    """Add graders of the same names."""
    for name, judge, config in JUDGES:
        register(name, partial(_grader, judge), config=config)


def _reward(judge: Callable[[Any], Any], config: Any, _parts: Any) -> JudgeReward:
    return JudgeReward(judge(config))


def _grader(judge: Callable[[Any], Any], config: Any, _parts: Any) -> JudgeGrader:
    return JudgeGrader(judge(config), config.axis)
