"""What is made on the way to a result is made where the inputs are.

Torch's `meta` device computes shapes alone, and refuses to mix with tensors of the CPU, as a GPU does.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from rlhf.functional.plackett_luce import plackett_luce_loss
from rlhf.functional.preference_loss import centring_loss, ranking_accuracy, ranking_loss
from rlhf.functional.selection import best_of_group

SCORES, PRESENT, MARGINS = torch.empty(5, 3, device="meta"), torch.ones(5, 3, device="meta").bool(), torch.empty(5)
GROUPS = torch.empty(5, dtype=torch.long, device="meta")


@pytest.mark.parametrize(
    "work",
    [
        lambda: ranking_loss(SCORES, PRESENT, MARGINS.to("meta"), 0.1).mean_B,
        lambda: plackett_luce_loss(SCORES, PRESENT, MARGINS.to("meta"), 0.1).mean_B,
        lambda: centring_loss(SCORES, PRESENT).mean_B,
        lambda: ranking_accuracy(SCORES, PRESENT).mean_B,
        lambda: best_of_group(SCORES[:, 0], GROUPS, 2),
    ],
    ids=["ranking_loss", "plackett_luce_loss", "centring_loss", "ranking_accuracy", "best_of_group"],
)
def test_a_figure_of_each_prompt_stays_where_its_scores_are(work: Callable[[], Tensor]) -> None:
    found = work()
    assert found.device.type == "meta"
    assert found.shape == (5,)


def test_a_mix_of_devices_would_be_noticed() -> None:
    with pytest.raises(RuntimeError, match="device"):
        plackett_luce_loss(SCORES, PRESENT, MARGINS)
