"""YAML without its traps: no key twice, `3e-4` a number, `on` a word, no references, no tags."""

from __future__ import annotations

import re
from typing import Any, ClassVar

import yaml

SCALARS = {
    "null": r"~|null|",
    "bool": r"true|false",
    "int": r"[-+]?(0|[1-9]\d*)",
    "float": r"[-+]?((\d+\.\d*|\.\d+)([eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.inf)|\.nan",
}
"""What is not a string: YAML 1.2, so neither `no` nor `12:30` nor `2024-05-06` is anything else."""


class StrictLoader(yaml.SafeLoader):
    """Makes plain Python values only, as `yaml.safe_load` does."""

    yaml_implicit_resolvers: ClassVar[dict[Any, Any]] = {
        None: [
            (f"tag:yaml.org,2002:{name}", re.compile(f"^({pattern})$"))
            for name, pattern in SCALARS.items()
        ]
    }

    def compose_node(self, parent: Any, index: Any) -> Any:  # noqa: D102
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            problem = f"'*{event.anchor}' refers to another place: write out what is meant"
            raise _error(problem, event)
        if event.tag is not None:
            problem = f"the tag {event.tag!r}: leave it out, as values are what they look like"
            raise _error(problem, event)
        return super().compose_node(parent, index)

    def construct_scalar(self, node: Any) -> Any:  # noqa: D102
        value = super().construct_scalar(node)
        if re.search("[\0\ud800-\udfff]", value):
            raise _error("a character that no file can hold", node)
        return value

    def construct_yaml_int(self, node: Any) -> int:  # noqa: D102
        try:
            return int(self.construct_scalar(node))
        except ValueError as error:
            raise _error(str(error), node) from error


def _error(problem: str, place: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=place.start_mark)


def _mapping(loader: StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise _error("a key is a word or a number", key)
        name = loader.construct_object(key)
        if name in found:
            raise _error(f"the key {name!r} stands twice", key)
        found[name] = loader.construct_object(value, deep=True)
    return found


StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
StrictLoader.add_constructor("tag:yaml.org,2002:int", StrictLoader.construct_yaml_int)


def read_yaml(text: str) -> Any:
    """The content of a YAML document; a yaml.YAMLError, or a RecursionError, if it has none."""
    return yaml.load(text, Loader=StrictLoader)
