"""CPO and SimPO against TRL's experimental `CPOTrainer`, ORPO against its `ORPOTrainer`: forward and gradient."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from rlhf.algorithms.chosen_likelihood import with_imitated_tokens
from rlhf.algorithms.cpo import CPOLoss
from rlhf.algorithms.orpo import ORPOLoss
from rlhf.algorithms.preference import PairLoss
from rlhf.algorithms.simpo import SimPOLoss
from rlhf.types import PolicyOutput, PreferenceBatch, TokenBatch
from tests.numerics.peers.trl_stand_in import random_rows, trainer

pytest.importorskip("trl", reason="the peer is a test-only extra: pip install 'rlhf[peers]'")

PAIRS, VOCAB = 6, 50


class GivenLogits(torch.nn.Module):
    """A model whose logits `[R, T, V]` are given."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(logits.clone())

    def forward(self, *_: object, **__: object) -> SimpleNamespace:
        return SimpleNamespace(logits=self.logits)


@pytest.fixture
def rows() -> tuple[TokenBatch, Tensor]:
    """2B rows, all chosen before all rejected, and logits for their tokens."""
    batch, _ = random_rows(2 * PAIRS)
    return batch, 2 * torch.randn(*batch.tokens.shape, VOCAB)


def peer(name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from trl.experimental.cpo import CPOTrainer
        from trl.experimental.orpo import ORPOTrainer
    return {"cpo": CPOTrainer, "orpo": ORPOTrainer}[name]


def theirs(name: str, rows: tuple[TokenBatch, Tensor], **options: Any) -> tuple[Tensor, Tensor]:
    """Loss and gradient for the logits; TRL marks prompts and padding with the label -100."""
    kind = peer(name)
    batch, logits = rows
    model = GivenLogits(logits)
    ready = {
        "concatenated_input_ids": batch.tokens,
        "concatenated_attention_mask": batch.attention_mask.long(),
        "concatenated_labels": torch.where(batch.response_mask, batch.tokens, -100),
    }
    surroundings = trainer(
        model,
        is_encoder_decoder=False,
        pad_token_id=0,
        padding_value=0,
        concatenated_inputs=lambda *_, **__: ready,
        get_batch_logps=kind.get_batch_logps,
        **options,
    )
    for method in ("concatenated_forward", "cpo_loss", "odds_ratio_loss"):
        if hasattr(kind, method):
            setattr(surroundings, method, getattr(kind, method).__get__(surroundings))
    loss, _ = kind.get_batch_loss_metrics(surroundings, model, {"chosen_labels": batch.tokens[:PAIRS]})
    loss.backward()
    assert model.logits.grad is not None
    return loss.detach(), model.logits.grad


def ours(rows: tuple[TokenBatch, Tensor], loss_fn: PairLoss) -> tuple[Tensor, Tensor]:
    """The same with chosen and rejected of a prompt next to each other."""
    batch, logits = rows
    order = torch.arange(2 * PAIRS).view(2, PAIRS).T.flatten()
    present_BK = torch.ones(PAIRS, 2, dtype=torch.bool)
    pairs = PreferenceBatch(candidates=batch[order], present_BK=present_BK, margin_B=torch.zeros(PAIRS))
    if isinstance(loss_fn, CPOLoss | ORPOLoss):
        pairs = with_imitated_tokens(pairs, loss_fn.count(pairs))
    leaf = logits.clone().requires_grad_()
    predicted = log_softmax(leaf[:, :-1], -1).gather(-1, batch.tokens[:, 1:, None]).squeeze(-1)
    logprobs = torch.cat([torch.zeros(2 * PAIRS, 1), predicted], dim=1)[order]
    loss = loss_fn(PolicyOutput(logprobs=logprobs, entropy=torch.zeros_like(logprobs)), pairs).total
    loss = loss / loss_fn.count(pairs)
    loss.backward()
    assert leaf.grad is not None
    return loss.detach(), leaf.grad


def assert_equal(got: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    for mine, value in zip(got, expected, strict=True):
        torch.testing.assert_close(mine, value, atol=1e-5, rtol=1e-5)
    assert expected[1].abs().max() > 1e-3


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("nll_coef", [0.0, 1.0, 0.3])
def test_cpo(rows, smoothing: float, nll_coef: float) -> None:
    options = {"loss_type": "sigmoid", "simpo_gamma": 0.0, "alpha": 0.0}
    expected = theirs("cpo", rows, beta=0.2, label_smoothing=smoothing, cpo_alpha=nll_coef, **options)
    assert_equal(ours(rows, CPOLoss(0.2, nll_coef, smoothing)), expected)


@pytest.mark.parametrize(("beta", "gamma"), [(2.0, 0.5), (2.5, 1.4), (1.0, 0.0)])
def test_simpo(rows, beta: float, gamma: float) -> None:
    options = {"loss_type": "simpo", "label_smoothing": 0.0, "cpo_alpha": 0.0, "alpha": 0.0}
    assert_equal(ours(rows, SimPOLoss(beta, gamma)), theirs("cpo", rows, beta=beta, simpo_gamma=gamma, **options))


def test_orpo_where_the_whole_row_is_the_completion(rows) -> None:
    """TRL's likelihood term speaks of the prompt as well; with no prompt to speak of the two are one."""
    batch, logits = rows
    later = torch.arange(batch.tokens.shape[1]) > 0
    whole = TokenBatch(
        tokens=batch.tokens, attention_mask=batch.attention_mask, response_mask=batch.attention_mask & later
    )
    assert_equal(ours((whole, logits), ORPOLoss(0.3)), theirs("orpo", (whole, logits), beta=0.3))


def test_theirs_trains_orpo_on_prompts_and_ours_does_not(rows) -> None:
    """The paper's likelihood is of the response given the prompt, log P(y|x) (equations 1, 2 and 6), and so is ours:
    no gradient reaches what predicts a prompt. Without what TRL adds for prompts the two agree again.
    """
    batch, logits = rows
    assert (~batch.response_mask & batch.attention_mask)[:PAIRS, 1:].any()
    predicts_prompt = (batch.attention_mask & ~batch.response_mask).roll(-1, dims=1)
    predicts_prompt[:, -1] = False
    (loss, gradient), (their_loss, their_gradient) = ours(rows, ORPOLoss(0.3)), theirs("orpo", rows, beta=0.3)
    assert (gradient[predicts_prompt] == 0).all()
    assert (their_gradient[:PAIRS][predicts_prompt[:PAIRS]] != 0).any()
    assert abs(loss - their_loss) > 1e-3
    everything = batch.attention_mask & (torch.arange(batch.tokens.shape[1]) > 0)
    nll = _mean_nll(logits[:PAIRS], batch.tokens[:PAIRS], everything[:PAIRS])
    conditional = _mean_nll(logits[:PAIRS], batch.tokens[:PAIRS], batch.response_mask[:PAIRS])
    torch.testing.assert_close(loss - conditional, their_loss - nll, atol=1e-5, rtol=1e-5)


def test_theirs_is_nan_for_a_completion_that_is_certain(rows) -> None:
    """log(1 - e^x) is taken in two branches there, and the gradient of the branch not taken is infinite near x = 0."""
    surroundings = SimpleNamespace(beta=0.1, accelerator=SimpleNamespace(device="cpu"))
    x = torch.tensor([-1e-8], requires_grad=True)
    peer("orpo").odds_ratio_loss(surroundings, x, torch.tensor([-1.0]))[0].sum().backward()
    assert x.grad is not None
    assert x.grad.isnan().all()
    batch, logits = rows
    sure = logits + 200 * torch.nn.functional.one_hot(batch.tokens.roll(-1, dims=1), VOCAB)
    loss, gradient = ours((batch, sure), ORPOLoss(0.3))
    assert loss.isfinite()
    assert gradient.isfinite().all()


def _mean_nll(logits: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    predicted = log_softmax(logits[:, :-1], -1).gather(-1, tokens[:, 1:, None]).squeeze(-1)
    return -predicted[mask[:, 1:]].mean()
