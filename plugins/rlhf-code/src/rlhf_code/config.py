"""Options of `code_tests`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rlhf import PartConfig


class CodeTestsConfig(PartConfig):
    """Options of `code_tests`."""

    layout: Literal["tests", "humaneval"] = "tests"
    """Where a row has its tests: in the column `tests` (Python asserts, or a list of `{input, output}`), or in the
    columns `test` and `entry_point`, as HumanEval has them.
    """
    score: Literal["all", "share"] = "all"
    """1 where every test passes and else 0, or the share of the tests that pass."""
    unfenced: bool = False
    """Take a completion without a fenced block of code as a program as it stands. Without this it scores 0."""
    continues: bool = False
    """The completion carries on the prompt's text, and the program is both: for models that continue code."""
    seconds: float = Field(default=10.0, gt=0, le=3600)
    """Wall-clock time of a program: for each `{input, output}`, or for all asserts of a row together."""
    cpu_seconds: int = Field(default=5, ge=1, le=3600)
    """Processor time of the same; unlike wall-clock time it does not depend on what else the machine does."""
    memory_mb: int = Field(default=1024, ge=128)
    """Address space of a program, in MiB."""
    workers: int | None = Field(default=None, ge=1, le=1024)
    """Rows judged at a time; as many as this process has processors where absent."""
    isolation: Literal["namespaces", "process"] = "namespaces"
    """`process` is for machines without user namespaces. Network, files and other processes stay out of reach by
    Landlock and seccomp; a program has neither threads nor a `/tmp`, and sees the names and sizes of files.
    """
