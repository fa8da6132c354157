"""What the tests share: how to make a rollout, and where the data is."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rlhf.types import Completion, Prompt, Rollout

Rows = Callable[[str], list[dict[str, Any]]]


@pytest.fixture(scope="session")
def rows() -> Rows:
    """Rows of a file of `math/` in the public data; skips where there is none."""
    beside = (parent / "shared" / "data" for parent in Path(__file__).parents)
    named = os.environ.get("RLHF_DATA_DIR")
    folder = Path(named) if named else next((path for path in beside if path.is_dir()), None)
    if folder is None:
        pytest.skip("no data: set RLHF_DATA_DIR, or put it in ../shared/data beside the checkout")

    def read(name: str) -> list[dict[str, Any]]:
        with (folder / "math" / f"{name}.jsonl").open(encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]

    return read


@pytest.fixture(scope="session")
def rollout() -> Callable[..., Rollout]:
    """`rollout(text, reference=None, **columns)`."""

    def make(text: str, reference: str | None = None, **columns: Any) -> Rollout:
        prompt = Prompt(id="0", text="?", reference=reference, metadata=columns)
        return Rollout(prompt=prompt, completion=Completion(token_ids=(), logprobs=(), text=text, finish_reason="stop"))

    return make


@pytest.fixture(scope="session")
def built() -> Callable[..., Any]:
    """`built("gsm8k", strict=True)`: the reward of this name as a run builds it, its options checked by its config."""
    entries: dict[str, tuple[Callable[..., Any], Any]] = {}

    def register(name: str, factory: Callable[..., Any], *, config: Any) -> None:
        entries[name] = factory, config

    from rlhf_math.registration import register_rewards

    register_rewards(register)

    def build(name: str, **options: Any) -> Any:
        factory, config = entries[name]
        return factory(config(**options), None)

    return build


@pytest.fixture(scope="session")
def verified(built: Callable[..., Any]) -> Iterator[Any]:
    """One `math_verify` of short patience, for all tests that do not disturb its processes."""
    reward = built("math_verify", seconds=1.0)
    yield reward
    reward.pool.close()
