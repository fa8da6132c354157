"""Whole runs that draw samples ahead: how stale they are, what that changes, and that a restart changes nothing."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

import rlhf
from rlhf.errors import ConfigError
from rlhf.runtime.result import RunResult
from tests.integration.test_resume import command, interrupter, lines_of
from tests.tiny_runs import GRPO, REMAX, SFT, Recipe, assert_same_weights, changed, single, weights_of

LENGTH: Recipe = {**{key: value for key, value in GRPO.items() if key != "reward_model"}, "reward": "num_tokens"}


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A policy to start from."""
    return str(rlhf.train(single(SFT), out=tmp_path_factory.mktemp("start") / "run").model)


def recipe(start: str, staleness: int, method: Recipe = LENGTH, **changes: Any) -> Recipe:
    return changed(
        single({**method, "model": start}), {"rollout.max_staleness": staleness, "algorithm.steps": 5, **changes}
    )


def staleness_of(run: RunResult) -> list[float]:
    return [row["rollout/staleness"] for row in run.metrics]


def test_samples_lag_as_far_as_allowed_and_only_stale_ones_are_weighed(start: str, tmp_path: Path) -> None:
    run = rlhf.train(recipe(start, 2), out=tmp_path / "run")
    assert staleness_of(run) == [0, 1, 2, 2, 2]
    assert ["rollout/correction" in row for row in run.metrics] == [False, True, True, True, True]
    assert ["rollout/logprob_gap" in row for row in run.metrics] == [True, False, False, False, False]
    assert all(0.5 < row["rollout/effective_samples"] <= 1 for row in run.metrics[1:])


def test_the_first_step_is_that_of_a_run_that_waits(start: str, tmp_path: Path) -> None:
    waits, ahead = (rlhf.train(recipe(start, k), out=tmp_path / str(k)) for k in (0, 1))
    first = [{k: v for k, v in run.metrics[0].items() if not k.startswith("time")} for run in (waits, ahead)]
    assert first[1].pop("rollout/staleness") == 0
    assert first[0] == first[1]
    assert "rollout/staleness" not in waits.metrics[0]
    assert waits.metrics[1]["reward/mean"] != ahead.metrics[1]["reward/mean"], "drawn by another policy"


def test_a_method_with_two_calls_a_step_draws_both_ahead(start: str, tmp_path: Path) -> None:
    run = rlhf.train(recipe(start, 1, REMAX), out=tmp_path / "run")
    assert staleness_of(run) == [0, 1, 1, 1, 1]


@pytest.mark.parametrize("staleness", [0, 1])
def test_rewards_given_early_change_nothing(start: str, staleness: int, tmp_path: Path) -> None:
    late = rlhf.train(recipe(start, staleness), out=tmp_path / "late")
    early = rlhf.train(recipe(start, staleness, **{"rollout.stream": True}), out=tmp_path / "early")
    assert_same_weights(late.model, early.model)


def test_a_restart_goes_on_with_what_was_drawn_ahead(start: str, tmp_path: Path) -> None:
    asked = recipe(start, 2)
    whole = rlhf.train(asked, out=tmp_path / "whole")
    stopping = {**asked, "plugins": {"paths": [interrupter(tmp_path, step=2, number=signal.SIGINT)]}}
    assert command(stopping, tmp_path).returncode == 130
    assert command(stopping, tmp_path, "--resume").returncode == 0
    assert_same_weights(whole.model, tmp_path / "run" / "model")
    assert lines_of(tmp_path / "run") == lines_of(whole.folder)


def test_the_weights_do_change(start: str, tmp_path: Path) -> None:
    """Or else their equality would show nothing."""
    before, after = weights_of(Path(start)), weights_of(rlhf.train(recipe(start, 1), out=tmp_path / "run").model)
    assert any(not before[name].equal(after[name]) for name in before)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rollout.in_flight_updates": True}, "nothing is in flight where sampling waits; set max_staleness"),
        (
            {"rollout.in_flight_updates": True, "rollout.max_staleness": 1},
            r"rollout\.in_flight_updates: in one process nothing is written while the policy learns; set runtime\.type",
        ),
        ({"rollout.max_staleness": -1}, r"rollout\.max_staleness: input should be greater than or equal to 0"),
    ],
)
def test_what_cannot_overlap_is_refused_in_one_line(
    start: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        rlhf.train(recipe(start, 0, **changes), out=tmp_path / "run")
    assert "\n" not in str(caught.value)
