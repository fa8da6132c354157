"""The DPO family against TRL's `DPOTrainer._compute_loss`, forward and gradient, on the same token log-probs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rlhf.algorithms.dpo import DPOLoss
from rlhf.functional.masked import masked_sum
from rlhf.types import PolicyOutput, PreferenceBatch, TokenBatch
from tests.numerics.peers.trl_stand_in import GivenLogprobs, inputs, random_rows, trainer

pytest.importorskip("trl", reason="the peer is a test-only extra: pip install 'rlhf[peers]'")

PAIRS = 6


@pytest.fixture
def rows() -> tuple[TokenBatch, Tensor, Tensor]:
    """2B rows with the log-probs of policy and reference; TRL puts all chosen before all rejected."""
    batch, logprobs = random_rows(2 * PAIRS)
    return batch, logprobs, -torch.rand_like(logprobs) * 3


def theirs(rows: tuple[TokenBatch, Tensor, Tensor], loss: str, beta: float, smoothing: float) -> tuple[Tensor, Tensor]:
    from trl.trainer.dpo_trainer import DPOTrainer

    batch, logprobs, ref_logprobs = rows
    model = GivenLogprobs(logprobs)
    surroundings = trainer(
        model,
        ref_model=GivenLogprobs(ref_logprobs),
        ld_alpha=None,
        precompute_ref_logps=False,
        f_divergence_type="reverse_kl",
        loss_types=[loss],
        loss_weights=[1.0],
        beta=beta,
        label_smoothing=smoothing,
        use_weighting=False,
    )
    result = DPOTrainer._compute_loss(surroundings, model, inputs(batch), return_outputs=False)
    result.backward()
    assert model.logprobs.grad is not None
    return result.detach(), model.logprobs.grad


def ours(rows: tuple[TokenBatch, Tensor, Tensor], loss_fn: DPOLoss) -> tuple[Tensor, Tensor]:
    """The same with chosen and rejected of a prompt next to each other."""
    batch, logprobs, ref_logprobs = rows
    order = torch.arange(2 * PAIRS).view(2, PAIRS).T.flatten()
    pairs = PreferenceBatch(
        candidates=batch[order],
        present_BK=torch.ones(PAIRS, 2, dtype=torch.bool),
        margin_B=torch.zeros(PAIRS),
        ref_logprobs_BK=masked_sum(ref_logprobs, batch.response_mask, dim=1)[order].view(PAIRS, 2),
    )
    leaf = logprobs.clone().requires_grad_()
    output = PolicyOutput(logprobs=leaf[order], entropy=torch.zeros_like(leaf))
    result = loss_fn(output, pairs).total / loss_fn.count(pairs)
    result.backward()
    assert leaf.grad is not None
    return result.detach(), leaf.grad


@pytest.mark.parametrize("beta", [0.1, 1.5])
@pytest.mark.parametrize(
    ("their_loss", "smoothing", "options"),
    [
        ("sigmoid", 0.0, {}),
        ("hinge", 0.0, {"loss": "hinge"}),
        ("ipo", 0.0, {"loss": "ipo"}),
        ("robust", 0.2, {"loss": "robust", "label_smoothing": 0.2}),
        ("sigmoid_norm", 0.0, {"length_normalised": True}),
    ],
)
def test_loss_and_gradient(rows, beta, their_loss, smoothing, options) -> None:
    expected = theirs(rows, their_loss, beta, smoothing)
    for got, value in zip(ours(rows, DPOLoss(beta, **options)), expected, strict=True):
        torch.testing.assert_close(got, value, atol=1e-5, rtol=1e-5)
    assert expected[1].abs().max() > 1e-3


def test_conservative_dpo_is_theirs_with_labels_right_and_turned_round(rows) -> None:
    """This version of TRL has no smoothing for the sigmoid loss; the mean over both labels is its definition."""
    batch, logprobs, ref_logprobs = rows
    swap = torch.arange(2 * PAIRS).roll(PAIRS)
    turned = (batch[swap], logprobs[swap], ref_logprobs[swap])
    (right, right_grad), (wrong, wrong_grad) = (theirs(x, "sigmoid", 0.3, 0.0) for x in (rows, turned))
    loss, gradient = ours(rows, DPOLoss(0.3, label_smoothing=0.2))
    torch.testing.assert_close(loss, 0.8 * right + 0.2 * wrong, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gradient, 0.8 * right_grad + 0.2 * wrong_grad[swap], atol=1e-5, rtol=1e-5)
