"""Options of a plain function: its keyword-only parameters with a default, as in `def f(completions, *, alpha=0.5)`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

from pydantic import ConfigDict, create_model

from rlhf.config.parts import PartConfig
from rlhf.config.rewards import RESERVED_OPTIONS


class FunctionOptions(PartConfig):
    """What a recipe gives a function by name."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    def given(self) -> dict[str, Any]:
        """Those the recipe has; the others keep the function's own defaults."""
        return {name: getattr(self, name) for name in self.model_fields_set}


def function_options(function: Callable[..., Any]) -> type[FunctionOptions]:
    """A model of the function's options, each of the type it is annotated with; of any type where there is none.

    A parameter named like a key that the recipe has for every reward is none.
    """
    types = _types(function)
    fields: dict[str, Any] = {
        name: (types.get(name, Any), parameter.default)
        for name, parameter in _parameters(function).items()
        if _is_option(parameter) and name not in RESERVED_OPTIONS
    }
    return create_model("FunctionOptions", __base__=FunctionOptions, **fields)


def reserved_parameters(function: Callable[..., Any]) -> set[str]:
    """What would be options, were the names not the recipe's own."""
    return {name for name, parameter in _parameters(function).items() if _is_option(parameter)} & RESERVED_OPTIONS


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # a callable without a signature to look at
        return {}


def _is_option(parameter: inspect.Parameter) -> bool:
    is_keyword = parameter.kind is parameter.KEYWORD_ONLY and parameter.default is not parameter.empty
    return is_keyword and not parameter.name.startswith("_")


def _types(function: Callable[..., Any]) -> dict[str, Any]:
    """Annotations as types; those in words are read, and none is known where that fails."""
    try:
        return get_type_hints(inspect.unwrap(function))
    except (NameError, AttributeError, TypeError, SyntaxError):
        return {}
