"""Methods of every family end with the same weights on Ray as in one process, bit for bit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import rlhf
from tests.shrunk_recipes import last_stage_from, methods, shrunk
from tests.tiny_runs import assert_same_weights, weights_of

pytestmark = [pytest.mark.ray, pytest.mark.slow]

EVERY = "RLHF_TEST_EVERY_METHOD"
OF_EACH_FAMILY = ("kto", "dapo")
"""They stand for the ways in which methods use the runtime; all of `methods()` take a quarter of an hour."""


def test_the_names_are_those_of_shipped_recipes() -> None:
    assert set(OF_EACH_FAMILY) <= set(methods())


@pytest.mark.parametrize("name", methods() if os.environ.get(EVERY) else OF_EACH_FAMILY)
def test_weights_and_figures_are_equal(ray_up: None, name: str, tmp_path: Path) -> None:
    whole = rlhf.train(shrunk(name), out=tmp_path / "whole")
    runs = {
        kind: rlhf.train(last_stage_from(shrunk(name, kind), whole.folder), out=tmp_path / kind)
        for kind in ("inline", "ray")
    }
    assert_same_weights(runs["inline"].model, runs["ray"].model)
    recipe = last_stage_from(shrunk(name), whole.folder)
    begun_from = next(iter(recipe.get("stages", {"": recipe}).values()))["model"]
    start = weights_of(Path(begun_from) if isinstance(begun_from, str) else runs["ray"].folder / "initial")
    assert start
    assert any(not start[key].equal(value) for key, value in weights_of(runs["ray"].model).items() if key in start)
    inline, ray = (
        [{key: value for key, value in row.items() if not key.startswith("time")} for row in run.metrics]
        for run in runs.values()
    )
    assert inline == ray
    assert runs["inline"].summary["stages"][0]["held_out"] == runs["ray"].summary["stages"][0]["held_out"]
