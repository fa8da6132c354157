"""Hostile files. Each payload makes one folder, and a test looks for it afterwards."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


class Payload:
    """Unpickled, it makes the folder `marker`."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (self.marker,))


def pickled(marker: Path, file: Path) -> None:
    """As `torch.save` writes it."""
    torch.save({"weight": torch.zeros(2), "payload": Payload(marker)}, file)


def bare_pickle(marker: Path, file: Path) -> None:
    """A plain pickle, as DCP's `.metadata` and old checkpoints are."""
    file.write_bytes(pickle.dumps(Payload(marker)))


def python(marker: Path) -> str:
    """A module that makes the folder when it is imported, and has the classes `auto_map` asks for."""
    touch = f"__import__('os').makedirs({str(marker)!r}, exist_ok=True)"
    return f"{touch}\nclass Evil:\n    def __init__(self, *a, **k): {touch}\n"


def edit_json(file: Path, **changes: Any) -> None:
    """Set keys of a file of JSON; a value of None takes one out."""
    table = json.loads(file.read_text()) if file.exists() else {}
    table |= changes
    file.write_text(json.dumps({key: value for key, value in table.items() if value is not None}))


def without_safetensors(folder: Path) -> None:
    for file in folder.glob("*.safetensors"):
        file.unlink()


# --- models: (folder, marker) -> None ---------------------------------------------------------------------------------


def pickled_weights(folder: Path, marker: Path) -> None:
    without_safetensors(folder)
    pickled(marker, folder / "pytorch_model.bin")


def pickled_shards(folder: Path, marker: Path) -> None:
    without_safetensors(folder)
    pickled(marker, folder / "pytorch_model-00001-of-00001.bin")
    index = {"metadata": {}, "weight_map": {"lm_head.weight": "pytorch_model-00001-of-00001.bin"}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def safetensors_index_of_pickles(folder: Path, marker: Path) -> None:
    names = [file.name for file in folder.glob("*.safetensors")]
    without_safetensors(folder)
    pickled(marker, folder / "weights.bin")
    assert names
    index = {"metadata": {}, "weight_map": {"lm_head.weight": "weights.bin"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def index_that_leads_outside(folder: Path, marker: Path) -> None:
    weights = folder / "model.safetensors"
    outside = folder.parent / "outside.safetensors"
    weights.rename(outside)
    index = {"metadata": {}, "weight_map": {"lm_head.weight": f"../{outside.name}"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def weights_named_in_the_config(folder: Path, marker: Path) -> None:
    pickled(marker, folder / "other.bin")
    edit_json(folder / "config.json", transformers_weights="other.bin")


def adapter_beside(folder: Path, marker: Path) -> None:
    """Transformers loads an adapter it finds beside the weights, and that may be a pickle."""
    pickled(marker, folder / "adapter_model.bin")
    lora = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "target_modules": ["q_proj"]}
    edit_json(folder / "adapter_config.json", base_model_name_or_path=str(folder), **lora)


def adapter_alone(folder: Path, marker: Path) -> None:
    adapter_beside(folder, marker)
    without_safetensors(folder)
    (folder / "config.json").unlink()


def code_in_config(folder: Path, marker: Path) -> None:
    """A model type that transformers does not have, with classes of its own."""
    (folder / "evil.py").write_text(python(marker))
    classes = {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"}
    classes |= {"AutoModelForSequenceClassification": "evil.Evil"}
    edit_json(folder / "config.json", model_type="evil", architectures=["Evil"], auto_map=classes)


def code_in_tokenizer(folder: Path, marker: Path) -> None:
    (folder / "evil.py").write_text(python(marker))
    (folder / "tokenizer.json").unlink()
    own = {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}
    edit_json(folder / "tokenizer_config.json", tokenizer_class="EvilTokenizer", auto_map=own)


def kernel_in_config(folder: Path, marker: Path) -> None:
    edit_json(folder / "config.json", attn_implementation="evil/kernel")


def header_beyond_the_file(folder: Path, marker: Path) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}")


def header_that_is_no_json(folder: Path, marker: Path) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 4) + b"{{{{")


def header_of_overlapping_tensors(folder: Path, marker: Path) -> None:
    tensor = {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 8]}
    header = json.dumps({"a": tensor, "b": tensor}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 8)


def pickle_called_safetensors(folder: Path, marker: Path) -> None:
    pickled(marker, folder / "model.safetensors")


def config_that_is_no_table(folder: Path, marker: Path) -> None:
    (folder / "config.json").write_text("[" * 100_000)


def config_of_wrong_types(folder: Path, marker: Path) -> None:
    edit_json(folder / "config.json", hidden_size="many", num_hidden_layers=[1], vocab_size={})


def tokenizer_that_is_a_pickle(folder: Path, marker: Path) -> None:
    bare_pickle(marker, folder / "tokenizer.json")


def template_that_escapes(folder: Path, marker: Path) -> None:
    """Ways out of Jinja's sandbox that were once open, or that a plain environment leaves open."""
    call = f".open({str(marker)!r}, 'w')"
    template = "{% set b = cycler.__init__.__globals__.os.popen('touch " + str(marker) + "') %}"
    template += "{{ ''.__class__.__mro__[1].__subclasses__() }}{{ lipsum.__globals__['__builtins__']" + call + " }}"
    template += "{{ ('{0.__class__.__init__.__globals__}')|attr('format')(raise_exception) }}"
    _template(folder, template)


def template_that_loops(folder: Path, marker: Path) -> None:
    _template(folder, "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}")


def _template(folder: Path, template: str) -> None:
    (folder / "chat_template.jinja").write_text(template)


Hostile = Callable[[Path, Path], None]

REFUSED: dict[str, tuple[Hostile, str]] = {
    "pickled weights": (pickled_weights, "pickle"),
    "pickled shards": (pickled_shards, "pickle"),
    "index of pickles": (safetensors_index_of_pickles, "no safetensors file beside it"),
    "index that leads outside": (index_that_leads_outside, "no safetensors file beside it"),
    "weights named in config": (weights_named_in_the_config, "no safetensors file beside it"),
    "adapter beside the weights": (adapter_beside, "adapter_config.json"),
    "adapter alone": (adapter_alone, "no config.json"),
    "code in config.json": (code_in_config, "code"),
    "code in tokenizer_config.json": (code_in_tokenizer, "code"),
    "kernel in config.json": (kernel_in_config, "code from the hub"),
    "header beyond the file": (header_beyond_the_file, "cannot load the model"),
    "header that is no JSON": (header_that_is_no_json, "cannot load the model"),
    "header of overlapping tensors": (header_of_overlapping_tensors, "cannot load the model"),
    "pickle called safetensors": (pickle_called_safetensors, "cannot load the model"),
    "config that is no table": (config_that_is_no_table, "config.json cannot be read"),
    "config of wrong types": (config_of_wrong_types, "cannot load the model"),
    "tokenizer that is a pickle": (tokenizer_that_is_a_pickle, "tokenizer"),
}
"""What makes a model hostile, and what the refusal says."""


def strays(folder: Path, marker: Path) -> None:
    """Hostile files that no run has reason to read, beside a good model or in a checkpoint."""
    for name in ("optimizer.pt", "training_args.bin", "pytorch_model.bin", "scheduler.pt", "rng_state.pth"):
        pickled(marker, folder / name)
    for name in ("zero_pp_rank_0_mp_rank_00_optim_states.pt", "mp_rank_00_model_states.pt"):
        pickled(marker, folder / name)
    for name in (".metadata", "tokenizer.model", "vocab.pkl", "state.pickle"):
        bare_pickle(marker, folder / name)
    for name in ("modeling_llama.py", "configuration_llama.py", "sitecustomize.py", "conftest.py", "setup.py"):
        (folder / name).write_text(python(marker))
    with zipfile.ZipFile(folder / "model.zip", "w") as archive:
        archive.writestr("../../escaped", "x")
