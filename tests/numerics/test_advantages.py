"""Token rewards, GAE and returns: by hand, by a loop over the masked tokens, by relation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rlhf.functional.advantages import discounted_returns, gae, length_adaptive_lam, token_rewards

NAN = math.nan


def rollouts(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rewards, values, a mask with holes and an empty row, and final values."""
    generator = torch.Generator().manual_seed(seed)
    rewards, values = torch.randn(2, 6, 9, generator=generator, dtype=torch.float64)
    mask = torch.rand(6, 9, generator=generator) < 0.6
    mask[2] = False
    mask[4] = True
    return rewards, values, mask, torch.randn(6, generator=generator, dtype=torch.float64)


def naive_gae(rewards: list[float], values: list[float], final_value: float, gamma: float, lam: float) -> list[float]:
    """The definition: A_t is the sum over l of (gamma lam)^l delta_{t+l}."""
    following = [*values, final_value][1:]
    deltas = [r + gamma * n - v for r, n, v in zip(rewards, following, values, strict=True)]
    return [sum((gamma * lam) ** (k - t) * deltas[k] for k in range(t, len(deltas))) for t in range(len(deltas))]


def test_gae_by_hand() -> None:
    # delta_1 = 1 - 0.4 = 0.6; delta_0 = 0 + 0.5*0.4 - 0.2 = 0; A_0 = 0 + 0.5*0.5*0.6
    rewards, values = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.2, 0.4]])
    advantages, returns = gae(rewards, values, torch.ones(1, 2, dtype=torch.bool), 0.5, 0.5)
    torch.testing.assert_close(advantages, torch.tensor([[0.15, 0.6]]))
    torch.testing.assert_close(returns, torch.tensor([[0.35, 1.0]]))


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 1.0), (0.9, 0.8), (1.0, 0.0), (0.7, 1.0)])
def test_gae_by_definition_over_the_masked_tokens(gamma: float, lam: float) -> None:
    rewards, values, mask, final_values = rollouts()
    advantages, returns = gae(rewards, values, mask, gamma, lam, final_values)
    for b in range(len(mask)):
        m = mask[b]
        expected = naive_gae(rewards[b, m].tolist(), values[b, m].tolist(), final_values[b].item(), gamma, lam)
        assert advantages[b, m].tolist() == pytest.approx(expected)
        assert returns[b, m].tolist() == pytest.approx(
            [a + v for a, v in zip(expected, values[b, m].tolist(), strict=True)]
        )
    assert (advantages[~mask] == 0).all()
    assert (returns[~mask] == 0).all()


def test_lambda_one_is_monte_carlo() -> None:
    rewards, values, mask, final_values = rollouts()
    ended = gae(rewards, values, mask, 0.9, 1.0)[1]
    torch.testing.assert_close(ended, discounted_returns(rewards, mask, 0.9))
    # Cut off: the final value is one more reward, one step after the last token.
    steps_left = mask.flip(1).cumsum(1).flip(1)
    bootstrap = torch.where(mask, final_values.unsqueeze(1) * 0.9**steps_left, 0)
    torch.testing.assert_close(gae(rewards, values, mask, 0.9, 1.0, final_values)[1], ended + bootstrap)


def test_lambda_zero_is_the_one_step_error() -> None:
    rewards, values, mask, _ = rollouts()
    mask = torch.ones_like(mask)
    following = torch.cat([values[:, 1:], torch.zeros(6, 1, dtype=torch.float64)], dim=1)
    torch.testing.assert_close(gae(rewards, values, mask, 0.9, 0.0)[0], rewards + 0.9 * following - values)


def test_truncated_is_not_terminal() -> None:
    """A good answer cut at max_tokens: without the bootstrap its last token would look bad."""
    rewards, values = torch.zeros(2, 3), torch.full((2, 3), 0.8)
    mask = torch.tensor([[True, True, True], [True, True, False]])
    ended, _ = gae(rewards, values, mask, 1.0, 0.95)
    cut, _ = gae(rewards, values, mask, 1.0, 0.95, torch.tensor([0.8, 0.8]))
    assert (ended[mask] < 0).all()
    torch.testing.assert_close(cut, torch.zeros(2, 3))


def test_environment_tokens_are_not_steps() -> None:
    """4 action, 40 environment, 4 action tokens, V = 0.5, R = 1: treated as steps, the advantages turn negative."""
    mask = torch.cat([torch.ones(1, 4), torch.zeros(1, 40), torch.ones(1, 4)], dim=1).bool()
    rewards, values = torch.zeros(1, 48), torch.full((1, 48), 0.5)
    rewards[0, -1] = 1.0
    advantages, _ = gae(rewards, values, mask, 1.0, 0.95)
    close_up, _ = gae(rewards[mask][None], values[mask][None], torch.ones(1, 8, dtype=torch.bool), 1.0, 0.95)
    assert torch.equal(advantages[mask][None], close_up)
    assert 0.34 < advantages[mask].min().item() < 0.36
    assert advantages[mask].max().item() == pytest.approx(0.5)


def test_padding_and_row_order_cannot_matter() -> None:
    rewards, values, mask, final_values = rollouts()
    clean = gae(rewards, values, mask, 0.9, 0.8, final_values)
    dirty = gae(torch.where(mask, rewards, NAN), torch.where(mask, values, NAN), mask, 0.9, 0.8, final_values)
    order = torch.tensor([5, 3, 0, 1, 4, 2])
    shuffled = gae(rewards[order], values[order], mask[order], 0.9, 0.8, final_values[order])
    for ours, as_dirty, as_shuffled in zip(clean, dirty, shuffled, strict=True):
        assert torch.equal(ours, as_dirty)
        assert torch.equal(ours[order], as_shuffled)


def test_micro_batches_give_the_same_rows() -> None:
    rewards, values, mask, final_values = rollouts()
    whole = gae(rewards, values, mask, 0.9, 0.8, final_values)[0]
    pieces = [
        gae(*(x[s : s + 4] for x in (rewards, values, mask)), 0.9, 0.8, final_values[s : s + 4])[0] for s in (0, 4)
    ]
    assert torch.equal(torch.cat(pieces), whole)


def test_targets_carry_no_gradient() -> None:
    rewards, values, mask, _ = rollouts()
    advantages, returns = gae(rewards, values.requires_grad_(), mask, 0.9, 0.8)
    assert not advantages.requires_grad
    assert not returns.requires_grad
    assert not discounted_returns(rewards.requires_grad_(), mask, 0.9).requires_grad


def test_inputs_are_left_alone() -> None:
    rewards, values, mask, final_values = rollouts()
    copies = [x.clone() for x in (rewards, values, mask, final_values)]
    gae(rewards, values, mask, 0.9, 0.8, final_values)
    discounted_returns(rewards, mask, 0.9)
    assert all(torch.equal(a, b) for a, b in zip(copies, (rewards, values, mask, final_values), strict=True))


def test_discounted_returns_by_definition() -> None:
    rewards, _, mask, _ = rollouts()
    returns = discounted_returns(torch.where(mask, rewards, NAN), mask, 0.9)
    for b in range(len(mask)):
        r = rewards[b, mask[b]].tolist()
        expected = [sum(0.9 ** (k - t) * r[k] for k in range(t, len(r))) for t in range(len(r))]
        assert returns[b, mask[b]].tolist() == pytest.approx(expected)
    assert (returns[~mask] == 0).all()


def test_the_score_stands_on_the_last_token_of_the_mask() -> None:
    mask = torch.tensor([[False, True, True, False], [True, False, False, True], [False] * 4])
    kl = torch.tensor([[NAN, 0.5, 1.0, NAN], [2.0, NAN, NAN, 3.0], [NAN] * 4])
    rewards = token_rewards(torch.tensor([1.0, -1.0, 7.0]), kl, mask, 0.1)
    torch.testing.assert_close(rewards, torch.tensor([[0, -0.05, 0.9, 0], [-0.2, 0, 0, -1.3], [0] * 4]))


def test_a_score_that_is_missing_does_not_leak_from_a_row_without_tokens() -> None:
    mask = torch.tensor([[True, True], [False, False]])
    rewards = token_rewards(torch.tensor([1.0, NAN]), torch.zeros(2, 2), mask, 0.1)
    assert rewards.tolist() == [[0, 1], [0, 0]]


def test_rewards_of_a_row_add_up_to_score_minus_kl() -> None:
    _, kl, mask, scores = rollouts()
    total = token_rewards(scores, kl, mask, 0.2).sum(1)
    expected = torch.where(mask.any(1), scores, 0) - 0.2 * torch.where(mask, kl, 0).sum(1)
    torch.testing.assert_close(total, expected)


def test_each_row_may_have_a_lambda_of_its_own() -> None:
    rewards, values, mask, final_values = rollouts()
    lam_B = torch.tensor([0.0, 0.3, 0.5, 0.9, 0.95, 1.0]).double()
    found = gae(rewards, values, mask, 0.9, lam_B, final_values)[0]
    for b, lam in enumerate(lam_B.tolist()):
        alone = gae(rewards[b : b + 1], values[b : b + 1], mask[b : b + 1], 0.9, lam, final_values[b : b + 1])[0]
        torch.testing.assert_close(found[b : b + 1], alone)


def test_longer_rows_carry_farther() -> None:
    mask = torch.zeros(4, 100).bool()
    for row, length in enumerate((100, 40, 5, 0)):
        mask[row, :length] = True
    # 1/(1 - lam) = alpha * length tokens: 5 of 100, 2 of 40; of 5 not even one.
    assert length_adaptive_lam(mask, 0.05).tolist() == pytest.approx([0.8, 0.5, 0.0, 0.0])
    assert length_adaptive_lam(torch.ones(1, 1).bool(), 4.0).tolist() == pytest.approx([0.75])
