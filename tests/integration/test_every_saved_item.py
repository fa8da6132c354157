"""A checkpoint holds what is needed and nothing else: without any one of its items a run ends otherwise, or refuses.

The items are those that are found in real checkpoints, so that one that is added cannot be forgotten here.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

import rlhf
from rlhf.errors import RunError, UserError
from tests.integration.saved_items import as_in, copied, is_empty, is_nothing, kinds, same, without
from tests.tiny_runs import DATA, DPO, GRPO, PPO_LAGRANGIAN, RAFT, SFT, Recipe, changed, single
from tests.whole_and_resumed import differences

FIRST, STEP, LAST = 1, 3, 5
"""The first checkpoint, whose values are those an item starts from; the one to resume from; steps of a run."""

TINY: Recipe = {
    "hidden_size": 16,
    "num_layers": 1,
    "num_heads": 2,
    "context": 48,
    "tokenizer": {"type": "words", "vocab_size": 400},
}
WORLD: Recipe = {**DATA, "num_prompts": 24, "num_demonstrations": 60, "num_rankings": 30}
LORA: Recipe = {"rank": 2, "dropout": 0.2}
SCHEDULE: Recipe = {"optimizer.schedule": "cosine", "optimizer.warmup": 0.2}

FAULTS = '''
"""Rewards with faults of their own."""
import random

luck = random.SystemRandom()


def moody(prompt, completion, **columns):
    """A judge that never says the same twice."""
    return luck.random()


def broken(prompt, completion, **columns):
    """Knows one half of the prompts."""
    if sum(map(ord, str(prompt))) % 2:
        raise ValueError("no opinion")
    return 1.0
'''


class Kept(NamedTuple):
    """A whole run with a checkpoint of every step, and the error it ended with."""

    recipe: Recipe
    folder: Path
    error: str

    def checkpoint(self, step: int) -> Path:
        return self.folder / "checkpoints" / f"step-{step}"


def constrained(start: Path, folder: Path) -> Recipe:
    """Three trained roles, samples ahead, and whatever state rewards and coefficients have."""
    length = {"type": "num_tokens", "normalize": "running"}
    return changed(
        PPO_LAGRANGIAN,
        {
            "model": {"path": str(start), "lora": LORA},
            "value": {"model": {"path": str(start), "lora": LORA}},
            "reward": [length, {"type": "pocket_gold"}],
            "reward_model": None,
            "algorithm": {**PPO_LAGRANGIAN["algorithm"], "prompts_per_step": 4, "minibatch_size": 4},
            "algorithm.kl_target": 0.01,
            "algorithm.kl_horizon": 20,
            "algorithm.epochs": 1,
            "rollout.max_staleness": 1,
            "held_out_rows": 4,
            **SCHEDULE,
        },
    )


def long_rows(overlong: str) -> Callable[[Path, Path], Recipe]:
    def recipe(start: Path, folder: Path) -> Recipe:
        """Rows of which some are too long; from a mixture."""
        rows = [{"prompt": "stone " * (3 + n % 9), "completion": f"river {n}"} for n in range(20)]
        sources = [{"type": "rows", "rows": rows[:13], "share": 2}, {"type": "rows", "rows": rows[13:], "share": 1}]
        model = {"path": str(start), "max_length": 10}
        return changed(
            SFT,
            {"model": model, "data": {"type": "mixture", "sources": sources}, "rows.overlong": overlong},
        )

    return recipe


def documents(start: Path, folder: Path) -> Recipe:
    """Documents of several rows, of which a step takes a part."""
    texts = [{"text": " ".join(f"stone river {n} cloud" for n in range(at, at + 90))} for at in range(12)]
    algorithm = {"type": "pretrain", "batch_size": 2}
    return {"algorithm": algorithm, "model": str(start), "data": {"type": "rows", "rows": texts}, "held_out_rows": 0}


def remembered(start: Path, folder: Path) -> Recipe:
    """A reference that is asked once for each row, over several passes."""
    few = {"data": {**WORLD, "num_rankings": 15}, "algorithm.batch_size": 7}
    return changed(DPO, {"model": str(start), "algorithm.precompute_reference": True, **few})


def dynamic(start: Path, folder: Path) -> Recipe:
    """More prompts within a step where groups say nothing."""
    return changed(
        {key: value for key, value in GRPO.items() if key != "reward_model"},
        {
            "model": str(start),
            "reward": "pocket_gold",
            "algorithm.samples_per_prompt": 2,
            "algorithm.prompts_per_step": 4,
            "algorithm.minibatch_size": 4,
            "algorithm.max_sampling_rounds": 3,
        },
    )


def nothing_to_imitate(start: Path, folder: Path) -> Recipe:
    """Gives up after ten such steps in a row."""
    return changed(RAFT, {"model": str(start), "algorithm.min_reward": 9.0, "algorithm.prompts_per_step": 2})


def not_finite(start: Path, folder: Path) -> Recipe:
    """Gives up after three skipped steps in a row."""
    return changed(SFT, {"model": str(start), "optimizer.lr": 1e30, "optimizer.max_skipped": 2})


def moody(start: Path, folder: Path) -> Recipe:
    """A judge that would say something else if it were asked again; the policy says the same in every pass."""
    (folder / "faults.py").write_text(FAULTS)
    reward = {"type": f"{folder / 'faults.py'}:moody", "processes": 0, "cache": True}
    greedy = {"rollout.top_k": 1, "optimizer.lr": 1e-12, "data.num_prompts": 8, "algorithm.prompts_per_step": 4}
    return changed(RAFT, {"model": str(start), "data": WORLD, "reward": [reward], **greedy, "held_out_rows": 0})


def broken(start: Path, folder: Path) -> Recipe:
    """Ends the run once enough completions have failed to tell how often it fails."""
    (folder / "faults.py").write_text(FAULTS)
    reward = {"type": f"{folder / 'faults.py'}:broken", "processes": 0, "on_error": "drop", "max_error_rate": 0.1}
    asked = {"algorithm.prompts_per_step": 4, "algorithm.samples_per_prompt": 2, "held_out_rows": 0}
    return changed(RAFT, {"model": str(start), "reward": [reward], **asked})


RECIPES = {
    "constrained": constrained,
    "dropped": long_rows("drop"),
    "cut": long_rows("cut"),
    "documents": documents,
    "remembered": remembered,
    "dynamic": dynamic,
    "nothing to imitate": nothing_to_imitate,
    "not finite": not_finite,
    "moody": moody,
    "broken": broken,
}
LONGER = {"nothing to imitate": 12, "not finite": 9}
"""Where a run that forgot how often something happened in a row would end later than the whole one."""
Change = Callable[[Path], None]
FORGOTTEN = "as at the start"
EVERY = bool(os.environ.get("RLHF_TEST_EVERY_METHOD"))


@pytest.fixture(autouse=True)
def _without_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its curves take ten times as long as such a run, and are drawn from what is compared here."""
    monkeypatch.setattr("rlhf.runtime.pipeline.write_report", lambda folder: None)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy to start from."""
    recipe = single(changed(SFT, {"model.new": TINY, "data": WORLD, "held_out_rows": 0}))
    return rlhf.train(recipe, out=tmp_path_factory.mktemp("start") / "run").model


def whole_run(name: str, start: Path, folder: Path) -> Kept:
    own = RECIPES[name](start, folder)
    kept_all = {"checkpoint": {"every": 1, "keep": 99}, "algorithm.steps": LONGER.get(name, LAST)}
    recipe = changed(single({"data": WORLD, "held_out_rows": 4, **own}), kept_all)
    kept = Kept(recipe, folder / "whole", ended(recipe, folder / "whole"))
    assert kept.checkpoint(STEP).is_dir(), kept.error
    return kept


def ended(recipe: Recipe, out: Path, *, resume: bool = False) -> str:
    """Run it; the error it ends with, if it does."""
    try:
        rlhf.train(recipe, out=out, resume=resume)
    except (RunError, UserError) as error:
        return str(error).replace(str(out), "RUN")
    return ""


def noticed(kept: Kept, folder: Path, change: Change) -> list[str]:
    """What tells a run that goes on from a changed checkpoint from the whole one; empty where nothing does."""
    change(copied(kept.folder, folder, STEP))
    error = ended(kept.recipe, folder, resume=True)
    found = [f"ended with {error!r} and not with {kept.error!r}"] if error != kept.error else []
    found += differences(kept.folder, folder)
    shutil.rmtree(folder)
    return found


def ways(kept: Kept, kind: str) -> dict[str, Change]:
    """Of leaving out an item: it is not there; it is what it was in the first step, or nothing, where that differs."""
    first, here = kept.checkpoint(FIRST), kept.checkpoint(STEP)
    found: dict[str, Change] = {"without": lambda path: without(path, kind)}
    if not same(first, here, kind):
        found[FORGOTTEN] = lambda path: as_in(path, first, kind)
    elif not is_nothing(here, kind):
        found[FORGOTTEN] = lambda path: as_in(path, None, kind)
    return found


def tell(kept: Kept, folder: Path, asked: list[str], known: set[str]) -> list[str]:
    """The items that can be left out without anything being noticed. Those without which results are others, and not
    only what later checkpoints say, are added to `known`, and not forgotten again.
    """
    assert noticed(kept, folder / "again", lambda _: None) == [], "the checkpoint as it is"
    idle = []
    for kind in asked:
        for way, change in ways(kept, kind).items():
            if way == FORGOTTEN and of_any_role(kind) in known:
                continue
            found = noticed(kept, folder / "changed", change)
            if not found:
                idle.append(f"{kind} {way}")
            if way == FORGOTTEN and any("checkpoints/" not in what for what in found):
                known.add(of_any_role(kind))
    return idle


def of_any_role(kind: str) -> str:
    """Engines of all roles are saved by the same lines."""
    return re.sub(r"^(policy|value|cost_value|reward)(?=[ /])", "ROLE", kind)


def test_a_run_without_any_one_item_of_its_checkpoint_ends_otherwise(start: Path, tmp_path: Path) -> None:
    """The short form: the method with the most state, and what of it has changed by now."""
    kept = whole_run("constrained", start, tmp_path)
    first, here = kept.checkpoint(FIRST), kept.checkpoint(STEP)
    others = ("value", "cost_value")  # are saved as the policy is
    moved = [kind for kind in kinds(here) if not same(first, here, kind) and not kind.startswith(others)]
    assert tell(kept, tmp_path, moved, set()) == []


@pytest.mark.skipif(not EVERY, reason="minutes; with RLHF_TEST_EVERY_METHOD=1")
@pytest.mark.timeout(3000)
def test_every_saved_item_is_needed(start: Path, tmp_path: Path) -> None:
    """In every recipe leaving it out is noticed; in one of them it decides a figure, a sample or a weight."""
    idle: list[str] = []
    decisive: set[str] = set()
    asked: set[str] = set()
    for name in RECIPES:
        folder = tmp_path / name.replace(" ", "_")
        folder.mkdir()
        kept = whole_run(name, start, folder)
        there = kinds(kept.checkpoint(STEP))
        asked |= {of_any_role(kind) for kind in there if not is_empty(kept.checkpoint(STEP), kind)}
        unnoticed = tell(kept, folder, there, decisive)
        idle += [f"{name}: {what}" for what in unnoticed if not what.endswith(FORGOTTEN)]
    assert not idle
    assert " ".join(sorted(asked - decisive)) == "", "the recipes above do not exercise these, or nothing needs them"
