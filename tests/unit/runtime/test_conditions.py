"""A run says when it goes on under conditions that may round otherwise than those it had."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlhf.errors import ConfigError
from rlhf.plugins import load_plugins
from rlhf.recipe import load_recipe
from rlhf.runtime.conditions import FILE_NAME, conditions, keep_conditions
from rlhf.runtime.plan import StagePlan, plan_stage
from tests.tiny_runs import SFT, changed, single


def plan(folder: Path, **changes: Any) -> StagePlan:
    recipe = load_recipe(changed(single(SFT), {key.replace("__", "."): value for key, value in changes.items()}))
    return plan_stage(recipe, "sft", load_plugins(recipe.plugins), folder)


def test_what_is_kept_names_versions_machine_and_roles(tmp_path: Path) -> None:
    found = conditions(plan(tmp_path))
    assert {"python", "torch", "transformers", "CPU instructions", "threads"} <= found.keys()
    assert found["threads"] == "1"
    assert {name: found[f"policy {name}"] for name in ("processes", "engine", "attention")} == {
        "processes": "1",
        "engine": "torch",
        "attention": "auto",
    }


def test_a_resume_under_the_same_conditions_says_nothing(tmp_path: Path) -> None:
    for resumed in (False, True):
        assert keep_conditions(plan(tmp_path), resumed=resumed, strict=True, way_back="") == []


@pytest.mark.parametrize(
    ("name", "before", "said"),
    [
        ("torch", "1.0", "torch: 1.0 -> "),
        ("policy processes", "2", "policy processes: 2 -> 1; the run continues, not bit for bit"),
        ("policy dtype", "bfloat16", "policy dtype: bfloat16 -> float32; the run continues, not bit for bit"),
        ("threads", "8", "threads: 8 -> 1; the run continues, not bit for bit"),
        ("vanished", "1.0", "vanished: 1.0 -> none; the run continues, not bit for bit"),
    ],
)
def test_each_difference_is_a_line_and_an_error_where_bits_matter(
    name: str, before: str, said: str, tmp_path: Path
) -> None:
    wanted = plan(tmp_path, model__dtype="float32")
    keep_conditions(wanted, resumed=False, strict=False, way_back="")
    path = tmp_path / FILE_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), name: before}))
    with pytest.raises(ConfigError, match=rf"--strict-resume: .*{name}: {before} -> .*: rlhf train \.\.\."):
        keep_conditions(wanted, resumed=True, strict=True, way_back="rlhf train ...")
    (line,) = keep_conditions(wanted, resumed=True, strict=False, way_back="")
    assert line.startswith(said)
    assert keep_conditions(wanted, resumed=True, strict=True, way_back="") == [], "those of the last session count"


def test_a_stage_that_begins_has_nothing_to_be_compared_with(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("{}")
    assert keep_conditions(plan(tmp_path), resumed=False, strict=True, way_back="") == []
