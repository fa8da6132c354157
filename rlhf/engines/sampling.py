"""Choosing tokens from logits, each row by its own random numbers, so that a sample never depends on its batch."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor

from rlhf.types import Sampling


def uniforms(seed: int, prompt_id: str, sample: int, number: int) -> Tensor:
    """`number` uniform draws in [0, 1), float64: a function of these arguments alone.

    Philox (Salmon et al. 2011) is counter-based: the key, a hash of all three, is the whole state.
    """
    digest = hashlib.blake2b(f"{seed}\0{sample}\0{prompt_id}".encode(), digest_size=16).digest()
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
    return torch.from_numpy(generator.random(number))


def choose(logits_BV: Tensor, uniforms_B: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Tokens `[B]` and their log-probs `[B]`, float32.

    The log-probs are those of the whole distribution at the temperature, before logit bias, min-p, top-k and top-p:
    what a trainer recomputes, and what ratios and KL must be taken from. At temperature 0 the token is the most likely
    one and its log-prob that at temperature 1.
    """
    scaled_BV = logits_BV.float() / (sampling.temperature or 1.0)
    logprobs_BV = scaled_BV.log_softmax(dim=-1)
    drawn_from_BV = _biased(logprobs_BV, sampling)
    if sampling.temperature == 0:
        tokens_B = drawn_from_BV.argmax(dim=-1)
    else:
        tokens_B = _inverse_cdf(_filtered(drawn_from_BV, sampling), uniforms_B)
    return tokens_B, logprobs_BV.gather(-1, tokens_B[:, None]).squeeze(-1)


def _biased(logprobs_BV: Tensor, sampling: Sampling) -> Tensor:
    """Log-probs with the bias, which is given for logits before the temperature."""
    if not sampling.logit_bias:
        return logprobs_BV
    tokens, bias = zip(*sampling.logit_bias.items(), strict=True)
    bent_BV = logprobs_BV.clone()
    bent_BV[:, list(tokens)] += logprobs_BV.new_tensor(bias) / (sampling.temperature or 1.0)
    return bent_BV.log_softmax(dim=-1)


def _filtered(logprobs_BV: Tensor, sampling: Sampling) -> Tensor:
    """Probabilities, not normalised, zero outside what `min_p`, the `top_k` likeliest tokens and the smallest set
    holding `top_p` of them leave, in this order.
    """
    probabilities = logprobs_BV.exp()
    if sampling.min_p > 0:
        lowest_kept = sampling.min_p * probabilities.amax(dim=-1, keepdim=True)
        probabilities = torch.where(probabilities >= lowest_kept, probabilities, 0.0)
    if 0 < sampling.top_k < probabilities.shape[-1]:
        lowest_kept = probabilities.topk(sampling.top_k).values[:, -1:]
        probabilities = torch.where(probabilities >= lowest_kept, probabilities, 0.0)
    if sampling.top_p < 1:
        ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
        wanted = sampling.top_p * ordered.sum(dim=-1, keepdim=True)
        kept = torch.where(ordered.cumsum(dim=-1) - ordered < wanted, ordered, 0.0)
        probabilities = torch.zeros_like(probabilities).scatter(-1, order, kept)
    return probabilities


def _inverse_cdf(probabilities_BV: Tensor, uniforms_B: Tensor) -> Tensor:
    """The first token at which the cumulative probability passes the draw: never one of probability zero."""
    cumulative = probabilities_BV.double().cumsum(dim=-1)
    draw_B1 = uniforms_B[:, None] * cumulative[:, -1:]
    tokens_B1 = torch.searchsorted(cumulative, draw_B1, right=True)
    return tokens_B1.squeeze(1).clamp(max=probabilities_BV.shape[-1] - 1)
