"""How the toolkit finds the reward, and what finding it costs."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from rlhf.errors import ConfigError
from rlhf.registry import Entry, Registry
from rlhf_code import registration


def test_the_hook_adds_the_reward_and_the_registry_builds_it(rollout: Any) -> None:
    registry = Registry()

    def register(name: str, factory: Any, *, config: Any = None) -> None:
        registry.add(Entry("reward", name, factory, config, "code"))

    registration.register_rewards(register)
    reward = registry.build("reward", "code_tests", {"score": "share"}, None)
    assert reward.columns == ("tests",)
    assert reward([rollout("```python\ndef f(): return 1\n```", tests="assert f() == 1")])[0].value == 1
    reward.sandbox.close()
    with pytest.raises(ConfigError, match="Did you mean 'score'"):
        registry.build("reward", "code_tests", {"scores": "share"}, None)


def test_loading_the_plugin_is_light() -> None:
    script = "import sys, rlhf_code.registration; print(*{'torch', 'ray', 'rlhf_code.reward'} & {*sys.modules})"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "\n"
