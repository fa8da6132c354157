"""Rewards built by name and options, as a recipe builds them, and rollouts to judge."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from rlhf.registry import Entry, Registry
from rlhf.rewards import registration
from rlhf.types import Completion, Message, Prompt, Rollout, Score


@pytest.fixture(scope="session")
def registry() -> Registry:
    """The rewards that ship."""
    shipped = Registry()

    def register(name: str, factory: Callable[..., Any], *, config: Any = None) -> None:
        shipped.add(Entry("reward", name, factory, config, "rewards"))

    registration.register_rewards(register)
    return shipped


@pytest.fixture(scope="session")
def build(registry: Registry) -> Callable[..., Any]:
    """`build("length", max_tokens=5)`: the reward, or the `ConfigError` its options deserve."""

    def made(name: str, **options: Any) -> Any:
        return registry.build("reward", name, options, None, where=f"reward.{name}")

    return made


def make_rollout(
    text: str = "",
    reference: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    *,
    messages: Sequence[Message] | None = None,
    tokens: Sequence[int] = (),
    id: str = "r7",  # noqa: A002 - as the field is called
) -> Rollout:
    asked: dict[str, Any] = {"text": "?"} if messages is None else {"messages": tuple(messages)}
    said = Completion(token_ids=tuple(tokens), logprobs=(-1.0,) * len(tokens), text=text, finish_reason="stop")
    return Rollout(prompt=Prompt(id=id, reference=reference, metadata=metadata or {}, **asked), completion=said)


@pytest.fixture(scope="session")
def rollout() -> Callable[..., Rollout]:
    """`rollout("the completion", "the reference", {"column": 1})`."""
    return make_rollout


@pytest.fixture(scope="session")
def value() -> Callable[[Any, Rollout], float | None]:
    """The reward's value of one rollout, which must be no error."""

    def judged(reward: Any, one: Rollout) -> float | None:
        (answer,) = reward([one])
        if isinstance(answer, Score):
            assert answer.error is None, answer.error
            return answer.value
        return answer

    return judged


@pytest.fixture(scope="session")
def fault() -> Callable[[Any, Rollout], str]:
    """What the reward says prevented it from judging one rollout."""

    def judged(reward: Any, one: Rollout) -> str:
        (answer,) = reward([one])
        assert answer.value is None
        assert answer.error is not None
        assert "\n" not in answer.error
        return str(answer.error)

    return judged
