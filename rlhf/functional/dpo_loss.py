"""DPO and its relatives: losses of `h`, by how much more the policy than its reference prefers the better completion.

    h = log(pi/pi_ref)(y_w|x) - log(pi/pi_ref)(y_l|x)

Each log-prob is summed over the completion's tokens; IPO and length-normalised DPO take means instead. `beta h` is the
gap of the implicit rewards `beta log(pi/pi_ref)`. Losses come back for each entry of `h`, of any shape.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid, relu


def dpo_logits(
    policy_chosen_B: Tensor, policy_rejected_B: Tensor, ref_chosen_B: Tensor, ref_rejected_B: Tensor
) -> Tensor:
    """`h`, `[B]`, from the log-probs of the completions."""
    return (policy_chosen_B - policy_rejected_B) - (ref_chosen_B - ref_rejected_B)


def dpo_loss(logits_B: Tensor, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """`-(1 - e) log sigmoid(beta h) - e log sigmoid(-beta h)` (Rafailov et al. 2023, arXiv:2305.18290, equation 7).

    `label_smoothing` e > 0 is conservative DPO: a share e of the labels is taken to be wrong, and `h` is drawn to the
    finite value at which `sigmoid(beta h) = 1 - e` (Mitchell 2023, "A note on DPO with noisy preferences").
    """
    right, wrong = logsigmoid(beta * logits_B), logsigmoid(-beta * logits_B)
    return -(1 - label_smoothing) * right - label_smoothing * wrong


def robust_dpo_loss(logits_B: Tensor, beta: float, flip_rate: float) -> Tensor:
    """`(-(1 - e) log sigmoid(beta h) + e log sigmoid(-beta h)) / (1 - 2 e)` (Chowdhury et al. 2024, arXiv:2403.00409).

    Its mean over labels of which a share e < 1/2 was flipped is the loss on clean labels.
    """
    right, wrong = logsigmoid(beta * logits_B), logsigmoid(-beta * logits_B)
    return (-(1 - flip_rate) * right + flip_rate * wrong) / (1 - 2 * flip_rate)


def dpo_hinge_loss(logits_B: Tensor, beta: float) -> Tensor:
    """`max(0, 1 - beta h)` (SLiC, arXiv:2305.10425, as normalised by RSO, arXiv:2309.06657)."""
    return relu(1 - beta * logits_B)


def ipo_loss(logits_B: Tensor, beta: float) -> Tensor:
    """`(h - 1/(2 beta))^2` (Azar et al. 2023, arXiv:2310.12036, equation 17, where beta is tau).

    With `h` from log-probs *averaged* over each completion's tokens, as the authors ran it: of sums, the squared error
    grows with length and no beta fits both short and long completions.
    """
    return (logits_B - 1 / (2 * beta)).square()
