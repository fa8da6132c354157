"""The folder of a tiny model of each family, written once a session."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.unit.engines.families import write_model, write_tokenizer


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """`model_path("qwen2")`: the folder of a random model with a word-level tokenizer, written once a session."""
    written: dict[str, str] = {}

    def path(family: str) -> str:
        if family not in written:
            folder = tmp_path_factory.mktemp(family)
            written[family] = write_model(family, folder)
            write_tokenizer(folder)
        return written[family]

    return path
