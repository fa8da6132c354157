"""KTO on token rows: its loss, the KL of the global batch, what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import rlhf
from rlhf.algorithms.kto import KTO, KTOConfig, KTOLoss, wins, with_others_completions
from rlhf.errors import ConfigError, DataError
from rlhf.types import LabelledBatch, PolicyOutput, TokenBatch
from tests.tiny_runs import SFT, changed, single
from tests.unit.algorithms.preference_rows import dirty, rankings, result, result_in_pieces

LOSS = KTOLoss(0.3, 1.5, 0.5)


def labelled() -> tuple[LabelledBatch, Tensor]:
    """Eight judged rows, and log-probs of their tokens."""
    pairs, logprobs = rankings(num_prompts=8, most=2)
    best = slice(0, 16, 2)
    return (
        LabelledBatch(
            **dict(pairs.candidates[best].tensors()),
            label_B=torch.tensor([True, False, True, True, False, False, True, False]),
            ref_logprobs_B=-5 * torch.rand(8),
            kl_B=torch.full((8,), 0.7),
        ),
        logprobs[best],
    )


def test_the_loss_by_definition() -> None:
    batch, logprobs = labelled()
    assert batch.ref_logprobs_B is not None
    losses = []
    rewards: dict[bool, list[float]] = {True: [], False: []}
    for b, good in enumerate(batch.label_B.tolist()):
        r = logprobs[b][batch.response_mask[b]].sum().item() - batch.ref_logprobs_B[b].item()
        gain = 0.3 * (r - 0.7) if good else 0.3 * (0.7 - r)
        losses.append((1.5 if good else 0.5) * (1 - 1 / (1 + math.exp(-gain))))
        rewards[good].append(0.3 * r)
    loss, _, figures = result(LOSS, batch, dirty(logprobs, batch))
    assert loss.item() == pytest.approx(sum(losses) / 8, rel=1e-5)
    assert figures == pytest.approx(
        {
            "preference/chosen_reward": sum(rewards[True]) / 4,
            "preference/rejected_reward": sum(rewards[False]) / 4,
            "preference/kl": 0.7,
        },
        rel=1e-5,
    )


def test_neither_pieces_nor_blank_rows_nor_what_no_mask_asks_for_matters() -> None:
    batch, logprobs = labelled()
    whole, pieces = result(LOSS, batch, logprobs), result_in_pieces(LOSS, batch, logprobs)
    torch.testing.assert_close(pieces[0], whole[0])
    torch.testing.assert_close(pieces[1], whole[1])
    assert pieces[2] == pytest.approx(whole[2], rel=1e-5)


def test_good_completions_become_likelier_and_bad_ones_less_likely() -> None:
    batch, logprobs = labelled()
    _, gradient, _ = result(LOSS, batch, logprobs)
    assert (gradient[batch.label_B][batch.response_mask[batch.label_B]] < 0).all()
    assert (gradient[~batch.label_B][batch.response_mask[~batch.label_B]] > 0).all()


# --- the KL ----------------------------------------------------------------------------------------------------------


def rows_of(*texts: str, width: int = 8) -> TokenBatch:
    """`"ab|cd"`: prompt and completion; `.` after it is a token that nobody trains on."""
    tokens = torch.zeros(len(texts), width, dtype=torch.int64)
    response, attended = torch.zeros_like(tokens).bool(), torch.zeros_like(tokens).bool()
    for row, text in enumerate(texts):
        start = text.index("|")
        plain = text.replace("|", "")
        tokens[row, : len(plain)] = torch.tensor([ord(c) for c in plain])
        attended[row, : len(plain)] = True
        response[row, start : len(plain.rstrip("."))] = True
    return TokenBatch(tokens=tokens, attention_mask=attended, response_mask=response)


def texts_of(rows: TokenBatch) -> list[str]:
    found = []
    for row in range(len(rows)):
        text = "".join(chr(t) for t in rows.tokens[row][rows.attention_mask[row]].tolist())
        start = int(rows.response_mask[row].int().argmax())
        assert rows.response_mask[row].sum() == len(text[start:].rstrip("."))
        found.append(f"{text[:start]}|{text[start:]}")
    return found


def test_each_prompt_gets_the_completion_of_the_row_before() -> None:
    rows = rows_of("ab|cd", "e|fgh.", "ijk|l")
    assert texts_of(with_others_completions(rows)) == ["ab|l", "e|cd", "ijk|fgh."]
    assert texts_of(with_others_completions(rows_of("ab|cd", "|efg"))) == ["ab|efg", "|cd"]


def test_what_would_outgrow_the_longest_row_is_cut() -> None:
    rows = rows_of("abcdef|gh", "i|jklmnop")
    assert texts_of(with_others_completions(rows)) == ["abcdef|jk", "i|gh"]


class Engine:
    """A model whose log-prob of a token is `scale` times its number."""

    def __init__(self, scale: float) -> None:
        self.scale = scale
        self.calls = 0

    def forward(self, batch: TokenBatch) -> PolicyOutput:
        self.calls += 1
        logprobs = self.scale * batch.tokens.float()
        return PolicyOutput(logprobs=logprobs, entropy=logprobs)


def test_the_kl_is_one_number_of_the_whole_batch_and_cut_at_zero() -> None:
    rows = rows_of("ab|cd", "e|fgh.", "ijk|l")
    batch = LabelledBatch(**dict(rows.tensors()), label_B=torch.tensor([True, False, True]))
    of_responses = sum(ord(c) for c in "cdfghl")
    for scales, kl in (((-0.1, -0.3), 0.2 * of_responses / 3), ((-0.3, -0.1), 0.0)):
        run: Any = SimpleNamespace(policy=Engine(scales[0]), reference=Engine(scales[1]))
        ready = KTO(KTOConfig()).prepared(run, batch)
        assert ready.kl_B is not None
        assert ready.ref_logprobs_B is not None
        assert ready.kl_B.tolist() == pytest.approx([kl] * 3, rel=1e-5)
        assert ready.ref_logprobs_B[0].item() == pytest.approx(scales[1] * (ord("c") + ord("d")))


def test_a_remembered_reference_is_asked_for_the_mismatched_rows_only() -> None:
    rows = rows_of("ab|cd", "e|fgh.", "ijk|l")
    batch = LabelledBatch(**dict(rows.tensors()), label_B=torch.tensor([True, False, True]))
    for remember, calls in ((False, 6), (True, 4)):
        run: Any = SimpleNamespace(policy=Engine(-0.1), reference=Engine(-0.2))
        method = KTO(KTOConfig(precompute_reference=remember))
        first, *_, last = (method.prepared(run, batch) for _ in range(3))
        assert run.reference.calls == calls
        assert first.ref_logprobs_B is not None
        assert last.ref_logprobs_B is not None
        assert torch.equal(first.ref_logprobs_B, last.ref_logprobs_B)


# --- measuring -------------------------------------------------------------------------------------------------------


def test_wins_are_shares_of_the_bad_ones_beaten() -> None:
    scores, labels = torch.tensor([3.0, 1.0, 2.0, 2.0]), torch.tensor([True, False, True, False])
    assert wins(scores, labels).tolist() == [1.0, 0.75]
    assert wins(-scores, labels).tolist() == [0.0, 0.25]
    assert wins(scores, torch.ones(4, dtype=torch.bool)).tolist() == []
    assert wins(scores, torch.zeros(4, dtype=torch.bool)).tolist() == []


def test_held_out_figures_by_hand() -> None:
    rows = rows_of("ab|cdef", "e|fg", "ijk|l", "m|nop")
    batch = LabelledBatch(**dict(rows.tensors()), label_B=torch.tensor([True, False, True, False]))
    run: Any = SimpleNamespace(policy=Engine(-0.1), reference=Engine(-0.3), held_out_labelled=lambda: batch)
    figures = KTO(KTOConfig()).measure(run)
    # The implicit reward is 0.2 beta times the letters' sum: more letters, more reward.
    assert figures == {"accuracy": [1.0, 0.0], "accuracy_longer_wins": [1.0, 0.0]}
    run.policy, run.reference = run.reference, run.policy
    assert KTO(KTOConfig()).measure(run) == {"accuracy": [0.0, 1.0], "accuracy_longer_wins": [1.0, 0.0]}
    nothing: Any = SimpleNamespace(held_out_labelled=lambda: None)
    assert KTO(KTOConfig()).measure(nothing) == {}


# --- refused ---------------------------------------------------------------------------------------------------------

KTO_STAGE = {"algorithm": {"type": "kto"}, "model": SFT["model"], "optimizer": {"lr": 1e-2}}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"algorithm.batch_size": 1}, ConfigError, r"algorithm\.batch_size: .*greater than or equal to 2"),
        ({"algorithm.desirable_weight": -1.0}, ConfigError, r"algorithm\.desirable_weight: .*greater than or equal"),
        ({"algorithm.beta": 0.0}, ConfigError, r"algorithm\.beta: .*greater than 0"),
        (
            {"data": {"type": "rows", "rows": [{"prompt": "p", "completion": "a", "label": 2}]}},
            DataError,
            "`label` should be true or false, is 2",
        ),
        (
            {"data": {"type": "rows", "rows": [{"prompt": "p", "chosen": "a", "rejected": "b"}]}},
            DataError,
            r"kto needs labelled, but its data \(rows\) has .*rankings",
        ),
    ],
)
def test_what_cannot_work_is_refused_in_a_line(tmp_path, changes, error, message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        rlhf.train(changed(single(KTO_STAGE), changes), out=tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_options_reach_the_loss() -> None:
    method = KTO(KTOConfig(beta=0.3, desirable_weight=1.5, undesirable_weight=0.5))
    assert method.loss == LOSS
    assert replace(LOSS, beta=0.2) != LOSS
