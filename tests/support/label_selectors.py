"""Label selectors, for the models of the API server."""

from __future__ import annotations

import re
from collections.abc import Mapping

_ONE_OF = re.compile(r"(?P<name>\S+) in \((?P<values>[^)]*)\)")


def matches(labels: Mapping[str, str], selector: str) -> bool:
    """Of `name in (value,…)` alone, or of `name` and `name=value` with commas between them, all."""
    if some := _ONE_OF.fullmatch(selector):
        return labels.get(some["name"]) in some["values"].split(",")
    for part in filter(None, selector.split(",")):
        name, equals, value = part.partition("=")
        if name not in labels or (equals and labels[name] != value):
            return False
    return True
