"""Is the completion JSON, and such JSON as a schema asks for?"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn

from pydantic import Field, model_validator

from rlhf.config import PartConfig
from rlhf.protocols import Parts
from rlhf.rewards.schema_validator import SchemaValidator
from rlhf.types import Rollout, Score

# RFC 8259, section 9, lets a reader limit depth and range; nobody's schema asks for more.
DEEPEST = 64  # levels of objects and arrays
MOST_DIGITS = 308  # of an integer, as of a double


class JsonSchemaConfig(PartConfig):
    """Options of `json_schema`: `inline` or `file`."""

    inline: dict[str, Any] | None = None
    """The schema itself (JSON Schema, draft 2020-12 unless its `$schema` says otherwise)."""
    file: str | None = None
    """A JSON file with the schema, read where the run starts and where the reward runs."""
    fence: Literal["allowed", "required", "refused"] = "allowed"
    """Whether the JSON stands in a block between lines of three backticks, of which there must be just one (others,
    marked as of another language, do not count), or is the whole completion. `allowed`: in the block if there is one.
    """
    time_limit: float = Field(default=1.0, gt=0)
    """Seconds one `pattern` of the schema may spend on one text; a completion that needs more is an error."""

    @model_validator(mode="after")
    def _is_a_schema(self) -> JsonSchemaConfig:
        if (self.inline is None) == (self.file is None):
            raise ValueError("give either `inline` (the schema itself) or `file` (a JSON file)")
        self.validator()
        return self

    def validator(self) -> SchemaValidator:
        """What checks values; `ValueError` where there is no schema, or one that is none."""
        schema = self.inline if self.file is None else _schema_in(Path(self.file))
        return SchemaValidator(schema, self.time_limit)


class JsonSchema:
    """1 where the completion, or its one fenced block, is JSON that satisfies the schema, else 0, as where it is empty.

    JSON is RFC 8259: no NaN, no comments, no trailing commas; any Unicode. More than 64 levels of nesting, or a number
    beyond the range of a double, is not accepted. `format` is an annotation, which the draft leaves unchecked. Where
    the schema's patterns or references run away on a completion, that is an error. Library: jsonschema.
    """

    def __init__(self, config: JsonSchemaConfig, parts: Parts) -> None:
        self.config = config
        self._validator = config.validator()

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        return [self._score(rollout.completion.text) for rollout in rollouts]

    def _score(self, text: str) -> Score:
        source = self._source(text)
        if source is None:
            return Score(value=0.0)
        try:
            value = _parsed(source)
        except (ValueError, RecursionError):  # not JSON, or more of it than is read
            return Score(value=0.0)
        if _depth(value) > DEEPEST:
            return Score(value=0.0)
        try:
            return Score(value=float(self._validator.accepts(value)))
        except TimeoutError as error:
            return Score(error=str(error))
        except RecursionError:
            return Score(error="the schema's references lead back to themselves too often for this completion")

    def _source(self, text: str) -> str | None:
        """Where the JSON is; None where it is not as `fence` asks, or there are several blocks."""
        blocks = [] if self.config.fence == "refused" else fenced_blocks(text)
        if len(blocks) == 1:
            return blocks[0]
        return None if blocks or self.config.fence == "required" else text


def fenced_blocks(text: str) -> list[str]:
    """Contents of the closed blocks between lines of three or more backticks, marked as JSON or not marked at all."""
    blocks: list[str] = []
    inside: list[str] = []
    ticks = language = ""
    for line in text.split("\n"):  # `splitlines` would also break at U+2028, which may stand in JSON
        bare = line.strip()
        run = bare[: len(bare) - len(bare.lstrip("`"))]
        if not ticks and len(run) >= 3:
            ticks, language, inside = run, bare.lstrip("`").strip().lower(), []
        elif ticks and run == bare and len(run) >= len(ticks):
            if language in ("", "json"):
                blocks.append("\n".join(inside))
            ticks = ""
        elif ticks:
            inside.append(line)
    return blocks


def _parsed(text: str) -> Any:
    return json.loads(text, parse_constant=_refuse_constant, parse_float=_double, parse_int=_integer)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _double(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError("a number is beyond the range of a double")
    return number


def _integer(digits: str) -> int:
    if len(digits.removeprefix("-")) > MOST_DIGITS:
        raise ValueError(f"a number has more than {MOST_DIGITS} digits")
    return int(digits)


def _depth(value: Any) -> int:
    """Levels of objects and arrays; a number or text has none."""
    levels, layer = 0, [value]
    while layer := [item for item in layer if isinstance(item, dict | list)]:
        levels += 1
        layer = [inner for item in layer for inner in (item.values() if isinstance(item, dict) else item)]
    return levels


def _schema_in(path: Path) -> Any:
    try:
        return _parsed(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"file: cannot read {str(path)!r}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"file: {str(path)!r} is not JSON: {error}") from None
