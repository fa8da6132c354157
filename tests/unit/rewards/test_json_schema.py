"""`json_schema`: what counts as JSON, where it may stand, and schemas that are none."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf.errors import ConfigError

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
    "additionalProperties": False,
}
GOOD = '{"name": "Zoë", "age": 7}'


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (GOOD, 1.0),
        (f"\n {GOOD}\n", 1.0),
        ('{"name": "\\u4e2d\\u6587"}', 1.0),
        ('{"name": "中文"}', 1.0),
        ("", 0.0),
        ("{}", 0.0),
        ('{"name": 7}', 0.0),
        ('{"name": "Zoë", "age": -1}', 0.0),
        ('{"name": "Zoë", "shoe": 1}', 0.0),
        (f"Here it is: {GOOD}", 0.0),
        ("{'name': 'Zoë'}", 0.0),
        ('{"name": "Zoë",}', 0.0),
        ('{"name": "Zoë", "age": NaN}', 0.0),
        ('{"name": "Zoë", "age": ' + "9" * 308 + "}", 1.0),
        ('{"name": "Zoë", "age": ' + "9" * 309 + "}", 0.0),
        ('{"name": "Zoë", "age": ' + "9" * 5000 + "}", 0.0),
        ('{"name": "Zoë", "age": 1e309}', 0.0),
        ("[" * 100_000, 0.0),
    ],
)
def test_a_completion_is_json_of_the_schema_or_is_not(
    build: Any, rollout: Any, value: Any, said: str, expected: float
) -> None:
    assert value(build("json_schema", inline=PERSON), rollout(said)) == expected


@pytest.mark.parametrize(
    ("said", "allowed", "required", "refused"),
    [
        (GOOD, 1.0, 0.0, 1.0),
        (f"```json\n{GOOD}\n```", 1.0, 1.0, 0.0),
        (f"Sure!\n\n```JSON\n{GOOD}\n```\nAnything else?", 1.0, 1.0, 0.0),
        (f"```\n{GOOD}\n```", 1.0, 1.0, 0.0),
        (f"````json\n{GOOD}\n````", 1.0, 1.0, 0.0),
        (f"```python\nprint(1)\n```\n```json\n{GOOD}\n```", 1.0, 1.0, 0.0),
        (f"```json\n{GOOD}\n```\n```json\n{GOOD}\n```", 0.0, 0.0, 0.0),  # which of the two?
        (f"````md\n```json\n{GOOD}\n```\n````\n```json\n{GOOD}\n```", 1.0, 1.0, 0.0),
        (f"```md\n```json\n```\n```json\n{GOOD}\n```", 1.0, 1.0, 0.0),
        (f"```json\n{GOOD}", 0.0, 0.0, 0.0),
        (f"```json {GOOD} ```", 0.0, 0.0, 0.0),
    ],
)
def test_json_stands_in_a_fence_as_the_recipe_says(
    build: Any, rollout: Any, value: Any, said: str, allowed: float, required: float, refused: float
) -> None:
    for fence, expected in (("allowed", allowed), ("required", required), ("refused", refused)):
        assert value(build("json_schema", inline=PERSON, fence=fence), rollout(said)) == expected, fence


def test_backticks_inside_json_end_no_fence(build: Any, rollout: Any, value: Any) -> None:
    reward = build("json_schema", inline={"type": "string"})
    assert value(reward, rollout('```json\n"a ``` b"\n```')) == 1.0


def test_a_line_of_unicode_ends_no_fence(build: Any, rollout: Any, value: Any) -> None:
    reward = build("json_schema", inline={"type": "string"})
    assert value(reward, rollout('```json\n"a\u2028```\u2028b"\n```')) == 1.0


def test_nesting_has_a_limit(build: Any, rollout: Any, value: Any) -> None:
    reward = build("json_schema", inline={})
    assert [value(reward, rollout("[" * n + "]" * n)) for n in (64, 65, 500)] == [1.0, 0.0, 0.0]


def test_a_schema_may_be_a_file(build: Any, rollout: Any, value: Any, tmp_path: Path) -> None:
    path = tmp_path / "person.json"
    path.write_text(json.dumps(PERSON), encoding="utf-8")
    reward = build("json_schema", file=str(path))
    assert [value(reward, rollout(text)) for text in (GOOD, "{}")] == [1.0, 0.0]


def test_drafts_references_and_properties_by_pattern_work(build: Any, rollout: Any, value: Any) -> None:
    old = {"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"$ref": "#/definitions/n"}]}
    old["definitions"] = {"n": {"type": "integer"}}
    reward = build("json_schema", inline=old)
    assert [value(reward, rollout(text)) for text in ("[1]", '["1"]')] == [1.0, 0.0]
    by_pattern = {
        "properties": {"id": True},
        "patternProperties": {r"^\p{Lu}": {"type": "integer"}},
        "additionalProperties": {"type": "null"},
    }
    reward = build("json_schema", inline=by_pattern)
    texts = ('{"id": "x", "É": 1, "b": null}', '{"É": "1"}', '{"b": 1}', "[1]")
    assert [value(reward, rollout(text)) for text in texts] == [1.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ('[1, true, [1], [true], {}, [], null, 0, false, "", {"a": 1}, {"b": 1}]', 1.0),
        ("[1, 1.0]", 0.0),
        ('[{"a": 1, "b": [2]}, {"b": [2.0], "a": 1}]', 0.0),
        ("[null, null]", 0.0),
        ('"no array"', 1.0),
    ],
)
def test_items_are_told_apart_as_json_does(build: Any, rollout: Any, value: Any, said: str, expected: float) -> None:
    assert value(build("json_schema", inline={"uniqueItems": True}), rollout(said)) == expected
    assert value(build("json_schema", inline={"uniqueItems": False}), rollout(said)) == 1.0


def test_many_items_are_told_apart_in_time(build: Any, rollout: Any, value: Any) -> None:
    items = [item for n in range(10_000) for item in ([n], {"a": n}, n)]
    start = time.process_time()
    assert value(build("json_schema", inline={"uniqueItems": True}), rollout(json.dumps(items))) == 1.0
    assert time.process_time() - start < 10  # each with each other would be many minutes


@pytest.mark.parametrize("number", ["9" * 308, "1.7e308", "-" + "9" * 308, "1e-300", "0"])
def test_large_numbers_break_no_arithmetic(build: Any, rollout: Any, value: Any, number: str) -> None:
    schema = {"multipleOf": 0.1, "maximum": 1e300, "exclusiveMinimum": -5}
    assert value(build("json_schema", inline=schema), rollout(number)) in (0.0, 1.0)


@pytest.mark.parametrize(
    "schema",
    [
        {"pattern": "^(?:a|aa)+$"},
        {"additionalProperties": {"pattern": "^(?:a|aa)+$"}},
        {"patternProperties": {"^(?:a|aa)+$": True}},
        {"patternProperties": {"^(?:a|aa)+$": True}, "additionalProperties": False},
        {"propertyNames": {"pattern": "^(?:a|aa)+$"}},
    ],
)
def test_a_pattern_that_never_ends_is_an_error(build: Any, rollout: Any, fault: Any, schema: dict[str, Any]) -> None:
    slow = "a" * 80 + "b"
    said = json.dumps(slow if "pattern" in schema else {slow: slow})
    complaint = fault(build("json_schema", inline=schema, time_limit=0.2), rollout(said))
    assert complaint == "the pattern '^(?:a|aa)+$' took more than 0.2 s on 81 characters"


def test_a_schema_that_runs_in_circles_is_an_error(build: Any, rollout: Any, fault: Any) -> None:
    reward = build("json_schema", inline={"$ref": "#"})
    expected = "the schema's references lead back to themselves too often for this completion"
    assert fault(reward, rollout("1")) == expected


@pytest.mark.parametrize(
    ("schema", "complaint"),
    [
        ({"type": "objekt"}, "not a JSON schema: $.type: 'objekt' is not valid"),
        ({"pattern": "("}, "not a regular expression: missing ) at position 1"),
        ({"properties": {"a": {"$ref": "#/$defs/b"}}}, "the schema has no place '#/$defs/b'"),
        ({"$ref": "http://127.0.0.1:1/x"}, "the schema has no place 'http://127.0.0.1:1/x', and what is elsewhere"),
        ({"$schema": "https://example.org/mine"}, "$schema 'https://example.org/mine' is no draft of JSON Schema"),
        (
            {"allOf": [{"patternProperties": {"a": True}}], "unevaluatedProperties": False},
            "unevaluatedProperties beside patternProperties has no time limit; use additionalProperties",
        ),
    ],
)
def test_what_is_no_schema_is_refused(build: Any, schema: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        build("json_schema", inline=schema)
    assert complaint in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_property_may_be_called_like_a_keyword(build: Any, rollout: Any, value: Any) -> None:
    schema = {"properties": {"$ref": {"type": "string"}, "pattern": {"type": "string"}}}
    assert value(build("json_schema", inline=schema), rollout('{"$ref": "x", "pattern": "("}')) == 1.0


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "cannot read"),
        ("{", "is not JSON"),
        ("[]", "a JSON schema is an object, given list"),
        ("3", "a JSON schema is an object, given int"),
    ],
)
def test_a_file_that_holds_no_schema_is_refused(
    build: Any, tmp_path: Path, content: str | None, complaint: str
) -> None:
    path = tmp_path / "schema.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=complaint):
        build("json_schema", file=str(path))


@pytest.mark.parametrize("options", [{}, {"inline": {}, "file": "x.json"}])
def test_one_schema_is_given(build: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="give either `inline`"):
        build("json_schema", **options)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(item=JSON)
def test_whatever_json_writes_is_json(build: Any, rollout: Any, value: Any, item: Any) -> None:
    reward = build("json_schema", inline={})
    assert value(reward, rollout(json.dumps(item))) == 1.0
    assert value(reward, rollout(f"```json\n{json.dumps(item, indent=2, ensure_ascii=False)}\n```")) == 1.0
