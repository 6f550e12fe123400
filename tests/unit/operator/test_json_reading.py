"""Whatever somebody writes into one object, the others of its list can be read."""

from __future__ import annotations

import pytest

from kubeseg_operator.json_reading import loads
from kubeseg_types.shallow import DEEPEST


def nested(levels: int, opening: bytes, closing: bytes, inside: bytes = b"1") -> bytes:
    return opening * levels + inside + closing * levels


@pytest.mark.parametrize("levels", [1100, 5000, 200_000])
@pytest.mark.parametrize(("opening", "closing"), [(b'{"a":', b"}"), (b"[", b"]")])
def test_what_is_nested_too_deep_is_left_out_and_all_else_is_there(
    levels: int, opening: bytes, closing: bytes
) -> None:
    deep = nested(levels, opening, closing)
    text = b'{"items": [{"n": 1}, {"deep": %s, "n": 2}, {"n": 3}], "more": [4]}' % deep
    found = loads(text)
    assert [item["n"] for item in found["items"]] == [1, 2, 3]
    assert found["more"] == [4]
    inner = found["items"][1]["deep"]
    for _ in range(DEEPEST - 3):
        inner = inner["a"] if isinstance(inner, dict) else inner[0]
    assert inner is None


def test_several_in_a_row_and_brackets_in_strings() -> None:
    deep = nested(2000, b'{"}{][\\"":[', b"]}", b'"]]}}\\\\"')
    found = loads(b'{"a": %s, "b": "[[[{{\\"", "c": %s, "d": []}' % (deep, deep))
    assert (found["b"], found["d"]) == ('[[[{{"', [])


def test_bytes_that_are_no_utf8() -> None:
    assert loads(b'{"a": "\xff", "b": 1}') == {"a": "\ufffd", "b": 1}


@pytest.mark.parametrize("text", [b"", b"<html>", b"{", b'{"a": ' + b"[" * 2000, b"]" * 2000])
def test_what_is_no_json_is_none(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        loads(text)
