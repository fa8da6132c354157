"""Online DPO against TRL's experimental `OnlineDPOTrainer.training_step`: the same samples and rewards, one step."""

from __future__ import annotations

import warnings
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from rlhf.algorithms.online_dpo import OnlineDPO, OnlineDPOConfig
from rlhf.types import PolicyOutput, PreferenceBatch, ScoredBatch
from tests.numerics.peers.trl_stand_in import trainer

pytest.importorskip("trl", reason="the peer is a test-only extra: pip install 'rlhf[peers]'")

PROMPTS, WIDTH, EOS = 5, 6, 1


@pytest.fixture
def samples() -> dict[str, Tensor]:
    """Two completions of each prompt, those of one draw before those of the other, as TRL has them."""
    lengths = torch.tensor([3, 6, 2, 5, 4, 6, 1, 4, 6, 2])
    mask = torch.arange(WIDTH) < lengths[:, None]
    tokens = torch.where(mask, torch.randint(2, 20, mask.shape), 0)
    ended = lengths < WIDTH
    tokens[ended, lengths[ended] - 1] = EOS
    return {
        "tokens": tokens,
        "mask": mask,
        "truncated": ~ended,
        "logprobs": -3 * torch.rand(mask.shape),
        "ref": -3 * torch.rand(mask.shape),
        "rewards": torch.randn(2 * PROMPTS),
    }


def theirs(samples: dict[str, Tensor], beta: float, penalty: float | None) -> tuple[Tensor, Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from trl.experimental.online_dpo import OnlineDPOTrainer

    model = torch.nn.Module()
    model.logprobs = torch.nn.Parameter(samples["logprobs"].clone())
    reference = torch.nn.Module()
    reference.logprobs = samples["ref"]
    prompt = torch.zeros(2 * PROMPTS, 1)
    surroundings = trainer(
        model,
        ref_model=reference,
        beta=beta,
        eos_token_ids=[EOS],
        processing_class=SimpleNamespace(batch_decode=lambda ids, **_: ["" for _ in ids]),
        _generate=lambda *_: (prompt, prompt, samples["tokens"], samples["mask"].long(), None),
        _forward=lambda which, *_: which.logprobs,
        _calculate_rewards_from_functions=lambda **_: samples["rewards"].clone(),
        reward_funcs=[None],
        stats=defaultdict(list),
        state=SimpleNamespace(global_step=1),
    )
    surroundings.accelerator.backward = lambda loss, **_: loss.backward()
    surroundings.args = SimpleNamespace(
        use_vllm=False,
        missing_eos_penalty=penalty,
        loss_type="sigmoid",
        torch_empty_cache_steps=None,
        optim="adamw_torch",
        n_gpu=1,
        gradient_accumulation_steps=1,
    )
    loss = OnlineDPOTrainer.training_step(surroundings, model, {"prompt": ["?"] * PROMPTS})
    assert model.logprobs.grad is not None
    return loss, model.logprobs.grad


def paired(samples: dict[str, Tensor], config: OnlineDPOConfig) -> tuple[OnlineDPO, PreferenceBatch]:
    """Our method and the pairs it makes of the samples."""
    zero = torch.zeros_like(samples["ref"])
    batch = ScoredBatch(
        tokens=samples["tokens"],
        attention_mask=samples["mask"],
        response_mask=samples["mask"],
        sampled_logprobs=zero,
        scores_B=samples["rewards"],
        truncated_B=samples["truncated"],
        group_B=torch.arange(PROMPTS).repeat(2),
    )
    reference = SimpleNamespace(forward=lambda _: PolicyOutput(logprobs=samples["ref"], entropy=zero))
    run: Any = SimpleNamespace(reference=reference, together=lambda *calls: [call() for call in calls])
    method = OnlineDPO(config)
    return method, method.paired(run, batch)[0]


def ours(samples: dict[str, Tensor], beta: float, penalty: float) -> tuple[Tensor, Tensor]:
    method, pairs = paired(samples, OnlineDPOConfig(steps=1, beta=beta, missing_eos_penalty=penalty))
    assert len(pairs) == PROMPTS
    leaf = samples["logprobs"].clone().requires_grad_()
    # Pairs have lost their rows' numbers: found again by their tokens, which are all different.
    rows = [int((samples["tokens"] == row).all(1).nonzero()) for row in pairs.candidates.tokens]
    logprobs = leaf[torch.tensor(rows)]
    loss = method.loss(PolicyOutput(logprobs=logprobs, entropy=torch.zeros_like(logprobs)), pairs).total
    loss = loss / method.loss.count(pairs)
    loss.backward()
    assert leaf.grad is not None
    return loss.detach(), leaf.grad


@pytest.mark.parametrize("penalty", [0.0, 3.0])
@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_loss_and_gradient(samples: dict[str, Tensor], beta: float, penalty: float) -> None:
    expected, got = theirs(samples, beta, penalty or None), ours(samples, beta, penalty)
    for mine, value in zip(got, expected, strict=True):
        torch.testing.assert_close(mine, value, atol=1e-5, rtol=1e-5)
    assert expected[1].abs().max() > 1e-3


def test_theirs_prefers_one_of_two_equals_and_ours_neither(samples: dict[str, Tensor]) -> None:
    """Where the reward likes both completions as well, there is nothing to learn; TRL calls the first draw better."""
    tied = {**samples, "rewards": torch.ones(2 * PROMPTS)}
    assert theirs(tied, 0.5, None)[1].abs().max() > 1e-3
    assert len(paired(tied, OnlineDPOConfig(steps=1))[1]) == 0
