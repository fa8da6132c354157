"""What an author of a reward or a grader tests with: the contract of `rlhf plugins check`, from Python and pytest.

    from rlhf.testing import check_plugin, check_reward, rollout

    def test_short_answers_are_better():
        short, long = brevity([rollout("Why?", "Because."), rollout("Why?", "Because " * 50)])
        assert short > long

    def test_contract():
        check_reward(brevity)

`check_reward`, `check_grader` and `check_plugin` raise an `AssertionError` that lists what is broken. With pytest, the
fixtures `rlhf_contract` and `rlhf_rollout` give the same without an import. Importing this module loads no library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlhf.testing.checks import check_grader, check_plugin, check_reward
    from rlhf.testing.rollouts import ordinary_rollouts, rollout

__all__ = ["check_grader", "check_plugin", "check_reward", "ordinary_rollouts", "rollout"]


def __getattr__(name: str) -> Any:
    """The names of `__all__` on first use: pytest loads this package in every project where `rlhf` is installed."""
    if name in ("rollout", "ordinary_rollouts"):
        from rlhf.testing import rollouts

        return getattr(rollouts, name)
    if name in __all__:
        from rlhf.testing import checks

        return getattr(checks, name)
    raise AttributeError(f"module 'rlhf.testing' has no attribute {name!r}")
