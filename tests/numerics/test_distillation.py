"""Divergences of a student from a teacher, and their chunked form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rlhf.functional.distillation import FORWARD_KL, Divergence, divergence, head_divergence

KINDS = (Divergence(0.0), Divergence(1.0), Divergence(0.5), Divergence(0.1), Divergence(0.9, temperature=2.0))
HALF, QUARTER = [0.5, 0.5], [0.25, 0.75]


def of(student: list[float], teacher: list[float], beta: float) -> float:
    logits = [torch.tensor([probabilities], dtype=torch.float64).log() for probabilities in (student, teacher)]
    return float(divergence(*logits, Divergence(beta)))


def test_by_hand() -> None:
    assert of(QUARTER, HALF, 0.0) == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    assert of(QUARTER, HALF, 1.0) == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5))
    # beta weighs the teacher: m = 0.8 [0.5, 0.5] + 0.2 [0.25, 0.75] = [0.45, 0.55]
    teachers = 0.5 * math.log(0.5 / 0.45) + 0.5 * math.log(0.5 / 0.55)
    students = 0.25 * math.log(0.25 / 0.45) + 0.75 * math.log(0.75 / 0.55)
    assert of(QUARTER, HALF, 0.8) == pytest.approx(0.8 * teachers + 0.2 * students)
    assert Divergence(beta=0.0, temperature=1.0) == FORWARD_KL


@pytest.mark.parametrize("kind", KINDS)
def test_by_definition(kind: Divergence) -> None:
    student, teacher = torch.randn(4, 7).double(), torch.randn(4, 7).double()
    found = divergence(student, teacher, kind)
    for n in range(4):
        q, p = (softmax([float(z) / kind.temperature for z in logits[n]]) for logits in (student, teacher))
        m = [kind.beta * a + (1 - kind.beta) * b for a, b in zip(p, q, strict=True)]
        if kind.beta in (0, 1):
            wanted = kl(p, q) if kind.beta == 0 else kl(q, p)
        else:
            wanted = kind.beta * kl(p, m) + (1 - kind.beta) * kl(q, m)
        assert float(found[n]) == pytest.approx(wanted, rel=1e-10)


def softmax(logits: list[float]) -> list[float]:
    total = sum(math.exp(z) for z in logits)
    return [math.exp(z) / total for z in logits]


def kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_zero_for_equals_and_positive_else(kind: Divergence) -> None:
    student, teacher = torch.randn(50, 9), torch.randn(50, 9)
    torch.testing.assert_close(divergence(student, student + 3, kind), torch.zeros(50), atol=1e-6, rtol=0)
    assert (divergence(student, teacher, kind) > 0).all()


def test_relations_of_the_three() -> None:
    student, teacher = torch.randn(6, 5).double(), torch.randn(6, 5).double()
    forward = divergence(student, teacher, Divergence(0.0))
    torch.testing.assert_close(divergence(teacher, student, Divergence(1.0)), forward)
    mirrored = divergence(teacher, student, Divergence(0.7))
    torch.testing.assert_close(divergence(student, teacher, Divergence(0.3)), mirrored)
    small = 1e-6
    torch.testing.assert_close(divergence(student, teacher, Divergence(small)) / small, forward, rtol=1e-4, atol=1e-6)
    apart = divergence(torch.tensor([[0.0, 60.0]]), torch.tensor([[60.0, 0.0]]), Divergence(0.5))
    assert float(apart) == pytest.approx(math.log(2))  # bounded, where either KL is not
    hot = divergence(student, teacher, Divergence(0.0, temperature=3.0))
    torch.testing.assert_close(hot, divergence(student / 3, teacher / 3, FORWARD_KL))
    assert (hot < forward).all()


@pytest.mark.parametrize("kind", KINDS)
def test_gradient(kind: Divergence) -> None:
    student, teacher = torch.randn(3, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: divergence(x, teacher, kind), (student.requires_grad_(),))
    teacher.requires_grad_()
    divergence(student, teacher, kind).sum().backward()
    assert teacher.grad is None
    if kind == FORWARD_KL:  # q - p: what the teacher finds likelier is pushed up
        assert student.grad is not None
        torch.testing.assert_close(student.grad, student.detach().softmax(-1) - teacher.detach().softmax(-1))


def test_tokens_that_are_ruled_out_count_nothing() -> None:
    student = torch.tensor([[0.3, -0.2, -math.inf]], requires_grad=True)
    teacher = torch.tensor([[0.1, 0.9, -math.inf]])
    for beta in (0.0, 1.0):
        found = divergence(student, teacher, Divergence(beta))
        torch.testing.assert_close(found, divergence(student[:, :2], teacher[:, :2], Divergence(beta)))
    only_teacher = divergence(torch.tensor([[0.3, -0.2, 0.5]]), teacher, FORWARD_KL)
    assert math.isfinite(float(only_teacher))


def test_half_precision_is_computed_in_single() -> None:
    student, teacher = torch.randn(4, 300), torch.randn(4, 300)
    found = divergence(student.bfloat16(), teacher.bfloat16(), Divergence(0.5))
    assert found.dtype == torch.float32
    torch.testing.assert_close(
        found, divergence(student.bfloat16().float(), teacher.bfloat16().float(), Divergence(0.5))
    )


# --- in chunks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_chunks_change_neither_value_nor_gradient(kind: Divergence, chunk: int) -> None:
    hidden, taught = torch.randn(7, 6, requires_grad=True), torch.randn(7, 4)
    head, teacher_head = torch.nn.Linear(6, 11), torch.nn.Linear(4, 11).requires_grad_(False)
    plain = divergence(head(hidden), teacher_head(taught), kind)
    gradients = torch.autograd.grad((plain * torch.arange(7)).sum(), (hidden, *head.parameters()))
    chunked = head_divergence(hidden, head, taught, teacher_head, kind, chunk=chunk)
    torch.testing.assert_close(chunked, plain)
    again = torch.autograd.grad((chunked * torch.arange(7)).sum(), (hidden, *head.parameters()))
    torch.testing.assert_close(again, gradients)


def test_no_more_than_a_chunk_of_logits_is_held() -> None:
    sizes: list[int] = []

    def head(hidden: Tensor) -> Tensor:
        sizes.append(len(hidden))
        return hidden

    hidden = torch.randn(10, 5, requires_grad=True)
    saved: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
        value = head_divergence(hidden, head, torch.randn(10, 5), head, Divergence(0.5), chunk=4).sum()
    assert sorted(set(sizes)) == [2, 4]
    forward_calls = len(sizes)
    value.backward()
    assert len(sizes) == 2 * forward_calls  # recomputed
    assert max(saved) <= 4 * 5
    assert head_divergence(hidden[:0], head, hidden[:0], head, FORWARD_KL, chunk=4).shape == (0,)


def test_nothing_is_computed_twice_without_need() -> None:
    """One chunk is held anyway, and without gradients there is no backward pass."""
    sizes: list[int] = []

    def head(hidden: Tensor) -> Tensor:
        sizes.append(len(hidden))
        return hidden

    hidden, teacher = torch.randn(4, 5, requires_grad=True), torch.randn(4, 5)
    head_divergence(hidden, head, teacher, head, FORWARD_KL, chunk=4).sum().backward()
    assert sizes == [4, 4]
    with torch.no_grad():
        plain = head_divergence(hidden, head, teacher, head, FORWARD_KL, chunk=2)
    assert sizes == [4, 4, 2, 2, 2, 2]
    torch.testing.assert_close(plain, divergence(hidden, teacher, FORWARD_KL).detach())


def test_student_and_teacher_must_speak_of_the_same_tokens() -> None:
    with pytest.raises(ValueError, match="zip"):
        head_divergence(torch.randn(9, 5), lambda h: h, torch.randn(4, 5), lambda h: h, FORWARD_KL, chunk=4)
