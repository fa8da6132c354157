"""The best of n, rejection sampling, and the KL of choosing."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rlhf.functional.selection import best_of_group, best_of_n_kl, first_accepted

GROUPS = torch.tensor([7, 3, 7, 7, 3, 11, -2, -2, 7])
SCORES = torch.tensor([1.0, 0.5, 3.0, 2.0, 0.25, 9.0, 4.0, 4.0, 3.0])


# --- the best of a group ---------------------------------------------------------------------------------------------


def test_best_by_hand() -> None:
    chosen = best_of_group(SCORES, GROUPS)
    assert chosen.tolist() == [False, True, True, False, False, True, True, False, False]  # of equals the earlier
    two = best_of_group(SCORES, GROUPS, keep=2)
    assert two.tolist() == [False, True, True, False, True, True, True, True, True]


@pytest.mark.parametrize("keep", [1, 2, 3, 9])
def test_best_by_definition(keep: int) -> None:
    scores = torch.randint(0, 4, (60,)).float()  # ties throughout
    groups, eligible = torch.randint(0, 9, (60,)), torch.rand(60) < 0.7
    wanted = set()
    for group in set(groups.tolist()):
        rows = [i for i in range(60) if groups[i] == group and eligible[i]]
        wanted |= set(sorted(rows, key=lambda i: (-float(scores[i]), i))[:keep])
    assert set(best_of_group(scores, groups, keep, eligible).nonzero().flatten().tolist()) == wanted


def test_best_does_not_depend_on_scale_shift_or_the_order_of_other_groups() -> None:
    chosen = best_of_group(SCORES, GROUPS, 2)
    assert torch.equal(best_of_group(3 * SCORES - 5, GROUPS, 2), chosen)
    order = torch.argsort(GROUPS, stable=True)  # groups move, rows of one group stay in order
    assert torch.equal(best_of_group(SCORES[order], GROUPS[order], 2), chosen[order])
    assert not torch.equal(best_of_group(-SCORES, GROUPS, 2), chosen)


def test_what_is_not_eligible_is_not_chosen_and_takes_no_place() -> None:
    eligible = torch.tensor([True, True, False, True, True, False, True, True, True])
    assert best_of_group(SCORES, GROUPS, 1, eligible).nonzero().flatten().tolist() == [1, 6, 8]
    assert not best_of_group(SCORES, GROUPS, 4, torch.zeros(9, dtype=torch.bool)).any()


# --- rejection sampling ----------------------------------------------------------------------------------------------


def test_acceptance_by_hand() -> None:
    scores, groups = torch.tensor([0.0, 1.0, 3.0, 2.0]), torch.zeros(4, dtype=torch.long)
    threshold = math.exp((1.0 - 3.0) / 2)  # the second row's, 0.368; the first row's is 0.223
    assert first_accepted(scores, groups, torch.tensor([0.22, 0.0, 0.0, 0.0]), 2.0).tolist() == [True] + 3 * [False]
    below, above = (torch.tensor([0.23, threshold + d, 0.99, 0.0]) for d in (-1e-3, 1e-3))
    assert first_accepted(scores, groups, below, 2.0).tolist() == [False, True, False, False]
    assert first_accepted(scores, groups, above, 2.0).tolist() == [False, False, True, False]


def test_acceptance_by_definition() -> None:
    scores, groups, uniform, beta = torch.randn(80), torch.randint(0, 12, (80,)), torch.rand(80), 0.7
    wanted = []
    for group in set(groups.tolist()):
        rows = [i for i in range(80) if groups[i] == group]
        best = max(float(scores[i]) for i in rows)
        wanted.append(next(i for i in rows if float(uniform[i]) < math.exp((float(scores[i]) - best) / beta)))
    assert first_accepted(scores, groups, uniform, beta).nonzero().flatten().tolist() == sorted(wanted)


def test_a_small_beta_is_the_best_of_n_and_a_large_one_the_first_sample() -> None:
    uniform = torch.rand(9)
    scores = SCORES + 0.01 * torch.arange(9)  # no ties: a tied best one is as good
    assert torch.equal(first_accepted(scores, GROUPS, uniform, 1e-4), best_of_group(scores, GROUPS))
    assert torch.equal(first_accepted(scores, GROUPS, uniform, 1e6), best_of_group(torch.zeros(9), GROUPS))


def test_accepted_samples_follow_the_tilted_policy() -> None:
    """pi(y) exp(s(y) / beta) / Z, for a policy of four answers whose best one is seen in every group."""
    policy, scores, beta = torch.tensor([0.4, 0.3, 0.2, 0.1]), torch.tensor([0.0, 1.0, 0.5, 1.5]), 0.8
    num_groups, n = 3000, 64
    drawn = torch.multinomial(policy, num_groups * n, replacement=True)
    groups = torch.arange(num_groups).repeat_interleave(n)
    counts = torch.zeros(4)
    for rows in torch.arange(num_groups * n).split(50 * n):  # the function compares all rows with all
        accepted = first_accepted(scores[drawn[rows]], groups[rows], torch.rand(len(rows)), beta)
        counts += torch.bincount(drawn[rows][accepted], minlength=4)
    assert counts.sum() == num_groups
    target = policy * (scores / beta).exp()
    torch.testing.assert_close(counts / num_groups, target / target.sum(), atol=0.03, rtol=0)


# --- KL of the best of n ---------------------------------------------------------------------------------------------


def best_of_n_probabilities(policy: Tensor, scores: Tensor, n: int) -> Tensor:
    """P(best of n is y) = P(all n at most as good) - P(all n worse), for scores without ties."""
    order = scores.argsort()
    upto = policy[order].cumsum(0).clamp(max=1)
    best = upto**n - torch.cat([upto.new_zeros(1), upto[:-1]]) ** n
    return torch.zeros_like(policy).scatter(0, order, best)


def exact_kl(policy: Tensor, scores: Tensor, n: int) -> float:
    best = best_of_n_probabilities(policy, scores, n)
    return float(torch.where(best > 0, best * (best / policy).log(), 0).sum())


def test_kl_by_hand() -> None:
    assert best_of_n_kl(1) == 0
    assert best_of_n_kl(2) == pytest.approx(math.log(2) - 0.5)
    assert best_of_n_kl(4) == pytest.approx(math.log(4) - 0.75)
    with pytest.raises(ValueError, match="n is 0"):
        best_of_n_kl(0)


@pytest.mark.parametrize("n", [2, 4, 16])
def test_kl_is_that_of_the_greatest_of_n_uniform_draws(n: int) -> None:
    u = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    density = n * u ** (n - 1)
    assert best_of_n_kl(n) == pytest.approx(float((density * density.log()).mean()), abs=1e-4)


@pytest.mark.parametrize("n", [2, 4, 16])
def test_kl_of_a_policy_of_many_answers_is_the_formula_and_of_few_is_below_it(n: int) -> None:
    many = torch.softmax(torch.randn(2**15, dtype=torch.float64), 0)
    assert exact_kl(many, torch.randn(2**15), n) == pytest.approx(best_of_n_kl(n), rel=2e-3)
    few = torch.softmax(torch.randn(5, dtype=torch.float64), 0)
    assert exact_kl(few, torch.randn(5), n) < 0.95 * best_of_n_kl(n)
    assert exact_kl(many, torch.randn(2**15), n) <= best_of_n_kl(n)


def test_chosen_samples_have_the_kl_that_theory_says() -> None:
    """Measured on what `best_of_group` chooses: E log(P_best / pi), for a small policy without ties in the score."""
    policy = torch.softmax(torch.randn(400, dtype=torch.float64), 0)
    scores, n, num_groups = torch.randperm(400).double(), 4, 4000
    drawn = torch.multinomial(policy, num_groups * n, replacement=True)
    groups = torch.arange(num_groups).repeat_interleave(n)
    chosen = torch.cat(
        [
            drawn[rows][best_of_group(scores[drawn[rows]], groups[rows])]
            for rows in torch.arange(num_groups * n).split(500 * n)
        ]
    )
    ratios = (best_of_n_probabilities(policy, scores, n)[chosen] / policy[chosen]).log()
    error = 4 * float(ratios.std()) / num_groups**0.5
    assert error < 0.06
    assert float(ratios.mean()) == pytest.approx(best_of_n_kl(n), abs=error)
    assert float(ratios.mean()) > best_of_n_kl(2) + error  # and not that of another n


def test_a_hopeless_sample_is_not_accepted_even_by_the_lowest_draw() -> None:
    scores, group = torch.tensor([-1e6, 0.0]), torch.zeros(2, dtype=torch.long)
    assert first_accepted(scores, group, torch.zeros(2), 0.5).tolist() == [False, True]


def test_scores_closer_than_single_precision_are_told_apart() -> None:
    scores, group = torch.tensor([1e8, 1e8 + 1], dtype=torch.float64), torch.zeros(2, dtype=torch.long)
    assert first_accepted(scores, group, torch.full((2,), 0.5).double(), 0.1).tolist() == [False, True]
    assert best_of_group(scores, group).tolist() == [False, True]
