"""SFT's loss against TRL's `SFTTrainer.compute_loss` on the same log-probs."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from rlhf.algorithms.supervised import NextTokenLoss
from rlhf.types import PolicyOutput
from tests.numerics.peers.trl_stand_in import GivenLogprobs, random_rows, trainer

pytest.importorskip("trl", reason="the peer is a test-only extra: pip install 'rlhf[peers]'")


class Masked(GivenLogprobs):
    """Also says which tokens it was asked for."""

    def forward(self, labels: Tensor, **_: object) -> SimpleNamespace:
        return SimpleNamespace(**vars(super().forward(labels)), label_mask=labels[:, 1:] != -100)


def test_completion_only_cross_entropy_and_its_gradient() -> None:
    from trl.trainer.sft_trainer import SFTTrainer

    rows, logprobs = random_rows(6)
    model = Masked(logprobs)
    peer = trainer(model)
    peer.accelerator.parallelism_config = None
    peer.args = SimpleNamespace(loss_type="nll", average_tokens_across_devices=False)
    peer.compute_loss_func = peer.label_smoother = None
    labels = torch.where(rows.response_mask, rows.tokens, -100)
    inputs = {"input_ids": rows.tokens, "attention_mask": rows.attention_mask.long(), "labels": labels}
    theirs = SFTTrainer.compute_loss(peer, model, inputs)
    theirs.backward()

    ours_logprobs = logprobs.clone().requires_grad_()
    loss = NextTokenLoss()
    output = PolicyOutput(logprobs=ours_logprobs, entropy=torch.zeros_like(logprobs))
    ours = loss(output, rows).total / loss.count(rows)
    ours.backward()
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours_logprobs.grad, model.logprobs.grad, atol=1e-5, rtol=1e-5)
