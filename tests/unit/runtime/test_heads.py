"""Rankings find the head they train by a column, and one that names none is refused before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rlhf.errors import ConfigError, DataError
from rlhf.plugins import load_plugins
from rlhf.recipe import check_parts, load_recipe
from rlhf.runtime.heads import head_of
from rlhf.runtime.plan import build_algorithm, plan_stage
from rlhf.types import Prompt, Ranking
from tests.tiny_runs import REWARD, single

ROWS = [
    {"prompt": "p", "chosen": "a", "rejected": "b", "kind": "kind"},
    {"prompt": "q", "chosen": "a", "rejected": "b", "kind": "useful"},
]


def recipe(heads: list[str], column: str = "kind", rows: list[dict[str, Any]] = ROWS) -> dict[str, Any]:
    algorithm = {**REWARD["algorithm"], "heads": heads, "head_column": column}
    return single({"algorithm": algorithm, "model": "m"}, data={"type": "rows", "rows": rows})


def plan(given: dict[str, Any]) -> Any:
    return plan_stage(load_recipe(given), "reward_model", load_plugins(), Path("r"))


def test_heads_go_to_the_engine_and_rows_find_theirs() -> None:
    given = recipe(["useful", "kind"])
    assert plan(given).specs["reward"].heads == ("useful", "kind")
    algorithm = build_algorithm(load_recipe(given).stages["reward_model"], load_plugins())
    row = Ranking(prompt=Prompt(id="0", text="p", metadata={"kind": "kind"}), completions=("a", "b"))
    assert head_of(row, algorithm) == 1
    plain = build_algorithm(load_recipe(single({**REWARD, "model": "m"})).stages["reward_model"], load_plugins())
    assert head_of(row, plain) is None
    assert plan(single({**REWARD, "model": "m"})).specs["reward"].heads == ()


def test_a_row_of_no_head_is_refused_with_the_nearest() -> None:
    with pytest.raises(
        DataError, match=r"its `kind` is 'useful', and the reward model's heads are usefull, kind\. Did you"
    ):
        plan(recipe(["usefull", "kind"]))
    with pytest.raises(DataError, match="its `axis` is None"):
        plan(recipe(["useful", "kind"], column="axis"))


def test_a_head_without_rows_is_refused() -> None:
    with pytest.raises(DataError, match="no ranking trains the head 'honest'"):
        plan(recipe(["useful", "kind", "honest"]))


@pytest.mark.parametrize("heads", [["one"], ["one", "one"]])
def test_one_head_or_two_of_a_name_are_refused(heads: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"algorithm\.heads: two heads or more are needed"):
        check_parts(load_recipe(recipe(heads)), load_plugins())
