"""JSON of the API server, read whatever is in it."""

from __future__ import annotations

from typing import Any

import orjson

from kubeseg_types.shallow import shallow


def loads(text: bytes) -> Any:
    """`text` as Python's; where orjson can't read it, without what lies too deep.

    Raises ValueError where it is no JSON.
    """
    try:
        return orjson.loads(text)
    except ValueError:
        return orjson.loads(shallow(text))
