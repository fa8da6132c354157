"""A trained folder that is missing, damaged or of another grader is refused in one line; nothing in it is run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rlhf.errors import ConfigError
from rlhf_3h.harmful_content import HarmfulContent, HarmfulContentConfig
from rlhf_3h.refusal import Refusal, RefusalConfig

NO_PARTS: Any = None


@pytest.fixture
def folder(refusal_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(refusal_folder, tmp_path / "mine")


def refused(folder: Path, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        Refusal(RefusalConfig(path=str(folder)), NO_PARTS)
    assert "\n" not in str(error.value)


def test_no_folder(tmp_path: Path) -> None:
    refused(tmp_path / "none", r"holds no trained grader \(no model.json\); train it with: rlhf graders train refusal")


def test_folder_without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    refused(folder, r"no model.safetensors")


def test_weights_that_are_a_pickle(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x80\x04cos\nsystem\n(S'touch pwned'\ntR.")
    refused(folder, "cannot be read as a trained grader")


def test_another_graders_folder(folder: Path) -> None:
    with pytest.raises(ConfigError, match="was trained for grader 'refusal', not 'harmful_content'"):
        HarmfulContent(HarmfulContentConfig(path=str(folder)), NO_PARTS)


@pytest.mark.parametrize("change", [{"format": 2}, {"views": ["words"]}, {"heads": []}])
def test_another_version(folder: Path, change: dict[str, object]) -> None:
    said = json.loads((folder / "model.json").read_text()) | change
    (folder / "model.json").write_text(json.dumps(said))
    refused(folder, "was written by another version")


def test_other_heads(folder: Path) -> None:
    said = json.loads((folder / "model.json").read_text()) | {"heads": ["a", "b"]}
    (folder / "model.json").write_text(json.dumps(said))
    refused(folder, "was trained for other labels")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("coef", lambda a: a[:, :-1], "coef has shape"),
        ("bias", lambda a: a * np.float32("nan"), "bias holds what is not a number"),
        ("start.columns", lambda a: a[::-1].copy(), "terms of view start are not in order"),
        ("start.columns", lambda a: a[:-1].copy(), "terms of view start are not a list"),
        ("start.columns", lambda a: a - a[0] - 5, "terms of view start are not in order"),
    ],
)
def test_damaged_arrays(folder: Path, name: str, change: object, message: str) -> None:
    arrays = load_file(folder / "model.safetensors")
    arrays[name] = np.ascontiguousarray(change(arrays[name]))  # type: ignore[operator]
    save_file(arrays, folder / "model.safetensors")
    refused(folder, message)
