"""When a stage that lost a worker is begun again, and when that ends the run."""

from __future__ import annotations

import pytest

from rlhf.errors import ResourceError, RunError, WorkerDied
from rlhf.runtime.restarts import Restarts

HINT = "continue with: this"
LOSS = WorkerDied("policy worker 0 died: killed")


def restarts(most: int = 2) -> tuple[Restarts, list[str]]:
    notes: list[str] = []
    return Restarts(most, HINT, notes.append), notes


def test_it_goes_on_from_what_is_saved_and_says_so() -> None:
    some, notes = restarts()
    some.after(LOSS, "ppo", finished=7, saved=6)
    assert notes == ["policy worker 0 died: killed; going on after step 6, the last that is saved (restart 1)"]
    assert some.count == 1


def test_restarts_that_get_further_are_not_counted_against_it() -> None:
    some, _ = restarts(most=1)
    for step in range(1, 20):
        some.after(LOSS, "ppo", finished=step, saved=step)
    some.after(LOSS, "dpo", finished=0, saved=0)
    assert some.count == 20


@pytest.mark.parametrize("then", [7, 6], ids=["at the same step", "before it"])
def test_restarts_in_vain_are(then: int) -> None:
    some, _ = restarts(most=2)
    some.after(LOSS, "ppo", finished=7, saved=6)
    some.after(LOSS, "ppo", finished=then, saved=6)
    with pytest.raises(WorkerDied, match=rf"killed; begun again 2 times without getting beyond step {then}; .*{HINT}"):
        some.after(LOSS, "ppo", finished=then, saved=6)


def test_none_are_made_where_none_are_wanted() -> None:
    some, notes = restarts(most=0)
    with pytest.raises(WorkerDied, match=rf"^policy worker 0 died: killed; saved up to step 6; {HINT}$"):
        some.after(LOSS, "ppo", finished=7, saved=6)
    assert notes == []


def test_steps_that_are_not_saved_are_not_done_again_without_a_word() -> None:
    some, _ = restarts()
    with pytest.raises(WorkerDied, match=r"none of its 7 steps is saved: checkpoint\.every"):
        some.after(LOSS, "ppo", finished=7, saved=0)


def test_what_dies_before_its_first_step_would_die_again() -> None:
    some, _ = restarts()
    with pytest.raises(WorkerDied, match=r"^policy worker 0 died: killed$"):
        some.after(LOSS, "ppo", finished=0, saved=0)


def test_a_place_that_went_with_the_worker_is_told_beside_the_loss() -> None:
    some, _ = restarts()
    lack = ResourceError("runtime.workers: 4 CPUs needed, 2 available")
    with pytest.raises(ResourceError, match=r"^runtime\.workers"):
        some.after(lack, "ppo", finished=0, saved=0)
    some.after(LOSS, "ppo", finished=7, saved=6)
    with pytest.raises(RunError, match=rf"killed; it cannot be begun again: .* 2 available; {HINT}"):
        some.after(lack, "ppo", finished=6, saved=6)
