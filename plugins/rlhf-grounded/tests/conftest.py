"""What the tests share: rollouts, the parts a grader is built with, the folder of public data."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from rlhf.registry import Registry
from rlhf.types import Completion, Prompt, Rollout

Ask = Callable[..., Rollout]


@pytest.fixture
def ask() -> Ask:
    """`ask(question, answer, **columns)`."""

    def rollout(question: str, answer: str, reference: str | None = None, **columns: Any) -> Rollout:
        prompt = Prompt(id="row", text=question, reference=reference, metadata=columns)
        return Rollout(
            prompt=prompt, completion=Completion(token_ids=(), logprobs=(), text=answer, finish_reason="stop")
        )

    return rollout


class RegisteredParts:
    """Builds graders of a registry, as a run does."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def grader(self, name: str, options: Mapping[str, Any] | None = None) -> Any:
        return self.registry.build("grader", name, dict(options or {}), self)


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def parts(registry: Registry) -> RegisteredParts:
    return RegisteredParts(registry)


@pytest.fixture
def honest_data() -> Path:
    """The folder of labelled honesty data."""
    named = os.environ.get("RLHF_DATA_DIR")
    folder = Path(named or Path(__file__).resolve().parents[4] / "shared" / "data") / "honest"
    if not folder.is_dir():
        assert not named, f"RLHF_DATA_DIR: no folder {folder}"
        pytest.skip(f"no labelled data: {folder} is missing; set RLHF_DATA_DIR")
    return folder
