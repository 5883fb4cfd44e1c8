"""Expressions and sentences that stand in TOML files, evaluated by Jinja2."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from jinja2 import StrictUndefined, TemplateError, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from qaprune_lib.errors import RecordError

_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined)


def evaluate(expression: str, names: Mapping[str, Any]) -> Any:
    """The value of a Jinja2 expression, which an error repeats.

    >>> evaluate("max(1, model.heads - 2)", {"max": max, "model": {"heads": 12}})
    10
    """
    try:
        value = _compiled(expression)(**names)
        if isinstance(value, Undefined):
            str(value)  # says what there is not
    except (TemplateError, ArithmeticError, TypeError) as error:
        raise RecordError(f"{' '.join(expression.split())!r} has no value: {error}") from error
    return value


def sentence(template: str, names: Mapping[str, Any]) -> str:
    """A Jinja2 template, filled, on one line."""
    return " ".join(_ENVIRONMENT.from_string(template).render(names).split())


@cache
def _compiled(expression: str) -> Callable[..., Any]:
    return _ENVIRONMENT.compile_expression(f"({expression})", undefined_to_none=False)
