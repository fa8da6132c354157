"""Texts as unit vectors, by an encoder in a local folder: the mean of the last layer over a text's tokens.

That is the pooling of most sentence-transformers models (arXiv:1908.10084); a folder that asks for another is refused.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlhf.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BATCH = 32
_LONGEST = 512


class Encoder:
    """Loaded from safetensors only, and without code of the folder's own."""

    def __init__(self, folder: str) -> None:
        from transformers import AutoModel, AutoTokenizer

        _refuse_other_pooling(Path(folder).expanduser())
        place = str(Path(folder).expanduser())
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(place, local_files_only=True, trust_remote_code=False)
            self._model: Any = AutoModel.from_pretrained(place, local_files_only=True, use_safetensors=True).eval()
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"grounded: embeddings: {folder!r} cannot be loaded: {reason:.200}") from None

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row a text, of length 1."""
        import numpy as np

        rows = [self._batch(texts[start : start + _BATCH]) for start in range(0, len(texts), _BATCH)]
        return np.concatenate(rows)

    def _batch(self, texts: Sequence[str]) -> NDArray[np.float32]:
        import torch

        longest = min(_LONGEST, self._tokenizer.model_max_length)
        legible = [text.encode("utf-8", "replace").decode() for text in texts]  # without lone surrogates
        tokens = self._tokenizer(legible, padding=True, truncation=True, max_length=longest, return_tensors="pt")
        with torch.inference_mode():
            hidden = self._model(**tokens).last_hidden_state.float()
        mask = tokens["attention_mask"].unsqueeze(-1)
        mean = torch.where(mask.bool(), hidden, 0.0).sum(1) / mask.sum(1)
        vectors: NDArray[np.float32] = torch.nn.functional.normalize(mean, dim=-1).numpy()
        return vectors


def _refuse_other_pooling(folder: Path) -> None:
    if not folder.is_dir():
        raise ConfigError(f"grounded: embeddings: no folder {str(folder)!r}; give a model that lies on this machine.")
    for file in sorted(folder.glob("*_Pooling/config.json")):
        pooling = json.loads(file.read_text(encoding="utf-8"))
        asked = [
            key.removeprefix("pooling_mode_") for key, on in pooling.items() if key.startswith("pooling_mode") and on
        ]
        asked = [mode for mode in asked if mode not in ("mean_tokens", "mean", "pooling_mode")]
        if asked:
            raise ConfigError(
                f"grounded: embeddings: {str(folder)!r} pools by {', '.join(asked)}; give one with mean pooling."
            )
