"""Online DPO's pairs, steps and options; what happens where a reward tells nothing apart."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

import rlhf
from rlhf.algorithms.dpo import DPOLoss
from rlhf.algorithms.online_dpo import OnlineDPO, OnlineDPOConfig
from rlhf.errors import ConfigError
from rlhf.types import PolicyOutput, ScoredBatch, TokenBatch
from tests.tiny_runs import DATA, ONLINE_DPO, SFT, changed, single, weights_of
from tests.unit.algorithms.scripted_run import Model, ScriptedRun

ALONE = {**ONLINE_DPO, "model": SFT["model"]}


def batch_of(scores: list[float], groups: list[int], truncated: list[int] = []) -> ScoredBatch:  # noqa: B006
    """Rows `[i, i, i]` whose last two tokens were sampled with log-prob -1."""
    rows = len(scores)
    tokens = torch.arange(rows).repeat_interleave(3).view(rows, 3)
    mask = torch.tensor([False, True, True]).expand(rows, 3)
    return ScoredBatch(
        tokens=tokens,
        attention_mask=torch.ones_like(mask),
        response_mask=mask,
        sampled_logprobs=torch.where(mask, -1.0, 0.0),
        scores_B=torch.tensor(scores),
        truncated_B=torch.tensor([i in truncated for i in range(rows)]),
        group_B=torch.tensor(groups),
    )


class Reference:
    """Each token of row i has log-prob -i."""

    def forward(self, batch: TokenBatch) -> PolicyOutput:
        logprobs = -batch.tokens.float()
        return PolicyOutput(logprobs=logprobs, entropy=logprobs)


RUN: Any = SimpleNamespace(reference=Reference(), together=lambda *calls: [call() for call in calls])


def test_pairs_are_the_best_and_the_worst_with_their_reference_logprobs() -> None:
    batch = batch_of([1.0, 3.0, 2.0, 0.0, 5.0, 5.0, 7.0, 9.0], [0, 0, 0, 0, 1, 1, 2, 2])
    pairs, figures = OnlineDPO(OnlineDPOConfig(steps=1)).paired(RUN, batch)
    assert pairs.candidates.tokens[:, 0].tolist() == [1, 3, 7, 6]
    assert pairs.present_BK.tolist() == [[True, True]] * 2
    assert pairs.ref_logprobs_BK is not None
    assert pairs.ref_logprobs_BK.tolist() == [[-2, -6], [-14, -12]]
    assert type(pairs.candidates) is TokenBatch
    order = torch.tensor([1, 3, 7, 6])
    assert torch.equal(pairs.candidates.attention_mask, batch.attention_mask[order])
    assert torch.equal(pairs.candidates.response_mask, batch.response_mask[order])
    assert pairs.present_BK.dtype == torch.bool
    assert pairs.margin_B.tolist() == [0, 0]
    # 2 tokens a row: -2 against -2i, over the rows 0 to 7.
    assert figures == {"policy/kl_to_reference": 5.0, "preference/pairs": pytest.approx(2 / 3)}


def test_a_completion_that_was_cut_pays_for_it() -> None:
    batch = batch_of([1.0, 0.5], [0, 0], truncated=[0])
    for penalty, best_first in ((0.0, [0, 1]), (0.4, [0, 1]), (0.6, [1, 0])):
        pairs, _ = OnlineDPO(OnlineDPOConfig(steps=1, missing_eos_penalty=penalty)).paired(RUN, batch)
        assert pairs.candidates.tokens[:, 0].tolist() == best_first


def test_the_loss_is_that_of_dpo_with_the_same_options() -> None:
    config = OnlineDPOConfig(steps=1, loss="robust", beta=0.4, label_smoothing=0.1, length_normalised=True)
    assert OnlineDPO(config).loss == DPOLoss(0.4, "robust", 0.1, True)


def test_schedules_span_every_minibatch() -> None:
    assert OnlineDPO(OnlineDPOConfig(steps=1, prompts_per_step=9, minibatch_size=4)).updates_per_step == 3


# --- the loop --------------------------------------------------------------------------------------------------------


def stepped(rewards: Any, steps: int) -> ScriptedRun:
    run = ScriptedRun(rewards=rewards, policy=Model(torch.zeros(0)), reference=Model(torch.zeros(0)), num_steps=steps)
    method = OnlineDPO(OnlineDPOConfig(steps=steps, prompts_per_step=3, samples_per_prompt=4, minibatch_size=2))
    assert method.num_steps(1000) == steps
    assert method.needs == {"policy", "reference", "rollout"}
    method.run(run)  # type: ignore[arg-type]
    return run


def test_a_step_learns_once_from_each_pair_and_hands_the_policy_over() -> None:
    run = stepped(lambda prompt, sample: float(sample), steps=2)
    assert run.asked == [(["p0", "p1", "p2"], 4, False), (["p3", "p4", "p5"], 4, False)]
    assert [len(pairs) for pairs, _ in run.policy.trained] == [2, 1, 2, 1]
    assert all(loss == DPOLoss(0.1) for _, loss in run.policy.trained)
    assert run.published == 2
    # The n-th update reports a KL of 0.01 n.
    assert [figures["policy/approx_kl"] for _, figures, _ in run.finished] == pytest.approx([0.015, 0.035])
    assert [figures["preference/pairs"] for _, figures, _ in run.finished] == [1, 1]
    assert [len(rollouts) for _, _, rollouts in run.finished] == [12, 12]


def test_steps_without_a_pair_pass_and_the_first_of_them_is_said() -> None:
    run = stepped(lambda prompt, sample: 0.7 if prompt < "p6" else float(sample), steps=3)
    assert run.notes == ["step 1: no update, for the rewards of every prompt's completions are alike"]
    assert run.published == 1
    assert [figures["preference/pairs"] for _, figures, _ in run.finished] == [0, 0, 1]
    assert ["policy/loss" in figures for _, figures, _ in run.finished] == [False, False, True]


# --- measuring and options -------------------------------------------------------------------------------------------


def test_held_out_figures_by_hand() -> None:
    batch = batch_of([1.0, 3.0], [0, 1])
    policy = SimpleNamespace(forward=lambda rows: PolicyOutput(logprobs=-0.5 * rows.tokens.float(), entropy=None))
    run: Any = SimpleNamespace(
        **vars(RUN),
        policy=policy,
        held_out_prompts=lambda: ["a", "b"],
        sample=lambda prompts, num: [*prompts] * num,
        score=lambda rollouts: rollouts,
        collate=lambda rollouts: {2: batch}[len(rollouts)],
    )
    # 2 tokens a row: -i / 2 against -i each.
    assert OnlineDPO(OnlineDPOConfig(steps=1)).measure(run) == {"reward": [1.0, 3.0], "kl_to_reference": [0.0, 1.0]}
    run.held_out_prompts = list
    assert OnlineDPO(OnlineDPOConfig(steps=1)).measure(run) == {}


def test_where_the_reward_tells_nothing_apart_nothing_is_learned_and_it_is_said(tmp_path) -> None:
    run = rlhf.train(single({**ALONE, "reward": "constant"}, data={**DATA, "num_prompts": 9}), out=tmp_path / "run")
    assert [row["preference/pairs"] for row in run.metrics] == [0, 0, 0]
    assert all("policy/loss" not in row for row in run.metrics)
    start, end = (weights_of(path) for path in (tmp_path / "run" / "initial", run.model))
    assert start.keys() == end.keys()
    assert all(torch.equal(start[name], end[name]) for name in end)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"algorithm.samples_per_prompt": 1}, r"algorithm\.samples_per_prompt: .*greater than or equal to 2"),
        ({"algorithm.label_smoothing": 0.1, "algorithm.loss": "ipo"}, "has no meaning for the loss ipo"),
        ({"algorithm.missing_eos_penalty": -1.0}, r"algorithm\.missing_eos_penalty: .*greater than or equal to 0"),
        ({"reward": ()}, "online_dpo needs a reward"),
        ({"rollout.temperature": 0}, r"rollout\.temperature: 0 is greedy"),
    ],
)
def test_what_cannot_work_is_refused_in_a_line(tmp_path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        rlhf.train(changed(single(ALONE), changes), out=tmp_path / "run")
    assert "\n" not in str(caught.value)
