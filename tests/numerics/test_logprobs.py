"""Chunked log-probabilities and entropy: equal to the plain form in value and in gradient."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from rlhf.functional.logprobs import entropy, gather_logprobs, head_logprobs, output_head, token_logprobs

N, V, H = 13, 11, 4


def head_inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(N, H, generator=generator, dtype=dtype, requires_grad=True)
    weight = torch.randn(V, H, generator=generator, dtype=dtype, requires_grad=True)
    bias = torch.randn(V, generator=generator, dtype=dtype, requires_grad=True)
    return hidden, weight, bias, torch.randint(V, (N,), generator=generator)


def test_by_hand() -> None:
    logits = torch.tensor([[math.log(1.0), math.log(3.0)]])
    assert gather_logprobs(logits, torch.tensor([1])).item() == pytest.approx(math.log(0.75))
    assert entropy(logits).item() == pytest.approx(-(0.25 * math.log(0.25) + 0.75 * math.log(0.75)))
    # Temperature 1/2 squares the odds: 1 to 9.
    assert gather_logprobs(logits, torch.tensor([1]), temperature=0.5).item() == pytest.approx(math.log(0.9))
    assert entropy(logits, temperature=0.5).item() == pytest.approx(-(0.1 * math.log(0.1) + 0.9 * math.log(0.9)))


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_by_definition(temperature: float) -> None:
    hidden, weight, bias, targets = head_inputs()
    logprobs, entropies = token_logprobs(hidden, weight, targets, bias=bias, temperature=temperature, chunk=3)
    for n in range(N):
        odds = [
            math.exp((sum(hidden[n, h].item() * weight[v, h].item() for h in range(H)) + bias[v].item()) / temperature)
            for v in range(V)
        ]
        p = [o / sum(odds) for o in odds]
        assert logprobs[n].item() == pytest.approx(math.log(p[int(targets[n])]))
        assert entropies[n].item() == pytest.approx(-sum(q * math.log(q) for q in p))


def test_is_minus_cross_entropy() -> None:
    logits = torch.randn(2, 5, V)
    tokens = torch.randint(V, (2, 5))
    expected = -cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="none").view(2, 5)
    torch.testing.assert_close(gather_logprobs(logits, tokens), expected)


@pytest.mark.parametrize("chunk", [1, 4, N - 1, N, 100])
def test_no_chunk_size_changes_value_or_gradient(chunk: int) -> None:
    def run(chunk: int) -> list[Tensor]:
        hidden, weight, bias, targets = head_inputs(torch.float32)
        logprobs, entropies = token_logprobs(
            hidden, weight, targets, bias=bias, logit_scale=0.5, logit_softcap=2.0, temperature=0.8,
            chunk=chunk, entropy_grad=True,
        )  # fmt: skip
        (logprobs * torch.arange(N) + 3 * entropies.square()).sum().backward()
        return [logprobs, entropies, *(x.grad for x in (hidden, weight, bias) if x.grad is not None)]

    plain, chunked = run(1000), run(chunk)
    assert len(plain) == len(chunked) == 5
    for ours, theirs in zip(chunked, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_scale_and_softcap() -> None:
    hidden, weight, bias, targets = head_inputs()
    logits = (hidden @ weight.T + bias) * 0.3
    scaled, _ = token_logprobs(hidden, weight, targets, bias=bias, logit_scale=0.3)
    torch.testing.assert_close(scaled, gather_logprobs(logits, targets))
    capped, entropies = token_logprobs(hidden, weight, targets, bias=bias, logit_scale=0.3, logit_softcap=1.5)
    torch.testing.assert_close(capped, gather_logprobs(1.5 * torch.tanh(logits / 1.5), targets))
    torch.testing.assert_close(entropies, entropy(1.5 * torch.tanh(logits / 1.5)))


def test_a_plain_head_is_the_matrix_product() -> None:
    hidden, weight = torch.randn(3, 4), torch.randn(7, 4)
    torch.testing.assert_close(output_head(weight)(hidden), hidden @ weight.T)


def test_any_head_will_do() -> None:
    hidden, weight, bias, targets = head_inputs()
    module = torch.nn.Linear(H, V, dtype=torch.float64)
    module.weight.data, module.bias.data = weight.data, bias.data
    ours, _ = head_logprobs(hidden, module, targets, chunk=4)
    torch.testing.assert_close(ours, token_logprobs(hidden, weight, targets, bias=bias)[0])
    ours.sum().backward()
    assert module.weight.grad is not None


def test_entropy_carries_a_gradient_only_when_asked() -> None:
    hidden, weight, _, targets = head_inputs()
    for chunk in (4, 100):
        assert not token_logprobs(hidden, weight, targets, chunk=chunk)[1].requires_grad
        assert token_logprobs(hidden, weight, targets, chunk=chunk, entropy_grad=True)[1].requires_grad
        logprobs, entropies = token_logprobs(hidden, weight, targets, chunk=chunk, with_entropy=False)
        assert logprobs.requires_grad
        assert entropies.tolist() == [0] * N


def test_gradients() -> None:
    hidden, weight, bias, targets = head_inputs()
    assert torch.autograd.gradcheck(
        lambda h, w, b: token_logprobs(
            h, w, targets, bias=b, temperature=0.7, logit_softcap=3.0, chunk=4, entropy_grad=True
        ),
        (hidden, weight, bias),
    )


def test_entropy_is_highest_for_the_uniform_and_grows_with_temperature() -> None:
    assert entropy(torch.zeros(1, V)).item() == pytest.approx(math.log(V))
    logits = torch.randn(6, V)
    assert (entropy(logits, 2.0) > entropy(logits, 1.0)).all()


def test_impossible_tokens_leave_value_and_gradient_finite() -> None:
    logits = torch.tensor([[0.0, 0.0, -math.inf]], requires_grad=True)
    value = entropy(logits)
    assert value.item() == pytest.approx(math.log(2))
    value.sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_low_precision_logits_are_worked_on_in_float32() -> None:
    logits = (torch.randn(3, 50) * 5).bfloat16()
    tokens = torch.tensor([0, 7, 49])
    assert gather_logprobs(logits, tokens, 0.7).dtype == torch.float32
    assert torch.equal(gather_logprobs(logits, tokens, 0.7), gather_logprobs(logits.float(), tokens, 0.7))
    assert torch.equal(entropy(logits, 0.7), entropy(logits.float(), 0.7))


def test_no_tokens_is_an_empty_result() -> None:
    logprobs, entropies = token_logprobs(torch.zeros(0, H), torch.zeros(V, H), torch.zeros(0, dtype=torch.int64))
    assert logprobs.shape == entropies.shape == (0,)


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_temperature_must_be_positive(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature must be above 0"):
        gather_logprobs(torch.zeros(1, 2), torch.tensor([0]), temperature)


class LargestTensor(TorchDispatchMode):
    """Watches every tensor that is made, in the backward pass too."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, tuple | list) else (out,):
            if isinstance(x, Tensor):
                self.numel = max(self.numel, x.numel())
        return out


def test_logits_of_the_whole_batch_are_never_held() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(64, 4, generator=generator, requires_grad=True)
    weight = torch.randn(100, 4, generator=generator, requires_grad=True)
    targets = torch.randint(100, (64,), generator=generator)
    saved: list[int] = []
    with (
        LargestTensor() as watch,
        torch.autograd.graph.saved_tensors_hooks(lambda x: (saved.append(x.numel()), x)[1], lambda x: x),
    ):
        logprobs, entropies = token_logprobs(hidden, weight, targets, chunk=8, entropy_grad=True)
        held_by_graph = max(saved, default=0)
        (logprobs.sum() + entropies.sum()).backward()
    assert watch.numel <= 8 * 100
    assert held_by_graph <= 100 * 4  # weights at most: no chunk's logits wait for the backward pass


def test_nothing_is_computed_twice_without_need() -> None:
    """One chunk is held anyway, and without gradients there is no backward pass."""
    sizes: list[int] = []

    def head(hidden: Tensor) -> Tensor:
        sizes.append(len(hidden))
        return hidden

    hidden, targets = torch.randn(4, 5, requires_grad=True), torch.arange(4)
    head_logprobs(hidden, head, targets, chunk=4)[0].sum().backward()
    assert sizes == [4]
    with torch.no_grad():
        head_logprobs(hidden, head, targets, chunk=2)
    assert sizes == [4, 2, 2]
    head_logprobs(hidden, head, targets, chunk=2)[0].sum().backward()
    assert sizes == [4, 2, 2, 2, 2, 2, 2]


def test_the_default_chunk_bounds_what_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlhf.functional.logprobs.LOGITS_AT_ONCE", 50)
    with LargestTensor() as watch:
        token_logprobs(torch.zeros(64, 1), torch.zeros(10, 1), torch.zeros(64, dtype=torch.int64))
    assert watch.numel <= 64  # 5 tokens of 10 logits; the 64 is the result


def test_a_vocabulary_beyond_the_bound_goes_token_by_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlhf.functional.logprobs.LOGITS_AT_ONCE", 5)
    with LargestTensor() as watch:
        token_logprobs(torch.zeros(4, 1), torch.zeros(10, 1), torch.zeros(4, dtype=torch.int64))
    assert watch.numel == 10


def test_as_many_targets_as_states() -> None:
    with pytest.raises(ValueError, match="4 hidden states were given with 6 targets"):
        token_logprobs(torch.zeros(4, 1), torch.zeros(10, 1), torch.zeros(6, dtype=torch.int64), chunk=2)


def test_a_head_gives_entropy_without_gradient_unless_told() -> None:
    hidden, weight, _, targets = head_inputs()
    _, entropies = head_logprobs(hidden, lambda h: h @ weight.T, targets, chunk=4)
    torch.testing.assert_close(entropies, entropy(hidden @ weight.T).detach())
    assert not entropies.requires_grad


def test_any_leading_shape() -> None:
    logits = torch.randn(2, 3, V)
    torch.testing.assert_close(entropy(logits), entropy(logits.flatten(0, 1)).view(2, 3))
