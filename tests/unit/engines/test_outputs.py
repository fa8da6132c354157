"""What a role says of a batch, against transformers' own arithmetic."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from rlhf.config import ModelConfig, RoleSpec
from rlhf.engines.settings import TorchConfig
from rlhf.engines.torch_engine import TorchEngine
from rlhf.errors import ConfigError, DataError
from rlhf.types import PreferenceBatch
from tests.unit.engines.families import FAMILIES, make_batch

LENGTHS = [9, 3, 12, 1, 7, 5]


def engine(path, role="policy", temperature=1.0, **config):
    spec = RoleSpec(role=role, model=ModelConfig(path=path), temperature=temperature)
    return TorchEngine(TorchConfig(**config), spec)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("packing", [False, True])
def test_logprobs_are_those_of_the_models_own_logits(model_path, family, packing):
    batch = make_batch(LENGTHS)
    output = engine(model_path(family), temperature=0.7, micro_batch_tokens=40, packing=packing).forward(batch)
    network = AutoModelForCausalLM.from_pretrained(model_path(family)).eval()
    for row, length in enumerate(LENGTHS):
        tokens = batch.tokens[row : row + 1, :length]
        with torch.no_grad():
            full = (network(tokens).logits[0].float() / 0.7).log_softmax(-1)
        expected = full[:-1].gather(-1, tokens[0, 1:, None]).squeeze(-1)
        entropy = -(full.exp() * full).sum(-1)[:-1]
        asked = batch.response_mask[row, 1:length]
        torch.testing.assert_close(output.logprobs[row, 1:length][asked], expected[asked], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(output.entropy[row, 1:length][asked], entropy[asked], atol=3e-5, rtol=1e-5)
    assert torch.equal(output.logprobs[~batch.response_mask], torch.zeros(int((~batch.response_mask).sum())))


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "gemma2"])
@pytest.mark.parametrize("packing", [False, True])
def test_scores_and_values_are_those_of_the_classifier(model_path, family, packing, tmp_path):
    rewards = engine(model_path(family), role="reward", micro_batch_tokens=40, packing=packing)
    rewards.export(tmp_path)
    batch = make_batch(LENGTHS)
    scores_B = rewards.forward(batch).scores_B
    values = engine(str(tmp_path), role="value", micro_batch_tokens=40, packing=packing).forward(batch)
    network = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    for row, length in enumerate(LENGTHS):
        for end in range(1, length + 1):
            with torch.no_grad():
                score = network(batch.tokens[row : row + 1, :end]).logits[0, 0]
            got = values.values[row, end] if end < length else values.final_values_B[row]
            torch.testing.assert_close(got, score, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(scores_B[row], score, atol=1e-5, rtol=1e-5)
    assert torch.equal(values.values[:, 0], torch.zeros(len(batch)))
    assert torch.equal(values.values[~batch.attention_mask], torch.zeros(int((~batch.attention_mask).sum())))


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("role", ["policy", "value", "reward"])
def test_neither_padding_nor_order_nor_micro_batches_matter(model_path, role, packing):
    batch = make_batch(LENGTHS, width=15)
    expected = vars(engine(model_path("llama"), role=role, micro_batch_tokens=10000).forward(batch))
    other = engine(model_path("llama"), role=role, micro_batch_tokens=20, packing=packing)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    for name, value in vars(other.forward(batch[order])).items():
        torch.testing.assert_close(value, expected[name][order], atol=1e-5, rtol=1e-5)


def test_a_packed_neighbour_changes_nothing(model_path):
    policy = engine(model_path("qwen2"), packing=True)
    batch = make_batch([6, 6, 6])
    before = policy.forward(batch).logprobs
    batch.tokens[1] = (batch.tokens[1] + 7) % 50
    after = policy.forward(batch).logprobs
    torch.testing.assert_close(after[[0, 2]], before[[0, 2]], atol=1e-6, rtol=0)
    assert not torch.allclose(after[1], before[1])


def test_a_family_that_cannot_be_packed_is_refused(tmp_path):
    from transformers import BloomConfig, BloomForCausalLM

    BloomForCausalLM(BloomConfig(vocab_size=61, hidden_size=32, n_layer=2, n_head=2)).save_pretrained(tmp_path)
    assert engine(str(tmp_path)).forward(make_batch([4, 6])).logprobs.isfinite().all()
    with pytest.raises(ConfigError, match=r"BloomForCausalLM cannot keep packed rows apart.*packing: auto"):
        engine(str(tmp_path), packing=True)


@pytest.mark.parametrize("packing", [False, True])
def test_blank_rows_score_zero_and_disturb_nobody(model_path, packing):
    for role, names in [("policy", ["logprobs"]), ("value", ["values", "final_values_B"]), ("reward", ["scores_B"])]:
        model = engine(model_path("llama"), role=role, packing=packing)
        full, blank = model.forward(make_batch([5, 8], width=8)), model.forward(make_batch([5, 8, 0, 0], width=8))
        only_blank = model.forward(make_batch([0, 0], width=8))
        for name in names:
            torch.testing.assert_close(getattr(blank, name)[:2], getattr(full, name), atol=1e-6, rtol=0)
            assert not getattr(only_blank, name).any()
            if name != "final_values_B":
                assert not getattr(blank, name)[2:].any()


def test_candidates_of_a_preference_come_back_in_order(model_path):
    rows = make_batch([5, 9, 3, 12, 8, 2])
    batch = PreferenceBatch(candidates=rows, present_BK=torch.ones(3, 2, dtype=torch.bool), margin_B=torch.zeros(3))
    model = engine(model_path("llama"), role="reward", micro_batch_tokens=20)
    torch.testing.assert_close(model.forward(batch).scores_B, model.forward(rows).scores_B, atol=1e-5, rtol=1e-5)


def test_a_fresh_reward_head_has_the_published_spread_and_is_seeded(model_path):
    heads = [
        TorchEngine(
            TorchConfig(), RoleSpec(role=role, model=ModelConfig(path=model_path("llama")), seed=seed)
        ).model.head
        for role, seed in [("reward", 1), ("reward", 1), ("reward", 2), ("value", 1)]
    ]
    assert torch.equal(heads[0].weight, heads[1].weight)
    assert not torch.equal(heads[0].weight, heads[2].weight)
    assert 0.7 < float(heads[0].weight.std()) * 33**0.5 < 1.3
    assert not heads[3].weight.any()


def test_what_does_not_fit_the_model_is_named(model_path, tmp_path):
    policy = engine(model_path("llama"))
    with pytest.raises(DataError, match="row of 65 tokens was given to the policy, whose context is 64"):
        policy.forward(make_batch([65]))
    batch = make_batch([4])
    batch.tokens[0, 1] = 61
    with pytest.raises(DataError, match="token 61 was given to the policy, whose vocabulary has 61"):
        policy.forward(batch)
    with pytest.raises(ConfigError, match="cannot load the model"):
        engine(str(tmp_path / "absent"))
    engine(model_path("llama"), role="reward").export(tmp_path / "reward")
    with pytest.raises(ConfigError, match=r"no weights for lm_head.weight.*saved as a reward model"):
        engine(str(tmp_path / "reward"))
