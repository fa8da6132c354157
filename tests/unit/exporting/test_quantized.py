"""Quantised exports load in transformers and say nearly what the model said. They need an environment of their own
(docs/export.md), and are skipped in this one.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig, BertForMaskedLM

from rlhf.errors import ConfigError, RunError
from rlhf.exporting import exported
from rlhf.exporting.exported import Wanted, export
from rlhf.exporting.quantized import require_quantizable
from tests.unit.exporting.networks import load, logits_of, small_llama

SIZES = {"hidden_size": 128, "intermediate_size": 256, "max_position_embeddings": 64}
"""Weights are quantised in groups of 128."""


def needs_compressor() -> None:
    pytest.importorskip("llmcompressor", reason="needs llm-compressor (extra `quantize`, in an environment of its own)")


@pytest.fixture
def model(finished_run: Path, tmp_path: Path) -> Path:
    """A Llama with the vocabulary of the run."""
    folder = tmp_path / "model"
    small_llama(**SIZES).save_pretrained(folder)
    AutoTokenizer.from_pretrained(finished_run / "sft" / "model").save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("to", "bits", "kind", "alike"),
    [
        ("int8", 8, "int", 0.999),
        ("fp8", 8, "float", 0.995),
        ("gptq", 4, "int", 0.97),
        ("awq", 4, "int", 0.97),
    ],
)
def test_each_kind_loads_and_says_nearly_the_same(
    model: Path,
    rows: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    to: str,
    bits: int,
    kind: str,
    alike: float,
) -> None:
    needs_compressor()
    if to == "awq" and not torch.accelerator.is_available():  # pinning is all that keeps it from a CPU
        monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
        monkeypatch.setattr(exported, "require_compressor", lambda _: None)
    out = tmp_path / "out"
    data = rows if to in ("gptq", "awq") else None
    export(str(model), out, Wanted(to=to, data=data), lambda _: None)  # type: ignore[arg-type]
    told = json.loads((out / "config.json").read_text())["quantization_config"]
    weights = told["config_groups"]["group_0"]["weights"]
    assert (told["quant_method"], weights["num_bits"], weights["type"]) == ("compressed-tensors", bits, kind)
    assert told["ignore"] == ["lm_head"]
    before, after = logits_of(load(model)), logits_of(load(out))
    cosine = torch.nn.functional.cosine_similarity(before.flatten(), after.flatten(), dim=0)
    assert alike < float(cosine) < 0.999999
    assert AutoTokenizer.from_pretrained(out).chat_template
    assert (out / "model.safetensors").stat().st_size < (model / "model.safetensors").stat().st_size / 1.7
    assert to in (out / "README.md").read_text().split("---")[1]


def test_a_reward_model_keeps_its_head(finished_run: Path, tmp_path: Path) -> None:
    needs_compressor()
    out = tmp_path / "out"
    export(str(finished_run / "reward"), out, Wanted(to="int8"), lambda _: None)
    before, after = (
        AutoModelForSequenceClassification.from_pretrained(folder)
        for folder in (finished_run / "reward" / "model", out)
    )
    assert torch.equal(before.score.weight, after.score.weight)
    torch.testing.assert_close(logits_of(after), logits_of(before), atol=0.1, rtol=0.1)


def test_what_the_library_cannot_do_is_said(finished_run: Path, rows: Path, tmp_path: Path) -> None:
    """Layers narrower than a group."""
    needs_compressor()
    with pytest.raises(RunError, match=r"llm-compressor could not make gptq of it: .* not divisible by group_size"):
        export(str(finished_run), tmp_path / "out", Wanted(to="gptq", data=rows), lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_awq_without_a_gpu_is_refused(finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="--to awq needs a GPU"):
        export(str(finished_run), tmp_path / "out", Wanted(to="awq"), lambda _: None)


def test_other_kinds_of_models_are_refused(tmp_path: Path) -> None:
    BertForMaskedLM(
        BertConfig(vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=1)
    ).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="BertForMaskedLM: only language and reward models can be quantised"):
        require_quantizable(tmp_path)
