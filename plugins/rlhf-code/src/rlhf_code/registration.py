"""What the package adds: the reward `code_tests`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rlhf import hookimpl
from rlhf_code.config import CodeTestsConfig

if TYPE_CHECKING:
    from rlhf.protocols import Parts
    from rlhf_code.reward import CodeTests


@hookimpl
def register_rewards(register: Callable[..., None]) -> None:
    """Add `code_tests`."""
    register("code_tests", _code_tests, config=CodeTestsConfig)


def _code_tests(config: CodeTestsConfig, parts: Parts) -> CodeTests:
    from rlhf_code.reward import CodeTests

    return CodeTests(config, parts)
