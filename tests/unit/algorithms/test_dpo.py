"""DPO's loss on token rows, its options, and a reference that is asked once."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import rlhf
from rlhf.algorithms.dpo import DPO, DPOConfig, DPOLoss
from rlhf.algorithms.preference import averaged, summed, worst
from rlhf.algorithms.reference_logprobs import ReferenceLogprobs
from rlhf.engines.torch_engine import TorchEngine
from rlhf.errors import ConfigError
from rlhf.functional.dpo_loss import dpo_hinge_loss, dpo_loss, ipo_loss, robust_dpo_loss
from rlhf.types import PolicyOutput, TokenBatch
from tests.tiny_runs import SFT, single, weights_of
from tests.unit.algorithms.preference_rows import dirty, rankings, result, result_in_pieces

LOSSES = [
    DPOLoss(0.3),
    DPOLoss(0.3, label_smoothing=0.1),
    DPOLoss(0.3, "hinge"),
    DPOLoss(0.3, "ipo"),
    DPOLoss(0.3, "robust", 0.2),
    DPOLoss(2.0, length_normalised=True),
]


# --- the loss --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss_fn", LOSSES)
def test_the_loss_by_definition(loss_fn: DPOLoss) -> None:
    batch, logprobs = rankings()
    assert batch.ref_logprobs_BK is not None
    of_pair = {
        "sigmoid": lambda h: dpo_loss(h, loss_fn.beta, loss_fn.label_smoothing),
        "robust": lambda h: robust_dpo_loss(h, loss_fn.beta, loss_fn.label_smoothing),
        "hinge": lambda h: dpo_hinge_loss(h, loss_fn.beta),
        "ipo": lambda h: ipo_loss(h, loss_fn.beta),
    }[loss_fn.loss]
    losses, margins, accuracies = [], [], []
    for b, present_K in enumerate(batch.present_BK):
        worths = []
        for k in range(int(present_K.sum())):
            row = b * 4 + k
            tokens = logprobs[row][batch.candidates.response_mask[row]]
            worth = tokens.sum() - batch.ref_logprobs_BK[b, k]
            worths.append(worth / len(tokens) if loss_fn.length_normalised or loss_fn.loss == "ipo" else worth)
        pairs = [(i, j) for i in range(len(worths)) for j in range(i + 1, len(worths))]
        if pairs:
            losses.append(sum(of_pair(worths[i] - worths[j]) for i, j in pairs) / len(pairs))
            margins.append(loss_fn.beta * (worths[0] - worths[-1]))
            accuracies.append(sum(bool(worths[i] > worths[j]) for i, j in pairs) / len(pairs))
    assert len(losses) == 5, "the prompt with a single candidate has no pair"
    loss, _, figures = result(loss_fn, batch, dirty(logprobs, batch))
    torch.testing.assert_close(loss, torch.stack(losses).mean())
    assert figures["preference/margin"] == pytest.approx(float(torch.stack(margins).mean()), rel=1e-5)
    assert figures["preference/accuracy"] == pytest.approx(sum(accuracies) / 5)
    assert figures["preference/chosen_reward"] - figures["preference/rejected_reward"] == pytest.approx(
        figures["preference/margin"], rel=1e-5
    )


@pytest.mark.parametrize("loss_fn", LOSSES)
def test_neither_pieces_nor_blank_rows_nor_what_no_mask_asks_for_matters(loss_fn: DPOLoss) -> None:
    batch, logprobs = rankings()
    whole, pieces = result(loss_fn, batch, logprobs), result_in_pieces(loss_fn, batch, logprobs)
    torch.testing.assert_close(pieces[0], whole[0])
    torch.testing.assert_close(pieces[1], whole[1])
    assert pieces[2] == pytest.approx(whole[2], rel=1e-5)
    assert (whole[1][~batch.candidates.response_mask] == 0).all()


def test_two_candidates_are_the_papers_pair() -> None:
    batch, logprobs = rankings(most=2)
    batch = batch[torch.tensor([0, 2, 3])]
    logprobs = logprobs[torch.tensor([0, 1, 4, 5, 6, 7])]
    assert batch.ref_logprobs_BK is not None
    h = summed(logprobs, batch) - batch.ref_logprobs_BK
    torch.testing.assert_close(result(DPOLoss(0.3), batch, logprobs)[0], dpo_loss(h[:, 0] - h[:, 1], 0.3).mean())


def test_an_update_favours_the_better_and_a_policy_that_is_its_reference_starts_at_ln_two() -> None:
    batch, logprobs = rankings()
    batch = replace(batch, ref_logprobs_BK=summed(logprobs, batch))
    loss, gradient, figures = result(DPOLoss(0.3), batch, logprobs)
    assert loss.item() == pytest.approx(0.693147, abs=1e-5)
    assert figures["preference/accuracy"] == 0.5
    best = gradient.view(6, 4, -1)[[0, 2, 3, 4, 5], 0]
    assert (best[batch.candidates.response_mask.view(6, 4, -1)[[0, 2, 3, 4, 5], 0]] < 0).all()
    assert (worst(summed(gradient, batch), batch.present_BK)[[0, 2, 3, 4, 5]] > 0).all()


def test_the_worst_is_the_last_that_is_there() -> None:
    values = torch.tensor([[5.0, 4.0, 3.0], [6.0, 7.0, 9.0], [2.0, 9.0, 9.0]])
    present = torch.tensor([[True, True, True], [True, True, False], [True, False, False]])
    assert worst(values, present).tolist() == [3.0, 7.0, 2.0]


def test_means_are_over_tokens() -> None:
    batch, logprobs = rankings()
    torch.testing.assert_close(averaged(torch.ones_like(logprobs), batch), batch.present_BK.float())


def test_held_out_figures_by_hand() -> None:
    """Of each prompt: pairs in order, pairs in which the longer is better, best above worst."""
    batch, logprobs = rankings()
    batch, logprobs = batch[torch.tensor([0, 2])], logprobs[torch.tensor([*range(4), *range(8, 12)])]
    policy = SimpleNamespace(forward=lambda rows: PolicyOutput(logprobs=logprobs, entropy=logprobs))
    reference = SimpleNamespace(forward=lambda rows: PolicyOutput(logprobs=logprobs / 3, entropy=logprobs))
    run: Any = SimpleNamespace(policy=policy, reference=reference, held_out_rankings=lambda: batch)
    figures = DPO(DPOConfig(beta=0.3)).measure(run)
    rewards = (0.3 * 2 / 3 * summed(logprobs, batch)).tolist()
    sizes = batch.candidates.response_mask.sum(1).view(2, 4).tolist()
    for b, count in enumerate(batch.present_BK.sum(1).tolist()):
        pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
        right = sum(rewards[b][i] > rewards[b][j] for i, j in pairs)
        longer = sum((sizes[b][i] > sizes[b][j]) + 0.5 * (sizes[b][i] == sizes[b][j]) for i, j in pairs)
        assert figures["accuracy"][b] == pytest.approx(right / len(pairs))
        assert figures["accuracy_longer_wins"][b] == pytest.approx(longer / len(pairs))
        assert figures["margin"][b] == pytest.approx(rewards[b][0] - rewards[b][count - 1], rel=1e-5)
    nothing: Any = SimpleNamespace(held_out_rankings=lambda: None)
    assert DPO(DPOConfig()).measure(nothing) == {}


# --- options ---------------------------------------------------------------------------------------------------------


def dpo_stage(**options: Any) -> dict[str, Any]:
    return {
        "algorithm": {"type": "dpo", "steps": 2, "batch_size": 8, **options},
        "model": SFT["model"],
        "optimizer": {"lr": 1e-2},
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "ipo", "label_smoothing": 0.1}, r"algorithm: label_smoothing 0\.1 has no meaning for the loss ipo"),
        ({"loss": "hinge", "label_smoothing": 0.1}, "has no meaning for the loss hinge"),
        ({"loss": "robust", "label_smoothing": 0.5}, r"algorithm\.label_smoothing: .*less than 0\.5"),
        ({"label_smoothing": -0.1}, r"algorithm\.label_smoothing: .*greater than or equal to 0"),
        ({"beta": 0}, r"algorithm\.beta: .*greater than 0"),
        ({"loss": "sigmoid_norm"}, r"algorithm\.loss: .*'sigmoid', 'hinge', 'ipo' or 'robust'"),
    ],
)
def test_options_without_a_meaning_are_refused(tmp_path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        rlhf.train(single(dpo_stage(**options)), out=tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_every_option_reaches_the_loss() -> None:
    config = DPOConfig(loss="robust", beta=0.7, label_smoothing=0.3, length_normalised=True)
    assert DPO(config).loss == DPOLoss(0.7, "robust", 0.3, True)


# --- the reference ---------------------------------------------------------------------------------------------------


class Counting:
    """A reference whose log-prob of token t is -(token + t); it counts the rows it is asked for."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def forward(self, batch: TokenBatch) -> PolicyOutput:
        self.rows.append(len(batch))
        logprobs = -(batch.tokens + torch.arange(batch.tokens.shape[1])).float()
        return PolicyOutput(logprobs=logprobs, entropy=torch.zeros_like(logprobs))


def test_a_row_is_asked_for_once_whatever_stands_around_it() -> None:
    rows = rankings()[0].candidates
    run: Any = SimpleNamespace(reference=Counting())
    expected = ReferenceLogprobs(remember=False).of(run, rows)
    assert expected.tolist() == pytest.approx(
        [-sum(float(rows.tokens[r, t]) + t for t in torch.where(rows.response_mask[r])[0].tolist()) for r in range(24)]
    )
    kept = ReferenceLogprobs(remember=True)
    run.reference.rows.clear()
    torch.testing.assert_close(kept.of(run, rows[0:8]), expected[0:8])
    torch.testing.assert_close(kept.of(run, rows), expected)
    wider = TokenBatch(
        **{n: torch.cat([x, x.new_ones(24, 3) if n == "tokens" else x.new_zeros(24, 3)], 1) for n, x in rows.tensors()}
    )
    torch.testing.assert_close(kept.of(run, wider[torch.arange(23, -1, -1)]), expected.flip(0))
    assert sum(run.reference.rows[:1]) == 8
    assert sum(run.reference.rows) <= 24
    assert len(run.reference.rows) == 2


def test_the_same_tokens_with_another_completion_are_another_row() -> None:
    rows = rankings()[0].candidates[0:1]
    other = replace(
        rows, response_mask=rows.response_mask & (torch.arange(10) > int(rows.response_mask[0].int().argmax()))
    )
    run: Any = SimpleNamespace(reference=Counting())
    kept = ReferenceLogprobs(remember=True)
    assert kept.of(run, rows).item() < kept.of(run, other).item()


def test_after_the_first_epoch_the_reference_is_idle(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    forward = TorchEngine.forward

    def counted(engine: TorchEngine, batch: Any) -> Any:
        asked.append(engine.spec.role)
        return forward(engine, batch)

    monkeypatch.setattr(TorchEngine, "forward", counted)
    runs, counts = [], []
    for remember in (False, True):
        asked.clear()
        # 16 rankings in steps of 8: three epochs are six steps; the held-out rows are measured before and after.
        recipe = single(dpo_stage(steps=6, precompute_reference=remember), data__num_rankings=16)
        runs.append(rlhf.train(recipe, out=tmp_path / str(remember)))
        counts.append(asked.count("reference"))
    assert counts == [6 + 2, 2 + 1]
    mine, theirs = (weights_of(run.model) for run in runs)
    for name, weight in mine.items():
        torch.testing.assert_close(weight, theirs[name], atol=1e-5, rtol=1e-4)
