"""Profiles' YAML: what it says is what is read, and the rest is refused with a place."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from study.plan.strict_yaml import read_yaml

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("anoy -:#'\"[]{}&*!|>%@`,?~é"),  # without digits: 1e5 is a word to others
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc_-"), inner),
    max_leaves=8,
)


@given(value=plain, flow=st.booleans())
def test_what_others_write_is_read(value: Any, flow: bool) -> None:
    assert read_yaml(json.dumps(value)) == value
    assert read_yaml(yaml.safe_dump(value, default_flow_style=flow)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-4", 3e-4),
        ("-1E5", -1e5),
        (".5e3", 500.0),
        ("1.0e-1", 0.1),
        ("10", 10),
        ("-0.5", -0.5),
        (".inf", float("inf")),
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("on", "on"),
        ("yes", "yes"),
        ("No", "No"),
        ("n", "n"),
        ("True", "True"),
        ("010", "010"),
        ("1_000", "1_000"),
        ("12:30:45", "12:30:45"),
        ("2024-05-06", "2024-05-06"),
        ("0x1f", "0x1f"),
        ("e5", "e5"),
        ("1.2.3", "1.2.3"),
    ],
)
def test_scalars_are_what_they_look_like(text: str, value: Any) -> None:
    found = read_yaml(f"key: {text}\n{text}: 1")
    assert found == {"key": value, value: 1}
    assert type(found["key"]) is type(value)


TAGS = ("float", "timestamp", "bool", "int", "binary", "set", "str", "python/name:os.system")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "the key 'a' stands twice"),
        ("a: {b: 1, b: 1}", "the key 'b' stands twice"),
        ("a: &x 1\nb: *x", "'\\*x' refers to another place"),
        ("a: &x [*x]", "'\\*x' refers to another place"),
        ("[a, b]: 1", "a key is a word or a number"),
        ("{a: 1}: 1", "a key is a word or a number"),
        *((f"a: !!{tag} x", "the tag '.*': leave it out") for tag in TAGS),
        ("a: !own x", "the tag '!own'"),
        ("%TAG ! tag:yaml.org,2002:python/\n---\n!name:os.system ''", "the tag '.*os.system'"),
        ('a: "\\0"', "a character that no file can hold"),
        ('"\\ud800": 1', "a character that no file can hold"),
        ("a: [", "line 1"),
        ("a: " + "1" * 5000, "digits"),
        ("a: \x00", "special characters"),
    ],
)
def test_the_rest_is_refused(text: str, message: str) -> None:
    with pytest.raises(yaml.YAMLError, match=message):
        read_yaml(text)


def test_deep_nesting_ends_in_an_error() -> None:
    with pytest.raises((yaml.YAMLError, RecursionError)):
        read_yaml("[" * 100_000)
