"""A written constitution: judge answers by its principles, and have a model revise them by it (arXiv:2212.08073)."""

from __future__ import annotations

from rlhf_judge.constitution.principles import Principle, read_constitution
from rlhf_judge.constitution.revising import Revisions, revise

__all__ = ["Principle", "Revisions", "read_constitution", "revise"]
