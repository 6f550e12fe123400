"""Sentences on what is wrong with a configuration's fields, instead of pydantic's words."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.alias_generators import to_camel

from kubeseg_types.workspace import DATASET_PATTERN

_DNS = "beginning and ending with a letter or digit"

#: A field's pattern -> what its text must be.
PATTERNS: dict[str, str] = {
    r"^[a-z0-9][a-z0-9_.-]*$": "lower-case letters, digits and _ . -, as smp and timm name it",
    r"^[A-Za-z0-9][A-Za-z0-9._+-]*$": "letters, digits and . _ + -, beginning with a letter or "
    "digit",
    r"^#[0-9a-fA-F]{6}$": "a colour such as #00ff10",
    r"^[A-Za-z0-9][A-Za-z0-9._-]*$": "a folder's name: letters, digits and . _ -, beginning with a "
    "letter or digit",
    DATASET_PATTERN: "a data set's name, <name> or <owner>/<name>: letters, digits and . _ -, "
    "beginning with a letter or digit",
    r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$": "an extended resource such as nvidia.com/gpu",
    r"^[A-Za-z_][A-Za-z0-9_]*$": "a variable's name: letters, digits and _, no digit first",
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$": f"lower-case letters, digits and -, {_DNS}",
    r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$": f"lower-case letters, digits, - and ., {_DNS}",
    r"^[1-9][0-9]{0,6}$": 'the number of an epoch in quotes, such as "7"',
    r"^[!-~]+$": "the name of an image, without blanks",
    r"^[0-9]+(\.[0-9]{1,3})?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$": "a quantity such as 500m, 2 or 16Gi",
    r"^([0-9]{1,5}h)?([0-9]{1,5}m)?([0-9]{1,6}s)?$": "a duration such as 90s, 30m or 1h30m",
}

_ENTRIES = ("entry", "entries")
_WHOLE, _TEXT = "must be a whole number", "must be text (in quotes)"
_BOOL, _MAPPING = "must be true or false", "must be a mapping with fields"

#: pydantic's type of error -> what must be otherwise; its context goes into the braces.
_WORDS: dict[str, str] = {
    "missing": "must be set",
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": _BOOL,
    "bool_parsing": _BOOL,
    "string_type": _TEXT,
    "list_type": "must be a list",
    "dict_type": _MAPPING,
    "model_type": _MAPPING,
    "model_attributes_type": _MAPPING,
    "greater_than": "must be above {gt:.12g}",
    "greater_than_equal": "must be at least {ge:.12g}",
    "less_than": "must be below {lt:.12g}",
    "less_than_equal": "must be at most {le:.12g}",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
}


def sentences(error: ValidationError, model: type[BaseModel], prefix: str) -> str:
    """One line for each field of `model` that is wrong: where, and what must be otherwise."""
    by_place: dict[str, list[str]] = {}
    values: dict[str, Any] = {}
    for problem in error.errors():
        parts, inner = _follow(model, problem["loc"])
        place = ".".join(str(part) for part in parts)
        if problem["type"] == "extra_forbidden":
            text = f"is not a field; {_guess(str(parts[-1]), inner)}"
        else:
            text = _text(problem)
            if "actual_length" not in problem.get("ctx", {}) and problem["type"] != "missing":
                values[place] = problem["input"]
        by_place.setdefault(place, []).append(text)
    lines = []
    for place, texts in by_place.items():
        # Several where a field takes one of several kinds of values.
        line = f"{prefix}{place}: {', or '.join(texts)}"
        value = values.get(place, {})
        lines.append(line if isinstance(value, dict | list) else f"{line}, not {_short(value)}")
    return "\n".join(lines)


def _text(problem: Any) -> str:
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "string_pattern_mismatch":
        pattern = context["pattern"]
        return f"must be {PATTERNS.get(pattern, f'text of the form {pattern}')}"
    if kind.endswith(("too_short", "too_long")):
        least = kind.endswith("short")
        number = context["min_length" if least else "max_length"]
        one, many = ("character", "characters") if kind.startswith("string") else _ENTRIES
        length = context.get("actual_length", len(problem["input"]))
        what = one if number == 1 else many
        return f"must have at {'least' if least else 'most'} {number} {what}, not {length}"
    words = _WORDS.get(kind)
    return words.format(**context) if words else str(problem["msg"]).removeprefix("Value error, ")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def _follow(
    model: type[BaseModel], place: Sequence[int | str]
) -> tuple[list[int | str], type[BaseModel]]:
    """The part of `place` that names fields (kinds of values follow), and the model of the last."""
    named: list[int | str] = []
    inner, annotation = model, None
    for part in place:
        if isinstance(part, str) and annotation is not None:
            found = _model_in(annotation)
            if found is None:
                # A mapping's key, or the kind of value that was tried.
                break
            inner, annotation = found, None
        named.append(part)
        if isinstance(part, str):
            annotation = fields_of(inner).get(part)
    return named, inner


def fields_of(model: type[BaseModel]) -> dict[str, Any]:
    """Types of the fields of `model`, by the names that a file has."""
    return {info.alias or name: info.annotation for name, info in model.model_fields.items()}


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for one in get_args(annotation) if (found := _model_in(one))), None)


def _guess(name: str, model: type[BaseModel]) -> str:
    """What may have been meant by `name`, which is no field of `model`."""
    there = fields_of(model)
    if to_camel(name) in there:
        return f"did you mean {to_camel(name)}?"
    for outer, annotation in there.items():
        inner = _model_in(annotation)
        if inner is not None and to_camel(name) in fields_of(inner):
            return f"did you mean {outer}.{to_camel(name)}?"
    near = difflib.get_close_matches(name, there, n=1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(there)}"
