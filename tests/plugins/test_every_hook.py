"""One guest plugin that implements every hook, in a real run: what each was given, and what its result did."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import rlhf
from rlhf import hookspecs
from rlhf.cli.hooks import hook_reference

GUEST = Path(__file__).with_name("guest_with_everything.py")
RECIPE = {
    "name": "guest_run",
    "plugins": {"paths": [str(GUEST)]},
    "runtime": {"type": "inline"},
    "trackers": ["guest_tracker"],
    "algorithm": {"type": "guest_algorithm", "num_prompts": 3},
    "model": {
        "new": {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "context": 32, "tokenizer": {"type": "words"}}
    },
    "data": {"type": "guest_dataset", "question": "what is new ?"},
    "reward": [{"type": "guest_reward", "scale": 4}, {"type": "guest_function", "weight": 0.5}],
    "monitor": ["guest_grader"],
    "engine": {"type": "guest_train_engine", "mark": "trained by the guest"},
    "rollout": {"engine": {"type": "guest_rollout_engine", "answer": "nothing"}, "max_tokens": 4},
    "checkpoint": {"every": 1},
    "held_out_rows": 0,
}


@dataclass(frozen=True)
class GuestRun:
    """The finished run and the calls its hooks wrote down, in order."""

    result: Any
    events: list[tuple[str, dict[str, Any]]]

    def given_to(self, hook: str) -> list[dict[str, Any]]:
        return [given for name, given in self.events if name == hook]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> GuestRun:
    folder = tmp_path_factory.mktemp("guest") / "run"
    result = rlhf.train(RECIPE, out=folder)
    lines = (folder / "events.jsonl").read_text().splitlines()
    return GuestRun(result, [(event["hook"], event["given"]) for event in map(json.loads, lines)])


def test_every_hook_has_a_test() -> None:
    trees = [ast.parse(path.read_text()) for path in Path(__file__).parent.glob("test_*.py")]
    tests = {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    hooks = [hook.name for hook in hook_reference()]
    assert len(hooks) >= 13
    assert [name for name in hooks if f"test_{name}" not in tests] == []


def test_every_hookspec_is_in_the_reference() -> None:
    """A function of the file without `@hookspec` would never be called."""
    tree = ast.parse(Path(hookspecs.__file__).read_text())
    assert [node.name for node in tree.body if isinstance(node, ast.FunctionDef)] == [h.name for h in hook_reference()]


# --- parts -----------------------------------------------------------------------------------------------------------


def test_register_datasets(run: GuestRun) -> None:
    (sample, *_) = run.given_to("on_rollouts")[0]["prompts"]
    assert sample == "what is new ?"


def test_register_algorithms(run: GuestRun) -> None:
    assert run.result.summary["stages"][0]["algorithm"] == "guest_algorithm"
    assert len(run.given_to("on_rollouts")[0]["prompts"]) == 3


def test_register_train_engines(run: GuestRun) -> None:
    assert (run.result.model / "mark.txt").read_text() == "trained by the guest"


def test_register_rollout_engines(run: GuestRun) -> None:
    assert run.given_to("on_rollouts")[0]["answers"] == ["nothing"] * 3
    # The guest algorithm hands weights over after every step.
    assert [given["versions"] for given in run.given_to("on_rollouts")] == [[0, 0, 0], [1, 1, 1]]


def test_register_rewards(run: GuestRun) -> None:
    # 4 x the grader's 0.25, and half of the plain function's 2.
    assert run.given_to("on_rollouts")[0]["rewards"] == [2.0] * 3
    assert run.given_to("on_rollouts")[0]["parts"][0] == {"guest_reward": 1.0, "guest_function": 2.0}


def test_register_graders(run: GuestRun) -> None:
    assert run.given_to("on_step_end")[0]["metrics"]["gold/honest"] == 0.25


def test_register_trackers(run: GuestRun) -> None:
    assert (run.result.folder / "tracked.txt").read_text() == "1 2.0\n2 2.0\nclosed\n"


# --- the life of a run -----------------------------------------------------------------------------------------------


def test_on_run_start(run: GuestRun) -> None:
    (given,) = run.given_to("on_run_start")
    assert given["stage"] == "guest_algorithm"
    assert given["name"] == "guest_run"
    assert given["folder"] == str(run.result.folder)
    assert run.events[0][0] == "on_run_start"


def test_on_rollouts(run: GuestRun) -> None:
    assert [given["step"] for given in run.given_to("on_rollouts")] == [1, 2]


def test_on_step_end(run: GuestRun) -> None:
    given = run.given_to("on_step_end")
    assert [g["step"] for g in given] == [1, 2]
    assert given[0]["metrics"]["reward/mean"] == 2.0
    # The hook changed its copy.
    assert "on_step_end/was_here" not in run.result.metrics[0]


def test_should_stop(run: GuestRun) -> None:
    """Of five steps the run took two; it then ended as if that had been its last."""
    assert [given["step"] for given in run.given_to("should_stop")] == [1, 2]
    assert run.result.summary["stages"][0]["steps"] == 2
    assert run.result.model.is_dir()


def test_on_checkpoint(run: GuestRun) -> None:
    given = run.given_to("on_checkpoint")
    assert [g["step"] for g in given] == [1, 2]
    assert all(g["was_complete"] for g in given)


def test_on_run_end(run: GuestRun) -> None:
    (given,) = run.given_to("on_run_end")
    assert given["summary"]["steps"] == 2
    assert given["model_was_there"]
    assert run.events[-1][0] == "on_run_end"


def test_calling_order(run: GuestRun) -> None:
    step_1 = [name for name, given in run.events if given.get("step") == 1]
    assert [name for name in step_1 if name != "on_checkpoint"] == ["on_rollouts", "on_step_end", "should_stop"]


# --- what a hook may do wrong ----------------------------------------------------------------------------------------


def failing(tmp_path: Path, hook: str, parameters: str) -> Mapping[str, Any]:
    """The same recipe with one more plugin, whose hook raises."""
    path = tmp_path / "failing.py"
    path.write_text(f"from rlhf import hookimpl\n@hookimpl\ndef {hook}({parameters}):\n    raise OSError('my disk')\n")
    return RECIPE | {"plugins": {"paths": [str(GUEST), str(path)]}}


@pytest.mark.parametrize(("hook", "parameters"), [("on_run_start", "stage"), ("on_step_end", "step")])
def test_exception_of_a_hook_ends_the_run(tmp_path: Path, hook: str, parameters: str) -> None:
    with pytest.raises(OSError, match="my disk"):
        rlhf.train(failing(tmp_path, hook, parameters), out=tmp_path / "run")
    assert not (tmp_path / "run" / "summary.json").exists()
