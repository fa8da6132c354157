"""The run an algorithm sees, and where it lives: in one process, or on Ray."""

from __future__ import annotations

from rlhf.runtime.environment import prepare_environment

prepare_environment()
