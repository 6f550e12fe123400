"""What was read of a job's spec and status is remembered, within bounds."""

from __future__ import annotations

from kubeseg_operator.reading import _Memory
from kubeseg_operator.views import Raw, packed


def test_what_is_large_is_not_remembered_for_long() -> None:
    """As models some specs take a dozen times their bytes."""
    read: list[int] = []

    def count(raw: Raw) -> int:
        read.append(1)
        return len(raw)

    memory = _Memory(count)
    large = packed({"a": "x" * 3_000_000})
    assert [memory.of(uid, large) for uid in ("u", "u", "v", "v", "u")] == [1] * 5
    assert len(read) == 3, "u, v, and u again"
    small = [packed({"n": number}) for number in range(100)]
    for _ in range(2):
        for number, part in enumerate(small):
            memory.of(f"s{number}", part)
    assert len(read) == 103, "of small ones all are"
