"""Merged weights: the same model as adapter and base, in shards and formats of choice, and nothing beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, LlamaForCausalLM

from rlhf.errors import ConfigError
from rlhf.exporting.exported import Wanted, export
from rlhf.exporting.model_folder import write_model
from rlhf.exporting.source import find_source
from tests.unit.exporting.networks import load, logits_of, small_gpt2, small_llama


def exported(source: Path, out: Path, **wanted: Any) -> Path:
    export(str(source), out, Wanted(**wanted), lambda _: None)
    return out


# --- the same model --------------------------------------------------------------------------------------------------


def test_merged_and_adapter_plus_base_have_the_same_logits(finished_run: Path, tmp_path: Path) -> None:
    merged = exported(finished_run, tmp_path / "merged")
    adapter = exported(finished_run, tmp_path / "adapter", to="adapter")
    base = load(finished_run / "sft" / "model")
    untuned = logits_of(base)
    tuned = logits_of(PeftModel.from_pretrained(base, adapter))
    assert (tuned - untuned).abs().max() > 0.1
    torch.testing.assert_close(logits_of(load(merged)), tuned, atol=1e-5, rtol=0)


def test_an_adapter_folder_is_merged_into_its_base(finished_run: Path, tmp_path: Path) -> None:
    """As one of another machine comes: the adapter alone, its base named in it."""
    merged = exported(finished_run / "tuned" / "model" / "adapter", tmp_path / "merged")
    torch.testing.assert_close(
        logits_of(load(merged)), logits_of(load(finished_run / "tuned/model")), atol=1e-5, rtol=0
    )
    assert AutoTokenizer.from_pretrained(merged).chat_template


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("rank_stabilised", [False, True])
def test_adapters_of_peft_are_merged_as_peft_does(
    finished_run: Path, tmp_path: Path, family: str, rank_stabilised: bool
) -> None:
    """gpt2 keeps its weights the other way round; a head trained whole goes along."""
    network: Any = small_llama() if family == "llama" else small_gpt2()
    base = tmp_path / "base"
    network.save_pretrained(base)
    AutoTokenizer.from_pretrained(finished_run / "sft" / "model").save_pretrained(base)
    saved = ["embed_tokens"] if family == "llama" else None
    wrapped = get_peft_model(network, adapter_config(family, use_rslora=rank_stabilised, modules_to_save=saved))
    disturb(wrapped)
    wrapped.save_pretrained(tmp_path / "adapter")
    name_base(tmp_path / "adapter", str(base))
    merged = exported(tmp_path / "adapter", tmp_path / "merged")
    torch.testing.assert_close(logits_of(load(merged)), logits_of(wrapped), atol=1e-5, rtol=0)


def adapter_config(family: str, **options: Any) -> LoraConfig:
    targets = ["q_proj", "down_proj"] if family == "llama" else ["c_attn", "c_proj"]
    return LoraConfig(r=4, lora_alpha=6, target_modules=targets, fan_in_fan_out=family == "gpt2", **options)


def disturb(network: Any) -> None:
    """As if it had been trained."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                parameter.add_(torch.randn_like(parameter) * 0.2)


def name_base(adapter: Path, base: str) -> None:
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": base}))


def test_a_reward_model_scores_as_before(finished_run: Path, tmp_path: Path) -> None:
    out = exported(finished_run / "reward", tmp_path / "out")
    before, after = (
        AutoModelForSequenceClassification.from_pretrained(folder)
        for folder in (finished_run / "reward" / "model", out)
    )
    torch.testing.assert_close(logits_of(after), logits_of(before), atol=0, rtol=0)
    assert "pipeline_tag: text-classification" in (out / "README.md").read_text()


# --- formats and shards ----------------------------------------------------------------------------------------------


def test_the_format_of_weights_is_chosen(finished_run: Path, tmp_path: Path) -> None:
    out = exported(finished_run, tmp_path / "out", dtype="bfloat16")
    tensors = load_file(out / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    assert json.loads((out / "config.json").read_text())["dtype"] == "bfloat16"
    was = load_file(finished_run / "tuned" / "model" / "model.safetensors")
    assert all(torch.equal(tensors[name], tensor.bfloat16()) for name, tensor in was.items())
    assert load(out, dtype="auto").dtype == torch.bfloat16


def test_weights_that_a_family_keeps_in_float32_stay_so(tmp_path: Path, finished_run: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(LlamaForCausalLM, "_keep_in_fp32_modules_strict", ["input_layernorm"])
    out = exported(finished_run, tmp_path / "out", dtype="float16")
    kept = {name for name, tensor in load_file(out / "model.safetensors").items() if tensor.dtype == torch.float32}
    assert kept
    assert all("input_layernorm" in name for name in kept)


@pytest.mark.parametrize("shard_bytes", [1, 40_000])
def test_shards_are_no_larger_than_asked_for(finished_run: Path, tmp_path: Path, shard_bytes: int) -> None:
    source = find_source(str(finished_run))
    write_model(source, tmp_path, shard_bytes=shard_bytes)
    files = sorted(tmp_path.glob("*.safetensors"))
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert sorted(set(index["weight_map"].values())) == [file.name for file in files]
    assert len(files) > 2
    held = [load_file(file) for file in files]
    sizes = [sum(tensor.nbytes for tensor in tensors.values()) for tensors in held]
    assert all(size <= shard_bytes or len(tensors) == 1 for size, tensors in zip(sizes, held, strict=True))
    assert index["metadata"]["total_size"] == sum(sizes)
    torch.testing.assert_close(logits_of(load(tmp_path)), logits_of(load(source.weights)), atol=0, rtol=0)
    again = tmp_path / "again"  # from shards, too
    again.mkdir()
    write_model(find_source(str(tmp_path)), again)
    torch.testing.assert_close(logits_of(load(again)), logits_of(load(source.weights)), atol=0, rtol=0)


# --- what comes along, and what stays behind --------------------------------------------------------------------------


def test_code_paths_and_strangers_stay_behind(run: Path, tmp_path: Path) -> None:
    model = run / "tuned" / "model"
    for name in ("modeling_x.py", "pytorch_model.bin", "notes.md", "optimizer.json"):
        (model / name).write_text("print('hello')")
    (model / "LICENSE").write_text("as you like")
    for name, key, value in (
        ("config.json", "auto_map", {"AutoModelForCausalLM": "someone/else--modeling_x.X"}),
        ("tokenizer_config.json", "auto_map", {"AutoTokenizer": ["someone/else--tokenization_x.X", None]}),
        ("config.json", "_name_or_path", "/home/ann/secret-project"),
    ):
        table = json.loads((model / name).read_text())
        (model / name).write_text(json.dumps(table | {key: value}))
    out = exported(run, tmp_path / "out")
    assert {file.name for file in out.iterdir()} == {
        "LICENSE", "README.md", "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors",
        "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    written = " ".join(file.read_text() for file in out.glob("*.json"))
    assert "auto_map" not in written
    assert "secret-project" not in written
    assert AutoTokenizer.from_pretrained(out).chat_template == AutoTokenizer.from_pretrained(model).chat_template


# --- refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"peft_type": "IA3"}, "kind IA3"),
        ({"use_dora": True}, "use_dora: True is not understood"),
        ({"alpha_pattern": {"q_proj": 3}}, "alpha_pattern"),
        ({"init_lora_weights": "pissa"}, "changed the weights beneath"),
        ({"base_model_name_or_path": None}, "does not say which model"),
        ({"base_model_name_or_path": "./nowhere"}, "is not to be had"),
    ],
)
def test_adapters_that_are_more_than_a_sum_are_refused(
    run: Path, tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    adapter = run / "tuned" / "model" / "adapter"
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    with pytest.raises(ConfigError, match=said):
        exported(adapter, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("base_model.model.lm_head.lora_A.weight", (4, 64), "lm_head.weight, which the files of"),
        ("base_model.model.model.embed_tokens.lora_embedding_A", (4, 64), "no part of a plain adapter"),
        ("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", (4, 5), "it is of another one"),
    ],
)
def test_adapters_of_other_weights_are_refused(
    run: Path, tmp_path: Path, name: str, shape: tuple[int, int], said: str
) -> None:
    file = run / "tuned" / "model" / "adapter" / "adapter_model.safetensors"
    tensors = load_file(file) | {name: torch.ones(shape)}
    if name.endswith("lora_A.weight"):
        partner = name.replace("lora_A", "lora_B")
        tensors = {partner: torch.ones(7, 4)} | tensors
    save_file(tensors, file)
    with pytest.raises(ConfigError, match=said):
        exported(file.parent, tmp_path / "out")


def test_new_embeddings_beneath_a_tied_output_are_refused(run: Path, tmp_path: Path) -> None:
    file = run / "tuned" / "model" / "adapter" / "adapter_model.safetensors"
    embeddings = load_file(run / "tuned" / "model" / "model.safetensors")["model.embed_tokens.weight"]
    save_file(load_file(file) | {"base_model.model.model.embed_tokens.weight": embeddings}, file)
    with pytest.raises(ConfigError, match="is tied; merge it with peft"):
        exported(file.parent, tmp_path / "out")


def test_a_pickled_adapter_is_refused(run: Path, tmp_path: Path) -> None:
    folder = run / "tuned" / "model" / "adapter"
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(ConfigError, match="pickle"):
        exported(folder, tmp_path / "out")


def test_quantised_weights_are_not_exported_again(run: Path, tmp_path: Path) -> None:
    config = run / "tuned" / "model" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(ConfigError, match=r"quantised \(gptq\)"):
        exported(run, tmp_path / "out")


def test_a_shard_that_is_missing_is_named(run: Path, tmp_path: Path) -> None:
    model = run / "tuned" / "model"
    index = {"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ConfigError, match=r"model-00001-of-00002\.safetensors, which should hold its weights"):
        exported(run, tmp_path / "out")
