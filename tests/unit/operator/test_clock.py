"""Times at the ends of the calendar: a status may be written by anybody."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from kubeseg_operator.clock import add, parse, stamp


@pytest.mark.parametrize(
    "text", ["0001-01-01T00:00:00Z", "2026-01-02T03:04:05Z", "9999-12-31T23:59:59Z"]
)
def test_what_was_read_is_written_alike(text: str) -> None:
    moment = parse(text)
    assert moment is not None
    assert stamp(moment) == text


def test_fractions_and_zones() -> None:
    assert parse("2026-01-02T04:04:05.7+01:00") == datetime(2026, 1, 2, 3, 4, 5, 700_000, UTC)
    assert stamp(datetime(2026, 1, 2, 3, 4, 5, 700_000, UTC)) == "2026-01-02T03:04:05Z"


def test_there_is_no_time_after_the_last() -> None:
    last = parse("9999-12-31T23:59:59Z")
    assert last is not None
    assert add(last, 31_536_000) == datetime.max.replace(tzinfo=UTC)
