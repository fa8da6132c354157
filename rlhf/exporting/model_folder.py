"""A model's folder, written anew for others: weights, configuration, tokenizer, chat template, and nothing else.

What stays behind: code, pickles, checkpoints, paths of this machine, and references to code of a hub (`auto_map`).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from rlhf.config import ModelConfig
from rlhf.data.tokenizers import load_tokenizer
from rlhf.engines.precision import handed_dtype
from rlhf.engines.pretrained import load_config
from rlhf.errors import ConfigError
from rlhf.exporting.adapter import Adapter
from rlhf.exporting.shards import SHARD_BYTES, copy_weights, stored_tensors
from rlhf.exporting.source import Source, read_table

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_TOKENIZER_FILES = (
    "tokenizer*.json", "tokenizer.model*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt",
    "*.tiktoken", "spiece.model", "sentencepiece*.model", "chat_template.*", "additional_chat_templates/*.jinja",
)  # fmt: skip
_OTHER_FILES = (
    "generation_config.json", "preprocessor_config.json", "processor_config.json", "LICENSE*", "NOTICE*", "USE_POLICY*"
)  # fmt: skip
_OF_THIS_MACHINE = ("auto_map", "name_or_path", "_name_or_path", "is_local", "local_files_only")


def require_exportable(source: Source) -> None:
    """Refuse, before anything is written, what transformers cannot load and what is quantised already."""
    config = read_table(source.weights / "config.json")
    how = config.get("quantization_config")
    if how:
        method = how.get("quant_method", "some method") if isinstance(how, Mapping) else "some method"
        raise ConfigError(f"{source.given}: its weights are quantised ({method}); export the model they were made from")
    load_config(ModelConfig(path=str(source.weights)))
    load_tokenizer(str(_tokenizer_folder(source)))


def write_model(source: Source, out: Path, dtype: str | None = None, shard_bytes: int = SHARD_BYTES) -> None:
    """The whole model, its adapter added, as a folder `from_pretrained` loads; in the format it is in without `dtype`.

    One shard at a time is in memory.
    """
    adapter = None if source.adapter is None else Adapter(source.adapter)
    tensors = stored_tensors(source.weights)
    if adapter is not None:
        adapter.require_names(frozenset(tensor.name for tensor in tensors), source.weights)
        told = load_config(ModelConfig(path=str(source.weights))).get_text_config()
        if told.tie_word_embeddings:
            adapter.require_untied(told.vocab_size, source.weights)
    config = read_table(source.weights / "config.json")
    family = _class_of(config)
    chosen = DTYPES[dtype] if dtype else None

    def dtype_of(name: str, own: torch.dtype) -> torch.dtype:
        if chosen is None or not own.is_floating_point:
            return own
        return handed_dtype(family, name, torch.empty(0, dtype=own), chosen)

    unchanged = adapter.added if adapter is not None else (lambda _, tensor: tensor)
    copy_weights(source.weights, out, unchanged, dtype_of, shard_bytes)
    largest = max(tensors, key=lambda tensor: torch.Size(tensor.shape).numel())
    _write(out / "config.json", _with_dtype(config, str(dtype_of(largest.name, largest.dtype)).removeprefix("torch.")))
    copy_files(source.weights, out, _OTHER_FILES)
    copy_files(_tokenizer_folder(source), out, _TOKENIZER_FILES)


def copy_tokenizer(source: Source, out: Path) -> None:
    """The tokenizer and chat template alone, for an adapter."""
    copy_files(_tokenizer_folder(source), out, _TOKENIZER_FILES)


def copy_files(folder: Path, out: Path, patterns: tuple[str, ...]) -> None:
    """The files that fit; JSON without what is this machine's or names code."""
    for file in sorted({file for pattern in patterns for file in folder.glob(pattern) if file.is_file()}):
        target = out / file.relative_to(folder)
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(file, target)
        if file.suffix == ".json" and file.stat().st_size < _LARGEST_TABLE:
            table = json.loads(file.read_text(encoding="utf-8"))
            if isinstance(table, dict) and set(_OF_THIS_MACHINE) & set(table):
                _write(target, table)


_LARGEST_TABLE = 2**20
"""Bytes of a JSON file that is looked into; settings are smaller, vocabularies larger."""


def _tokenizer_folder(source: Source) -> Path:
    """The adapter's own, where one was saved with it: it may have tokens or a template that the base lacks."""
    if source.adapter is not None and any(
        (source.adapter / n).is_file() for n in ("tokenizer.json", "tokenizer.model")
    ):
        return source.adapter
    return source.weights


def _class_of(config: Mapping[str, Any]) -> Any:
    """The class of transformers that says which weights stay float32, whatever the rest is in."""
    import transformers

    names = config.get("architectures") or [""]
    return getattr(transformers, str(names[0]), None)


def _with_dtype(config: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """With what transformers reads as the format of the weights, in the tables inside too."""
    told = {key: _with_dtype(value, dtype) if isinstance(value, Mapping) else value for key, value in config.items()}
    renamed = {"dtype" if key == "torch_dtype" else key: value for key, value in told.items()}
    return renamed | ({"dtype": dtype} if "dtype" in renamed or "architectures" in renamed else {})


def _write(path: Path, table: Mapping[str, Any]) -> None:
    kept = {key: value for key, value in table.items() if key not in _OF_THIS_MACHINE}
    path.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
