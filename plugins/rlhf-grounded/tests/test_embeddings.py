"""Documents found by meaning too, with a real encoder: a tiny one, whose word vectors are set by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlhf.errors import ConfigError
from rlhf_grounded import GroundedConfig, GroundedReward

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "car",
    "automobile",
    "fast",
    "quick",
    "river",
    "long",
    "the",
    "is",
]
ALIKE = {"automobile": "car", "quick": "fast"}


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """BERT without layers: the mean of word vectors, in which `car` and `automobile` are one."""
    folder = tmp_path / "encoder"
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    tokenizer = transformers.BertTokenizer(str(folder / "vocab.txt"))
    tokenizer.save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 0, "num_attention_heads": 1, "intermediate_size": 8}
    model = transformers.BertModel(transformers.BertConfig(vocab_size=len(WORDS), **sizes))
    with torch.no_grad():
        table = torch.eye(16)[: len(WORDS)].clone()
        for word, other in ALIKE.items():
            table[WORDS.index(word)] = table[WORDS.index(other)]
        model.embeddings.word_embeddings.weight.copy_(table)
        model.embeddings.position_embeddings.weight.zero_()
        model.embeddings.token_type_embeddings.weight.zero_()
    model.save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture
def garage(tmp_path: Path) -> Path:
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "a.txt").write_text("The river is long.\n\nThe automobile is quick.\n\nThe river is the river.")
    return folder


def passages(folder: Path, encoder: Path | None, claim: str, ask: Any) -> list[str]:
    from rlhf_grounded.claims import Claim
    from rlhf_grounded.evidence import Asked
    from rlhf_grounded.retrieval import Documents

    source = Documents((str(folder),), 1, 120, None if encoder is None else str(encoder))
    (found,) = source.find([Asked(Claim(claim), ask("?", claim))])
    assert isinstance(found, list)
    return [passage.text for passage in found]


def test_a_passage_without_a_word_in_common_is_found(garage: Path, encoder: Path, ask: Any) -> None:
    claim = "One car is fast."
    assert passages(garage, None, claim, ask) == []
    assert passages(garage, encoder, claim, ask) == ["The automobile is quick."]


def test_words_in_common_still_count(garage: Path, encoder: Path, ask: Any) -> None:
    assert passages(garage, encoder, "The river is long.", ask) == ["The river is long."]


def test_texts_become_unit_vectors_whatever_their_company(encoder: Path) -> None:
    from rlhf_grounded.embeddings import Encoder

    texts = ["the car", "the river is long the river is long", "\ud800", ""]
    model = Encoder(str(encoder))
    together = torch.from_numpy(model.embed(texts))
    assert torch.allclose(together.norm(dim=1), torch.ones(4), atol=1e-5)
    alone = torch.from_numpy(model.embed(texts[:1]))
    assert torch.allclose(together[:1], alone, atol=1e-6)


def test_folders_that_are_refused(garage: Path, encoder: Path, tmp_path: Path) -> None:
    def refused(folder: Path) -> str:
        with pytest.raises(ConfigError) as error:
            GroundedReward(GroundedConfig(documents=(str(garage),), embeddings=str(folder)), None)
        return str(error.value)

    assert "no folder" in refused(tmp_path / "nowhere")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "cannot be loaded" in refused(empty)
    pooling = encoder / "1_Pooling"
    pooling.mkdir()
    (pooling / "config.json").write_text(
        json.dumps({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False})
    )
    assert "pools by cls_token" in refused(encoder)


def test_mean_pooling_is_taken(garage: Path, encoder: Path, ask: Any) -> None:
    pooling = encoder / "1_Pooling"
    pooling.mkdir()
    (pooling / "config.json").write_text(json.dumps({"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True}))
    reward = GroundedReward(GroundedConfig(documents=(str(garage),), embeddings=str(encoder)), None)
    assert reward([ask("?", "The river is long.")])[0].value == 1
