"""Models of a test's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.engines.families import write_model, write_tokenizer


@pytest.fixture
def model_path(tmp_path: Path) -> Callable[[str], str]:
    """The folder of a random model of a family, with a word-level tokenizer, which the test may change."""

    def path(family: str) -> str:
        write_model(family, tmp_path / family)
        write_tokenizer(tmp_path / family)
        return str(tmp_path / family)

    return path
