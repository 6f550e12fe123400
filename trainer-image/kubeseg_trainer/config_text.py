"""JSON and YAML as text, where no key may stand twice: the last would count, without a word."""

from __future__ import annotations

import json
from typing import Any

import yaml


class TwiceError(ValueError):
    """A key stands twice in one mapping."""

    def __init__(self, key: object, where: str = "") -> None:
        super().__init__(f"{key} stands twice in one mapping{where}: remove one of them")


class _Loader(yaml.SafeLoader):
    """YAML's plain values."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    raise TwiceError(key.value, f" (line {key.start_mark.line + 1})")
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise TwiceError(key)
        found[key] = value
    return found


def load(text: str) -> Any:
    """The document in `text`. ValueError or yaml.YAMLError where it is none, TwiceError."""
    if text.lstrip().startswith("{"):
        return json.loads(text, object_pairs_hook=_pairs)
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
