"""A JSON schema that reads nothing from the network and ends in time, whatever a policy writes.

jsonschema's own keywords search with `re`, which cannot be interrupted, compare each item of an array with each other,
and follow a `$ref` to other hosts. Here they search with `TimedPattern`, compare items by a key, and a reference must
lead to a place in the schema itself.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

from rlhf.rewards.timed_patterns import TimedPattern


class SchemaValidator:
    """A checked schema; `ValueError` says in a line what is wrong with it."""

    def __init__(self, schema: Any, time_limit: float) -> None:
        # Here, not above: plugins load quickly.
        from jsonschema import FormatChecker  # type: ignore[import-untyped]
        from jsonschema.exceptions import SchemaError  # type: ignore[import-untyped]
        from jsonschema.validators import Draft202012Validator, extend, validator_for  # type: ignore[import-untyped]
        from referencing.jsonschema import EMPTY_REGISTRY

        if not isinstance(schema, Mapping):
            raise ValueError(f"a JSON schema is an object, given {type(schema).__name__}")
        draft = validator_for(schema, default=None if "$schema" in schema else Draft202012Validator)
        if draft is None:
            raise ValueError(f"$schema {schema['$schema']!r} is no draft of JSON Schema from 3 to 2020-12")
        try:
            # Without formats: `regex` would be that of `re`; `_check_part` compiles patterns with ours.
            draft.check_schema(schema, format_checker=FormatChecker(formats=()))
        except SchemaError as error:
            raise ValueError(f"not a JSON schema: {error.json_path}: {error.message}") from None
        keywords = _Keywords(time_limit)
        _check_parts(schema, keywords)
        timed = extend(
            draft,
            {
                "pattern": keywords.pattern,
                "patternProperties": keywords.pattern_properties,
                "additionalProperties": keywords.additional_properties,
                "uniqueItems": keywords.unique_items,
            },
        )
        self._validator = timed(schema, registry=EMPTY_REGISTRY)

    def accepts(self, value: Any) -> bool:
        """Whether the value satisfies the schema; `TimeoutError` where a pattern takes too long to say."""
        return bool(self._validator.is_valid(value))


class _Keywords:
    """Those that are ours, as jsonschema calls them: `keyword(validator, its value, instance, schema)`."""

    def __init__(self, time_limit: float) -> None:
        self._time_limit = time_limit
        self._patterns: dict[str, TimedPattern] = {}

    def matches(self, pattern: str, text: str) -> bool:
        if pattern not in self._patterns:
            self._patterns[pattern] = TimedPattern(pattern, self._time_limit)
        return self._patterns[pattern].is_in(text)

    def pattern(self, validator: Any, pattern: str, instance: Any, schema: Mapping[str, Any]) -> Iterator[Any]:
        if isinstance(instance, str) and not self.matches(pattern, instance):
            yield _breach(f"{instance!r} does not match {pattern!r}")

    def pattern_properties(
        self, validator: Any, patterns: Mapping[str, Any], instance: Any, schema: Mapping[str, Any]
    ) -> Iterator[Any]:
        if not isinstance(instance, dict):
            return
        for pattern, inner in patterns.items():
            for name, value in instance.items():
                if self.matches(pattern, name):
                    yield from validator.descend(value, inner, path=name, schema_path=pattern)

    def additional_properties(
        self, validator: Any, inner: Any, instance: Any, schema: Mapping[str, Any]
    ) -> Iterator[Any]:
        if not isinstance(instance, dict):
            return
        named, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
        for name, value in instance.items():
            if name not in named and not any(self.matches(pattern, name) for pattern in patterns):
                yield from validator.descend(value, inner, path=name)

    def unique_items(self, validator: Any, wanted: bool, instance: Any, schema: Mapping[str, Any]) -> Iterator[Any]:
        if wanted and isinstance(instance, list) and len({_key(item) for item in instance}) < len(instance):
            yield _breach("its items are not all different")


def _key(value: Any) -> Hashable:
    """Equal for values that are equal in JSON: 1 is 1.0 and not true, and the order of members does not count."""
    if isinstance(value, dict):
        return dict, frozenset((name, _key(item)) for name, item in value.items())
    if isinstance(value, list):
        return list, tuple(map(_key, value))
    return isinstance(value, bool), value


def _breach(message: str) -> Exception:
    from jsonschema.exceptions import ValidationError

    error: Exception = ValidationError(message)
    return error


def _check_parts(schema: Mapping[str, Any], keywords: _Keywords) -> None:
    """`ValueError` for a pattern that is none, and for a reference that leads nowhere or to another host."""
    from referencing import Resource
    from referencing.jsonschema import DRAFT202012, EMPTY_REGISTRY

    root = Resource.from_contents(schema, default_specification=DRAFT202012)
    seen: set[str] = set()
    parts = [(root, EMPTY_REGISTRY.resolver_with_root(root))]
    for resource, resolver in parts:  # grows while it is read
        if isinstance(resource.contents, Mapping):
            seen.update(resource.contents)
            _check_part(resource.contents, resolver, keywords)
        parts.extend((inner, resolver.in_subresource(inner)) for inner in resource.subresources())
    if {"patternProperties", "unevaluatedProperties"} <= seen:  # jsonschema searches for these by itself
        raise ValueError("unevaluatedProperties beside patternProperties has no time limit; use additionalProperties")


def _check_part(part: Mapping[str, Any], resolver: Any, keywords: _Keywords) -> None:
    from referencing.exceptions import Unresolvable

    for keyword in ("$ref", "$dynamicRef", "$recursiveRef"):
        if keyword in part:
            try:
                resolver.lookup(part[keyword])
            except Unresolvable:
                raise ValueError(
                    f"the schema has no place {part[keyword]!r}, and what is elsewhere is not fetched"
                ) from None
    own = [part["pattern"]] if "pattern" in part else []
    for pattern in [*own, *part.get("patternProperties", {})]:
        keywords.matches(pattern, "")
