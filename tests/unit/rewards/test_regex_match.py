"""`regex_match`: patterns of the recipe and of rows, and those that would never end."""

from __future__ import annotations

import time
from typing import Any

import pytest

from rlhf.errors import ConfigError


@pytest.mark.parametrize(
    ("said", "options", "expected"),
    [
        ("the answer is 42.", {"pattern": r"answer is \d+"}, 1.0),
        ("the answer is 42.", {"pattern": r"answer is \d+", "whole": True}, 0.0),
        ("42", {"pattern": r"\d+", "whole": True}, 1.0),
        ("٤٢", {"pattern": r"\d+", "whole": True}, 1.0),
        ("ANSWER", {"pattern": "answer"}, 0.0),
        ("ANSWER", {"pattern": "answer", "ignore_case": True}, 1.0),
        ("a\nb", {"pattern": "a.b"}, 0.0),
        ("a\nb", {"pattern": "(?s)a.b"}, 1.0),
        ("", {"pattern": "x"}, 0.0),
        ("", {"pattern": "x*", "whole": True}, 1.0),
    ],
)
def test_patterns_match(
    build: Any, rollout: Any, value: Any, said: str, options: dict[str, Any], expected: float
) -> None:
    assert value(build("regex_match", **options), rollout(said)) == expected


def test_each_row_may_have_its_own_pattern(build: Any, rollout: Any, value: Any, fault: Any) -> None:
    reward = build("regex_match", column="shape")
    assert reward.columns == ("shape",)
    assert value(reward, rollout("ab", metadata={"shape": "^a"})) == 1.0
    assert value(reward, rollout("ab", metadata={"shape": "^b"})) == 0.0
    assert fault(reward, rollout("ab")) == "row 'r7' has no 'shape'"
    broken = rollout("ab", metadata={"shape": "(a"})
    assert fault(reward, broken) == "row 'r7', column 'shape': not a regular expression: missing ) at position 2"


@pytest.mark.parametrize("name", ["regex_match", "format"])
def test_a_pattern_that_never_ends_is_an_error_in_time(build: Any, rollout: Any, fault: Any, name: str) -> None:
    reward = build(name, pattern="(?:a|aa)+$", time_limit=0.2)
    start = time.process_time()
    complaint = fault(reward, rollout("a" * 80 + "b"))
    assert time.process_time() - start < 5
    assert complaint == "the pattern '(?:a|aa)+$' took more than 0.2 s on 81 characters"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, "give either `pattern` or `column` (where each row's own pattern is)"),
        ({"pattern": "a", "column": "b"}, "give either `pattern` or `column` (where each row's own pattern is)"),
        ({"pattern": "[a"}, "not a regular expression: unterminated character set at position 2 (given: '[a')"),
        ({"pattern": "(" * 5000 + ")" * 5000}, "not a regular expression: its groups are nested too deeply"),
        ({"pattern": "a", "time_limit": 0}, "input should be greater than 0"),
    ],
)
def test_what_cannot_be_a_pattern_is_refused_before_the_run(
    build: Any, options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ConfigError) as refusal:
        build("regex_match", **options)
    assert str(refusal.value).startswith("reward.regex_match")
    assert complaint in str(refusal.value)
