"""Our divergences against TRL's generalised Jensen-Shannon loss (GKD) on the same logits."""

from __future__ import annotations

import pytest
import torch

from rlhf.functional.distillation import Divergence, divergence

pytest.importorskip("trl", reason="the peer is a test-only extra: pip install 'rlhf[peers]'")


@pytest.mark.parametrize("temperature", [1.0, 0.7, 3.0])
@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_value_and_gradient(beta: float, temperature: float) -> None:
    from trl.experimental.gkd.gkd_trainer import GKDTrainer

    student, teacher = 2 * torch.randn(3, 6, 31), 2 * torch.randn(3, 6, 31)
    labels = torch.where(torch.rand(3, 6) < 0.6, 1, -100)
    theirs_in, ours_in = student.clone().requires_grad_(), student.clone().requires_grad_()
    theirs = GKDTrainer.generalized_jsd_loss(theirs_in, teacher, labels, beta, temperature)
    theirs.backward()
    asked = labels != -100
    ours = divergence(ours_in, teacher, Divergence(beta, temperature))[asked].sum() / asked.sum()
    ours.backward()
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours_in.grad, theirs_in.grad, atol=1e-5, rtol=1e-5)
