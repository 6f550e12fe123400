"""Edits of what pods are made of, on a real cluster; the trainer is a script."""

from __future__ import annotations

import pytest

from tests.support.operator_process import Place

pytestmark = pytest.mark.cluster


def test_following_the_remedy_of_blocked_is_enough(place: Place) -> None:
    """The pod that waits can't be changed: another attempt is made of the changed spec."""
    place.job("greedy", {"epochs": 1}, nodeSelector={"disk": "fast"})
    status = place.phase("greedy", "Blocked")
    assert "spec.nodeSelector" in status["summary"]["why"]
    place.kubectl(
        "patch", "tj", "greedy", "--type", "json",
        "-p", '[{"op": "remove", "path": "/spec/nodeSelector"}]',
    )  # fmt: skip
    status = place.phase("greedy", "Succeeded")
    first, second = status["attempts"]
    assert (first["outcome"], first["reason"]) == ("Interrupted", "SpecChanged")
    assert second["outcome"] == "Succeeded"
    assert status.get("retry", {}).get("failures", 0) == 0


def test_a_running_one_goes_on_and_says_when_it_counts(place: Place) -> None:
    place.job("steady", {"epochs": 300, "seconds": 1})
    place.phase("steady", "Running")
    place.edit("steady", nodeSelector={"kubernetes.io/os": "linux"})

    def told(status: dict[str, object]) -> bool:
        conditions = status["conditions"]
        assert isinstance(conditions, list)
        return any("counts from the next attempt" in c["message"] for c in conditions)

    status = place.until("steady", told)
    assert len(status["attempts"]) == 1
    place.kubectl("delete", "tj", "steady")
