"""From scores to what each token is credited with: shaped rewards, GAE, discounted returns.

All three run over the tokens the policy chose. Environment tokens (a tool's output, a user's next turn) lie between
them outside the mask and are not steps: value, trace and return are carried over them unchanged.
"""

from __future__ import annotations

import torch
from torch import Tensor


def token_rewards(scores_B: Tensor, kl: Tensor, mask: Tensor, kl_coef: float) -> Tensor:
    """`r_t = -kl_coef * kl_t`, plus the row's score on its last masked token. Zero outside the mask.

    The last token is found by the mask, not by a length. A row with an empty mask gets nothing, its score neither.
    Ouyang et al. 2022 (InstructGPT, arXiv:2203.02155), equation 2, per token.
    """
    is_last = mask & (mask.cumsum(1) == mask.sum(1, keepdim=True))
    return torch.where(mask, -kl_coef * kl, 0) + torch.where(is_last, scores_B.unsqueeze(1), 0)


@torch.no_grad()
def gae(
    rewards: Tensor,
    values: Tensor,
    mask: Tensor,
    gamma: float,
    lam: float | Tensor,
    final_values_B: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`(advantages, returns)`, both `[B, T]`, without gradient, zero outside the mask.

        delta_t = r_t + gamma * V_next - V_t,    A_t = delta_t + gamma * lam * A_next,    R_t = A_t + V_t

    where "next" is the row's next masked token, and `lam` is one number or one a row, `[B]`. Schulman et al. 2016
    (arXiv:1506.02438), equation 16. `values[:, t]` is the value of the state in which token t is chosen.
    `final_values_B` is the value after the last token: zero for a row that ended, the value model's estimate for one
    that was cut off (being truncated is not an end). None: all ended.
    """
    next_value = torch.zeros_like(values[:, 0]) if final_values_B is None else final_values_B
    next_advantage = torch.zeros_like(next_value)
    advantages = torch.empty_like(values)
    for t in reversed(range(values.shape[1])):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        next_advantage = torch.where(mask[:, t], delta + gamma * lam * next_advantage, next_advantage)
        next_value = torch.where(mask[:, t], values[:, t], next_value)
        advantages[:, t] = next_advantage
    return torch.where(mask, advantages, 0), torch.where(mask, advantages + values, 0)


def length_adaptive_lam(mask: Tensor, alpha: float) -> Tensor:
    """`max(0, 1 - 1/(alpha * length))`, `[B]`: the longer the completion, the farther its score reaches back.

    VAPO (Yue et al. 2025, arXiv:2504.05118), section 4.2, where alpha is 0.05: credit decays over 1/(1 - lam) tokens,
    which is then the share `alpha` of the completion. 0 for an empty row.
    """
    lengths_B = mask.sum(1).clamp(min=1).float()
    return (1 - 1 / (alpha * lengths_B)).clamp(min=0)


@torch.no_grad()
def discounted_returns(rewards: Tensor, mask: Tensor, gamma: float) -> Tensor:
    """`R_t = r_t + gamma * R_next` over the masked tokens, `[B, T]`, zero outside the mask.

    The returns of REINFORCE++ (Hu et al. 2025, arXiv:2501.03262). A reward outside the mask is nobody's and is ignored.
    """
    running = torch.zeros_like(rewards[:, 0])
    returns = torch.empty_like(rewards)
    for t in reversed(range(rewards.shape[1])):
        running = torch.where(mask[:, t], rewards[:, t] + gamma * running, running)
        returns[:, t] = running
    return torch.where(mask, returns, 0)
