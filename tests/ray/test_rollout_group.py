"""Rollout engines as one: who writes a sample does not matter, nor whether an engine dies or hangs on the way."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import rlhf
from rlhf.config import ModelConfig, Part
from rlhf.errors import DataError, RunError, WorkerDied
from rlhf.types import Completion, Prompt, Sampling
from tests.tiny_runs import GRPO, SFT, assert_same_weights, single
from tests.unit.engines.families import write_model, write_tokenizer

pytestmark = [pytest.mark.ray, pytest.mark.slow]
EVERY = pytest.mark.skipif(not os.environ.get("RLHF_TEST_EVERY_METHOD"), reason="with RLHF_TEST_EVERY_METHOD=1")

# An engine that does to itself what befalls engines, once among all that share a folder of marks.
BEFALLEN = """
import os
import signal
from pathlib import Path

from rlhf import hookimpl
from rlhf.config import PartConfig


class Config(PartConfig):
    marks: str
    at: int


class Befallen:
    def __init__(self, config, model):
        from rlhf.engines.settings import TransformersRolloutConfig
        from rlhf.engines.transformers_rollout import TransformersRollout

        self.engine = TransformersRollout(TransformersRolloutConfig(), model)
        self.config, self.calls = config, 0

    def __getattr__(self, name):
        return getattr(self.engine, name)

    def stream(self, prompts, sampling):
        self.calls += 1
        network, forward = self.engine.network.base_model, self.engine.network.base_model.forward
        tokens = 0

        def stepping(*arguments, **options):
            nonlocal tokens
            tokens += 1
            if tokens == 3 and self.calls == self.config.at:
                self.befall()
            return forward(*arguments, **options)

        network.forward = stepping
        try:
            yield from self.engine.stream(prompts, sampling)
        finally:
            network.forward = forward

    def befall(self):
        for fate in ("SIGKILL", "SIGSTOP"):
            mark = Path(self.config.marks) / fate
            try:
                mark.unlink()  # by one of two that come at the same time
            except FileNotFoundError:
                continue
            (mark.parent / "pid").write_text(str(os.getpid()))
            os.kill(os.getpid(), getattr(signal, fate))


@hookimpl
def register_rollout_engines(register):
    register("befallen", Befallen, config=Config)
"""
PROMPTS = [Prompt(id=str(i), text="", token_ids=tuple(range(3, 4 + i * 3 % 11))) for i in range(9)]
SAMPLING = Sampling(max_tokens=24, num_samples=3, temperature=1.3, seed=4)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    write_tokenizer(folder)
    return write_model("llama", folder)


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    (tmp_path / "marks").mkdir()
    path = tmp_path / "befallen.py"
    path.write_text(BEFALLEN)
    return path


class Group:
    """Real actors with real engines, and what was said of them."""

    def __init__(self, plugin: Path, model: str, number: int, timeout: float = 60.0, at: int = 1) -> None:
        import ray

        from rlhf.plugins import PluginSettings
        from rlhf.runtime.rollout_group import RolloutGroup
        from rlhf.runtime.workers import RolloutWorker

        settings = PluginSettings(paths=(str(plugin),)).model_dump()
        self.workers: list[Any] = [
            RolloutWorker.options(num_cpus=0).remote(settings, {"OMP_NUM_THREADS": "1"}) for _ in range(number)
        ]
        part = Part(type="befallen", marks=str(plugin.parent / "marks"), at=at)
        ray.get([worker.build.remote(part, ModelConfig(path=model)) for worker in self.workers])
        self.notes: list[str] = []
        self.group = RolloutGroup(self.workers, timeout, self.notes.append)

    def close(self) -> None:
        import ray

        for worker in self.workers:
            ray.kill(worker)


@pytest.fixture
def make(ray_up: None, plugin: Path, model: str) -> Iterator[Any]:
    made: list[Group] = []

    def build(number: int, **options: Any) -> Group:
        made.append(Group(plugin, model, number, **options))
        return made[-1]

    yield build
    for one in made:
        one.close()


def tokens(groups: list[list[Completion]]) -> list[list[tuple[int, ...]]]:
    return [[completion.token_ids for completion in group] for group in groups]


def test_samples_do_not_depend_on_the_number_of_engines(make: Any) -> None:
    alone, three = make(1).group, make(3).group
    for prompts in (PROMPTS, PROMPTS[:2], []):
        assert tokens(alone.generate(prompts, SAMPLING)) == tokens(three.generate(prompts, SAMPLING))
    shuffled = random.Random(0).sample(range(9), 9)
    found = tokens(three.generate([PROMPTS[place] for place in shuffled], SAMPLING))
    expected = tokens(alone.generate(PROMPTS, SAMPLING))
    assert found == [expected[place] for place in shuffled]


@pytest.mark.parametrize(
    ("fate", "timeout", "said"),
    [
        ("SIGKILL", 60.0, "died: its process ended without a word: killed, out of memory"),
        pytest.param("SIGSTOP", 4.0, "hangs: no answer in 4 s (rollout.timeout)", marks=EVERY),
    ],
)
def test_prompts_of_a_lost_engine_are_answered_by_the_other(
    make: Any, plugin: Path, fate: str, timeout: float, said: str
) -> None:
    undisturbed = make(2).group.generate(PROMPTS, SAMPLING)
    two = make(2, timeout=timeout)
    mark = plugin.parent / "marks" / fate
    mark.touch()
    assert two.group.generate(PROMPTS, SAMPLING) == undisturbed, "bit for bit, log-probs included"
    assert not mark.exists()
    lost = two.group.take_reissued()
    assert lost in (4, 5)
    (note,) = two.notes
    assert said in note
    assert note.endswith(f"its {lost} prompts go to the others, and the run goes on with 1 rollout workers")
    assert tokens(two.group.generate(PROMPTS, SAMPLING)) == tokens(undisturbed)
    assert (two.group.take_reissued(), len(two.notes)) == (0, 1)
    assert _is_gone(int((mark.parent / "pid").read_text())), "what hangs would wake up some day and hold its memory"


def _is_gone(pid: int, seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize(
    ("fate", "said"),
    [("SIGKILL", "died: its process ended"), pytest.param("SIGSTOP", "hangs: no answer", marks=EVERY)],
)
def test_the_last_engine_ends_the_run(make: Any, plugin: Path, fate: str, said: str) -> None:
    (plugin.parent / "marks" / fate).touch()
    with pytest.raises(WorkerDied, match=f"^rollout worker 0 {said}"):
        make(1, timeout=4.0).group.generate(PROMPTS, SAMPLING)


def test_when_both_are_lost_the_second_is_named(make: Any, plugin: Path) -> None:
    for fate in ("SIGKILL", "SIGSTOP"):
        (plugin.parent / "marks" / fate).touch()
    two = make(2, timeout=4.0)
    with pytest.raises(WorkerDied, match="hangs: no answer"):
        two.group.generate(PROMPTS, SAMPLING)
    assert "died" in two.notes[0]


def test_weights_go_to_the_engines_that_live(make: Any, model: str) -> None:
    import ray

    two = make(2)
    os.kill(ray.get(two.workers[0].pid.remote()), signal.SIGKILL)
    weights = {name: tensor + 0.1 for name, tensor in AutoModelForCausalLM.from_pretrained(model).state_dict().items()}
    two.group.load_weights(iter(weights.items()), 5)
    assert two.notes == [n for n in two.notes if n.startswith("rollout worker 0 died") and "prompts" not in n]
    assert len(two.notes) == 1
    told = two.group.fingerprints()
    assert told is not None
    assert told["model.norm.weight"].values[0] == float(weights["model.norm.weight"][0])
    assert {c.policy_version for group in two.group.generate(PROMPTS, SAMPLING) for c in group} == {5}
    two.group.sleep()
    two.group.wake()


def test_engines_that_hold_other_weights_are_named(make: Any, model: str) -> None:
    import ray

    two = make(2)
    weights = dict(AutoModelForCausalLM.from_pretrained(model).state_dict())
    weights["model.norm.weight"] = weights["model.norm.weight"] + torch.rand(32)
    ray.get(two.workers[1].load_weights.remote([ray.put(list(weights.items()))], 1))
    with pytest.raises(RunError, match=r"^rollout worker 1 does not hold 1 of .* first 'model\.norm\.weight'"):
        two.group.fingerprints()


def test_mistakes_of_the_prompts_are_not_tried_elsewhere(make: Any) -> None:
    two = make(2)
    with pytest.raises(DataError, match="prompt 'x' has token 61"):
        two.group.generate([*PROMPTS, Prompt(id="x", text="", token_ids=(61,))], SAMPLING)
    assert two.notes == []
    assert len(two.group.generate(PROMPTS, SAMPLING)) == 9, "both are still there"


@EVERY
def test_a_run_that_loses_an_engine_learns_the_same(
    tmp_path: Path, plugin: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = rlhf.train(single(SFT), out=tmp_path / "start").model
    recipe = single(
        {**{key: value for key, value in GRPO.items() if key != "reward_model"}, "model": str(start)},
        "ray",
        reward="num_tokens",
        rollout__engine={"type": "befallen", "marks": str(plugin.parent / "marks"), "at": 2},
        plugins__paths=[str(plugin)],
        runtime__workers={"rollout": {"num": 2}},
    )
    undisturbed = rlhf.train(recipe, out=tmp_path / "undisturbed")
    (plugin.parent / "marks" / "SIGKILL").touch()
    capsys.readouterr()
    disturbed = rlhf.train(recipe, out=tmp_path / "disturbed")
    for name in ("samples.jsonl", "metrics.jsonl"):  # the first figure to differ says more than weights do
        assert _figures(disturbed.folder / name) == _figures(undisturbed.folder / name)
    assert_same_weights(undisturbed.model, disturbed.model)
    reissued = [row["rollout/reissued"] for row in disturbed.metrics]
    assert sum(reissued) == 3
    said = capsys.readouterr().err
    assert said.count("the run goes on with 1 rollout workers") == 1


def _figures(path: Path) -> list[dict[str, Any]]:
    """Rows without what depends on time, on who wrote a sample (the last bit of its log-probs), on being disturbed."""
    other = ("time", "logprob", "rollout/logprob", "rollout/reissued")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{name: value for name, value in row.items() if not name.startswith(other)} for row in rows]
