"""CPO, ORPO and SimPO on token rows: by definition, however a batch is cut; and their options."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import rlhf
from rlhf.algorithms.chosen_likelihood import with_imitated_tokens
from rlhf.algorithms.cpo import CPO, CPOConfig, CPOLoss
from rlhf.algorithms.orpo import ORPO, ORPOConfig, ORPOLoss
from rlhf.algorithms.preference import PairLoss
from rlhf.algorithms.simpo import SimPO, SimPOConfig, SimPOLoss
from rlhf.errors import ConfigError
from rlhf.types import PreferenceBatch
from tests.tiny_runs import SFT, single
from tests.unit.algorithms.preference_rows import dirty, rankings, result, result_in_pieces

LOSSES = [CPOLoss(0.3), CPOLoss(0.3, 0.5, 0.2), ORPOLoss(0.4), SimPOLoss(2.0, 0.7)]


def prepared(loss_fn: PairLoss) -> tuple[PreferenceBatch, Tensor]:
    batch, logprobs = rankings()
    if isinstance(loss_fn, CPOLoss | ORPOLoss):
        batch = with_imitated_tokens(batch, loss_fn.count(batch))
    return batch, logprobs


def nll(gap: float) -> float:
    return math.log(1 + math.exp(-gap))


def of_pair(loss_fn: PairLoss, better: list[float], worse: list[float]) -> float:
    """A pair's loss from the log-probs of its tokens."""
    if isinstance(loss_fn, CPOLoss):
        h = loss_fn.beta * (sum(better) - sum(worse))
        return (1 - loss_fn.label_smoothing) * nll(h) + loss_fn.label_smoothing * nll(-h)
    one, other = sum(better) / len(better), sum(worse) / len(worse)
    if isinstance(loss_fn, SimPOLoss):
        return nll(loss_fn.beta * (one - other) - loss_fn.gamma)
    odds = [math.exp(x) / (1 - math.exp(x)) for x in (one, other)]
    return loss_fn.beta * nll(math.log(odds[0] / odds[1]))


@pytest.mark.parametrize("loss_fn", LOSSES)
def test_the_loss_by_definition(loss_fn: PairLoss) -> None:
    batch, logprobs = prepared(loss_fn)
    losses, imitated = [], []
    for b, present_K in enumerate(batch.present_BK):
        rows = [b * 4 + k for k in range(int(present_K.sum()))]
        tokens = [logprobs[row][batch.candidates.response_mask[row]].tolist() for row in rows]
        pairs = [(i, j) for i in range(len(tokens)) for j in range(i + 1, len(tokens))]
        if pairs:
            losses.append(sum(of_pair(loss_fn, tokens[i], tokens[j]) for i, j in pairs) / len(pairs))
            imitated += tokens[0]
    expected = sum(losses) / 5
    loss, _, figures = result(loss_fn, batch, dirty(logprobs, batch))
    if isinstance(loss_fn, CPOLoss | ORPOLoss):
        chosen_nll = -sum(imitated) / len(imitated)
        expected += loss_fn.nll_coef * chosen_nll
        assert figures["policy/chosen_nll"] == pytest.approx(chosen_nll, rel=1e-5)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss_fn", LOSSES)
def test_neither_pieces_nor_blank_rows_nor_what_no_mask_asks_for_matters(loss_fn: PairLoss) -> None:
    batch, logprobs = prepared(loss_fn)
    whole, pieces = result(loss_fn, batch, logprobs), result_in_pieces(loss_fn, batch, logprobs)
    torch.testing.assert_close(pieces[0], whole[0])
    torch.testing.assert_close(pieces[1], whole[1])
    assert pieces[2] == pytest.approx(whole[2], rel=1e-5)
    assert (whole[1][~batch.candidates.response_mask] == 0).all()


def test_only_the_best_of_a_pair_is_imitated() -> None:
    batch, _ = rankings()
    weights = with_imitated_tokens(batch, 5.0).candidates.loss_weights
    assert weights is not None
    weighed = (weights > 0).view(6, 4, -1)
    assert weighed.any(2).tolist() == [[b != 1, False, False, False] for b in range(6)]
    assert weights.sum().item() == pytest.approx(5)
    assert (weights[~batch.candidates.response_mask] == 0).all()


def test_a_lone_imitated_token_weighs_as_all_prompts() -> None:
    batch, _ = rankings(num_prompts=3, most=2)
    first = batch.candidates.response_mask.cumsum(1) == 1
    rows = replace(batch.candidates, response_mask=batch.candidates.response_mask & first)
    weights = with_imitated_tokens(replace(batch, candidates=rows)[:1], 1.0).candidates.loss_weights
    assert weights is not None
    assert weights.sum() == weights.max() == 1


def test_imitated_tokens_are_weighed_where_the_batch_is() -> None:
    """On torch's `meta` device, which refuses to mix with the CPU as a GPU does."""
    batch, _ = rankings()
    rows = replace(batch.candidates, **{name: x.to("meta") for name, x in batch.candidates.tensors()})
    weights = with_imitated_tokens(batch.with_tensors(rows, lambda x: x.to("meta")), 5.0).candidates.loss_weights
    assert weights is not None
    assert weights.device.type == "meta"


def test_orpo_without_a_pair_term_is_sft_on_the_best() -> None:
    batch, logprobs = prepared(ORPOLoss(1e-9))
    _, gradient, figures = result(ORPOLoss(1e-9), batch, logprobs)
    weights = batch.candidates.loss_weights
    assert weights is not None
    torch.testing.assert_close(gradient, -weights / 5, atol=1e-6, rtol=1e-5)
    assert figures["policy/chosen_nll"] > 0


def test_options_reach_the_losses() -> None:
    assert CPO(CPOConfig(beta=0.4, label_smoothing=0.1, nll_coef=0.3)).loss == CPOLoss(0.4, 0.3, 0.1)
    assert ORPO(ORPOConfig(beta=0.4)).loss == ORPOLoss(0.4, 1.0)
    assert SimPO(SimPOConfig(beta=2.5, gamma=1.4)).loss == SimPOLoss(2.5, 1.4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"type": "cpo", "label_smoothing": 0.5}, r"algorithm\.label_smoothing: .*less than 0\.5"),
        ({"type": "cpo", "nll_coef": -1.0}, r"algorithm\.nll_coef: .*greater than or equal to 0"),
        ({"type": "orpo", "beta": 0.0}, r"algorithm\.beta: .*greater than 0"),
        ({"type": "simpo", "gamma": -0.1}, r"algorithm\.gamma: .*greater than or equal to 0"),
        ({"type": "simpo", "gama": 0.1}, r"algorithm\.gama: unknown key\. Did you mean 'gamma'\?"),
    ],
)
def test_options_out_of_range_are_refused(tmp_path, options: dict[str, Any], message: str) -> None:
    stage = {"algorithm": options, "model": SFT["model"], "optimizer": {"lr": 1e-2}}
    with pytest.raises(ConfigError, match=message):
        rlhf.train(single(stage), out=tmp_path / "run")
