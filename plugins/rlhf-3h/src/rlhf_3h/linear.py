"""A linear text classifier: hashed n-grams and a few numbers, TF-IDF, one logistic head a question.

Saved as arrays (safetensors) and a JSON description, and checked when loaded: nothing in the folder is ever run.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file
from safetensors.numpy import save as as_bytes

from rlhf.errors import ConfigError

Floats = NDArray[np.floating[Any]]
BUCKETS = 1 << 20
"""Terms are told apart by CRC-32 modulo this: the same on every machine, and no vocabulary to store."""
FORMAT = 1
WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"
_CLIP = 4.0  # standard deviations: an odd text must not drown the words


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Texts as a model reads them: counts of terms by view, and `[rows, n]` numbers."""

    counts: Mapping[str, sp.csr_matrix]
    numbers: Floats

    def __getitem__(self, rows: NDArray[np.intp]) -> Inputs:
        return Inputs(counts={name: counts[rows] for name, counts in self.counts.items()}, numbers=self.numbers[rows])


def hashed(documents: Sequence[Sequence[str]]) -> sp.csr_matrix:
    """Counts of each document's terms, `[documents, BUCKETS]`."""
    indices: list[int] = []
    data: list[int] = []
    ends = [0]
    for document in documents:
        counts = Counter(zlib.crc32(term.encode()) % BUCKETS for term in document)
        indices += counts.keys()
        data += counts.values()
        ends.append(len(indices))
    shape = (len(documents), BUCKETS)
    return sp.csr_matrix((np.array(data, np.float64), np.array(indices, np.int32), np.array(ends)), shape)


@dataclass(frozen=True, kw_only=True)
class View:
    """The terms of one view that the model knows (buckets, ascending), and what each is worth before weighting."""

    columns: NDArray[np.int32]
    idf: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class LinearModel:
    """Probabilities of each head from views and numbers.

    Terms weigh (1 + ln count) × idf, a view is scaled to length 1, and numbers are standardised. `coef` is
    `[heads, terms of all views + numbers]`.
    """

    grader: str
    views: Mapping[str, View]
    mean: Floats
    scale: Floats
    heads: tuple[str, ...]
    coef: Floats = field(repr=False)
    bias: Floats

    def features(self, inputs: Inputs) -> sp.csr_matrix:
        """`[rows, features]`."""
        return features(inputs, self.views, self.mean, self.scale)

    def probabilities(self, inputs: Inputs) -> Floats:
        """`[rows, heads]`."""
        logits = np.asarray(self.features(inputs) @ self.coef.T.astype(np.float64)) + self.bias
        result: Floats = 1 / (1 + np.exp(-np.clip(logits, -50, 50)))
        return result

    def save(self, folder: Path) -> None:
        """Write the two files; the folder is made."""
        folder.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, NDArray[Any]] = {
            "mean": self.mean.astype(np.float32),
            "scale": self.scale.astype(np.float32),
            "coef": np.ascontiguousarray(self.coef, np.float32),
            "bias": self.bias.astype(np.float32),
        }
        for name, view in self.views.items():
            arrays |= {f"{name}.columns": view.columns, f"{name}.idf": view.idf}
        (folder / WEIGHTS).write_bytes(as_bytes(arrays))  # save_file would let only its owner read it
        said = {"format": FORMAT, "grader": self.grader, "views": list(self.views), "heads": list(self.heads)}
        (folder / DESCRIPTION).write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")


def features(inputs: Inputs, views: Mapping[str, View], mean: Floats, scale: Floats) -> sp.csr_matrix:
    """What the heads read of these inputs."""
    blocks = [_weighted(inputs.counts[name], view) for name, view in views.items()]
    numbers = np.clip((inputs.numbers - mean) / scale, -_CLIP, _CLIP)
    return sp.csr_matrix(sp.hstack([*blocks, sp.csr_matrix(numbers)], format="csr"))


def _weighted(counts: sp.csr_matrix, view: View) -> sp.csr_matrix:
    chosen = sp.csr_matrix(counts[:, view.columns])
    chosen.data = (1 + np.log(chosen.data)) * view.idf[chosen.indices]
    lengths = np.sqrt(np.asarray(chosen.multiply(chosen).sum(1)).ravel())
    return sp.csr_matrix(sp.diags(1 / np.where(lengths > 0, lengths, 1)) @ chosen)


def load(folder: Path, grader: str, views: Sequence[str], num_numbers: int) -> LinearModel:
    """The model of this grader in the folder.

    Raises:
        ConfigError: it is not there, is damaged, or belongs to another grader or to another version of this one.
    """
    try:
        said = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        arrays = load_file(folder / WEIGHTS)
    except FileNotFoundError as error:
        missing = Path(str(error.filename or WEIGHTS)).name
        raise ConfigError(f"{folder} holds no trained grader (no {missing}); {how_to_train(grader, folder)}") from None
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise ConfigError(f"{folder} cannot be read as a trained grader ({error}); train it again") from None
    found = said.get("grader") if isinstance(said, dict) else None
    if found != grader:
        raise ConfigError(f"{folder} was trained for grader {found!r}, not {grader!r}; {how_to_train(grader, folder)}")
    heads = said.get("heads")
    if said.get("format") != FORMAT or said.get("views") != list(views) or not _are_names(heads):
        raise ConfigError(f"{folder} was written by another version of rlhf-3h; {how_to_train(grader, folder)}")
    wrong = _fault(arrays, views, len(heads), num_numbers)
    if wrong:
        raise ConfigError(f"{folder / WEIGHTS} is damaged: {wrong}; {how_to_train(grader, folder)}")
    return LinearModel(
        grader=grader,
        views={n: View(columns=arrays[f"{n}.columns"], idf=arrays[f"{n}.idf"]) for n in views},
        heads=tuple(heads),
        **{name: arrays[name] for name in ("mean", "scale", "coef", "bias")},
    )


def how_to_train(grader: str, folder: Path | str = "FOLDER") -> str:
    """The command that makes the folder, in words."""
    return f"train it with: rlhf graders train {grader} --data FILE --out {folder}"


def _are_names(heads: Any) -> bool:
    return isinstance(heads, list) and bool(heads) and all(isinstance(head, str) for head in heads)


def _fault(arrays: Mapping[str, NDArray[Any]], views: Sequence[str], num_heads: int, num_numbers: int) -> str:
    """What is wrong with the arrays, in a few words; empty where nothing is."""
    wanted = {"mean", "scale", "coef", "bias"} | {f"{name}.{part}" for name in views for part in ("columns", "idf")}
    if set(arrays) != wanted:
        return f"its arrays are {', '.join(sorted(arrays))}"
    terms = 0
    for name in views:
        columns, idf = arrays[f"{name}.columns"], arrays[f"{name}.idf"]
        if columns.dtype != np.int32 or columns.ndim != 1 or columns.shape != idf.shape:
            return f"the terms of view {name} are not a list"
        if len(columns) and (columns[0] < 0 or columns[-1] >= BUCKETS or (np.diff(columns) <= 0).any()):
            return f"the terms of view {name} are not in order"
        terms += len(columns)
    shapes = {
        "mean": (num_numbers,), "scale": (num_numbers,), "coef": (num_heads, terms + num_numbers), "bias": (num_heads,),
    }  # fmt: skip
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            return f"{name} has shape {arrays[name].shape}, not {shape}"
    for name, array in arrays.items():
        if not name.endswith(".columns") and (array.dtype != np.float32 or not np.isfinite(array).all()):
            return f"{name} holds what is not a number"
    return "" if (arrays["scale"] > 0).all() else "scale is not positive"
