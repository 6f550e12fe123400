"""Who may take the Lease, and when: as tables."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from kubeseg_operator.lease import (
    ATTEMPT,
    DEADLINE,
    DURATION,
    INTERVAL,
    Record,
    Sighting,
    held,
    place,
    read,
    released,
    sight,
    wait,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
THEIRS = Record("other", 10, "renewed", "acquired", 3, "77")
MINE = replace(THEIRS, holder="me")


@pytest.mark.parametrize(
    ("seen", "now", "left"),
    [
        (None, 100, 0),  # there is no Lease
        (Sighting(replace(THEIRS, holder=""), 100), 100, 0),  # given back
        (Sighting(MINE, 100), 100, 0),  # our own, of before a restart
        (Sighting(THEIRS, 100), 100, 10),
        (Sighting(THEIRS, 100), 109.5, 0.5),
        (Sighting(THEIRS, 100), 110, 0),  # not renewed for its duration
        (Sighting(replace(THEIRS, duration=30), 100), 110, 20),  # theirs counts, not ours
    ],
)
def test_when_it_may_be_taken(seen: Sighting | None, now: float, left: float) -> None:
    assert wait(seen, now, "me") == pytest.approx(left)


def test_a_lease_runs_out_on_our_clock_since_it_last_changed() -> None:
    first = sight(None, THEIRS, 100)
    assert sight(first, THEIRS, 105).since == 100
    # Somebody labels it: another version, and no renewal.
    assert sight(first, replace(THEIRS, version="78"), 105) == Sighting(
        replace(THEIRS, version="78"), 100
    )
    assert sight(first, replace(THEIRS, renewed="later"), 105).since == 105
    assert sight(first, replace(THEIRS, holder="third"), 105).since == 105


def test_a_standby_is_at_work_within_15_seconds_with_room_to_start() -> None:
    """Renewed up to an interval before the death, seen up to an interval after it."""
    assert INTERVAL + DURATION <= 12.5
    # A leader stops before anybody may take over, and has more than one try until then.
    assert DEADLINE + ATTEMPT < DURATION
    assert INTERVAL + ATTEMPT + INTERVAL / 4 < DEADLINE


@pytest.mark.parametrize(
    ("known", "acquired", "transitions", "version"),
    [
        (None, "2026-01-02T03:04:05.000678Z", 0, None),
        (THEIRS, "2026-01-02T03:04:05.000678Z", 4, "77"),
        (MINE, "acquired", 3, "77"),
    ],
    ids=["new", "taken over", "renewed"],
)
def test_what_is_written(
    known: Record | None, acquired: str, transitions: int, version: str | None
) -> None:
    body = held("ml", "kubeseg-operator", known, "me", NOW)
    assert body["spec"] == {
        "holderIdentity": "me",
        "leaseDurationSeconds": 10,
        "acquireTime": acquired,
        "renewTime": "2026-01-02T03:04:05.000678Z",
        "leaseTransitions": transitions,
    }
    assert body["metadata"].get("resourceVersion") == version
    assert read(body | {"metadata": {"resourceVersion": "1"}}).holder == "me"


def test_given_back_it_is_nobodys_and_free() -> None:
    body = released("ml", "kubeseg-operator", MINE, NOW)
    assert body["metadata"]["resourceVersion"] == "77"
    assert wait(Sighting(read(body), 100), 100, "other") == 0


@pytest.mark.parametrize("spec", [None, {}, {"holderIdentity": None}])
def test_a_lease_that_says_nothing_is_free(spec: Any) -> None:
    assert wait(Sighting(read({"spec": spec}), 5), 5, "me") == 0


@pytest.mark.parametrize(
    ("setting", "inside", "wanted"),
    [
        ("", "", None),
        ("", "ml", ("ml", "kubeseg-operator")),
        ("seg", "ml", ("ml", "seg")),
        ("ops/seg", "ml", ("ops", "seg")),
        ("ops/seg", "", ("ops", "seg")),
        ("none", "ml", None),
    ],
)
def test_which_lease(setting: str, inside: str, wanted: tuple[str, str] | None) -> None:
    assert place(setting, inside) == wanted


@pytest.mark.parametrize("setting", ["seg", "/seg", "ops/", "a/b/c"])
def test_a_lease_without_a_place_is_refused(setting: str) -> None:
    with pytest.raises(ValueError, match="namespace/name"):
        place(setting, "")
