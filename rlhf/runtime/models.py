"""Models on disk: fresh ones made, tokenizers carried along, lengths agreed."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rlhf.config import ModelConfig, NewTokenizerConfig
from rlhf.config.model_files import require_plain_model
from rlhf.data.encode import Encoder
from rlhf.data.tokenizers import add_control_tokens, load_tokenizer, new_tokenizer, require_eos, require_vocabulary_fits
from rlhf.errors import ConfigError
from rlhf.protocols import Dataset
from rlhf.runtime.plan import StagePlan

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TOKENIZER_DOCUMENTS = 100_000
"""A tokenizer is trained on at most this many documents; more change it little."""


def write_new_model(model: ModelConfig, dataset: Dataset, seed: int, path: Path) -> None:
    """Write a random model, and its tokenizer: trained on the stage's texts, or another model's."""
    from rlhf.engines.pretrained import create_model, save_model

    assert model.new is not None
    tokenizer = _tokenizer_of_new(model.new.tokenizer, dataset, seed)
    add_control_tokens(tokenizer, model.new.kind, model.new.context)
    network = create_model(
        model.new,
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=require_eos(tokenizer, "a new model"),
        pad_token_id=int(tokenizer.pad_token_id),
        seed=seed % 2**31,
    )
    save_model(network, path)
    save_tokenizer(tokenizer, path)


def _tokenizer_of_new(config: NewTokenizerConfig, dataset: Dataset, seed: int) -> PreTrainedTokenizerBase:
    if config.path is not None:
        require_model(ModelConfig(path=config.path))
        return load_tokenizer(config.path)
    size = dataset.sizes.get("texts", 0)
    texts = islice(dataset.texts(seed), min(size, _TOKENIZER_DOCUMENTS)) if size else _row_texts(dataset, seed)
    return new_tokenizer(config, texts)


def _row_texts(dataset: Dataset, seed: int) -> Any:
    """Texts of the demonstrations, for data that has no plain documents."""
    rows = islice(dataset.demonstrations(seed), min(dataset.sizes.get("demonstrations", 0), _TOKENIZER_DOCUMENTS))
    for row in rows:
        if row.messages is not None:
            yield " ".join(message["content"] for message in row.messages)
        else:
            yield " ".join(filter(None, (row.prompt, row.completion, row.text)))


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, path: Path) -> None:
    """Beside the weights, chat template included."""
    tokenizer.save_pretrained(path)


def build_encoder(plan: StagePlan) -> Encoder:
    """The stage's tokenizer with its limits."""
    new_tokens = plan.config.rollout.max_tokens if plan.samples else 0
    return encoder_for(
        plan.config.model,
        max_new_tokens=new_tokens,
        max_prompt_length=plan.config.rows.max_prompt_length,
        overlong=plan.config.rows.overlong,
    )


def encoder_for(
    model: ModelConfig,
    *,
    max_new_tokens: int = 0,
    max_prompt_length: int | None = None,
    overlong: Literal["drop", "cut", "error"] = "drop",
) -> Encoder:
    """A model's tokenizer with the lengths its context allows; checks that the two fit each other."""
    from rlhf.engines.pretrained import load_config

    assert model.path is not None
    require_model(model)
    tokenizer = load_tokenizer(model.path, model.revision, model.eos_token)
    config = load_config(model).get_text_config()
    require_vocabulary_fits(tokenizer, config.vocab_size)
    require_eos(tokenizer, "training or sampling")
    context = int(getattr(config, "max_position_embeddings", 0)) or model.max_length or 2048
    max_length = min(context, model.max_length or context)
    left = max_length - max_new_tokens
    if left < 1:
        raise ConfigError(
            f"max_tokens: {max_new_tokens} leaves no room for a prompt in a context of {max_length} tokens"
        )
    max_prompt = min(max_prompt_length or left, left) if max_new_tokens else max_prompt_length
    return Encoder(tokenizer, max_length, overlong, max_prompt_length=max_prompt)


def require_model(model: ModelConfig) -> None:
    """Refuse a path that looks local and is not there, before a loader takes it for a hub name."""
    path = model.path or ""
    parent = Path(path).parent
    try:
        # `runs/typo`: no hub name has an owner called as a folder here
        beside_local = str(parent) != "." and parent.is_dir()
        looks_local = path.startswith((".", "/", "~")) or path.count("/") > 1 or Path(path).exists() or beside_local
        has_config = (Path(path) / "config.json").is_file()
    except OSError as error:  # a name too long for any file
        raise ConfigError(f"model: {path:.80} is no path: {error.strerror}") from None
    if looks_local and not has_config:
        raise ConfigError(f"model: {path} is not a model folder (it has no config.json)")
    if looks_local:
        require_plain_model(path)
