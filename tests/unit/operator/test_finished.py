"""Terminal means terminal: what a finished job does, and what alone makes it go on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kubeseg_operator.decide import (
    DeleteChild,
    DeleteJob,
    Observed,
)
from tests.support.operator_decisions import (
    NOTHING,
    ended,
    following,
    kinds,
    look,
    of,
)
from tests.support.operator_objects import (
    UID,
    at,
    child,
    condition,
    ended_attempt,
    job,
    last_words,
    progress,
    running_attempt,
)

DONE: dict[str, Any] = {
    "attempts": [ended_attempt(1, "Succeeded")],
    "conditions": [condition("Complete")],
    "phase": "Succeeded",
    "observedGeneration": 1,
    "completionTime": at(-100),
    "finished": {"epochs": 12, "generation": 1},
    "progress": progress(12),
}
GAVE_UP = DONE | {"conditions": [condition("Failed")], "phase": "Failed", "finished": None}


@pytest.mark.parametrize(
    ("spec", "status", "goes_on"),
    [
        ({}, DONE, False),
        ({"training": {"epochs": 20}}, DONE, True),
        ({"training": {"epochs": 12}}, DONE, False),
        ({"training": {"epochs": 5}}, DONE, False),
        ({"training": {"epochs": 20}, "stop": True}, DONE, False),
        ({"training": {"epochs": 20}, "suspend": True}, DONE, False),
        ({"training": {"epochs": 20}}, GAVE_UP, False),
        ({"suspend": True}, DONE, False),
        ({"stop": True}, DONE, False),
        ({"maxRetries": 9}, GAVE_UP, False),
        # Stopped early at epoch 4 of 12, stop taken back: only more than 12 goes on.
        ({}, DONE | {"progress": progress(4)}, False),
    ],
)
def test_what_reopens_a_finished_job(
    spec: dict[str, Any], status: dict[str, Any], goes_on: bool
) -> None:
    known = job(spec=spec, status=status, generation=2)
    for seen in (NOTHING, Observed(children=(child(finished="Failed"),))):
        decision = look(known, seen)
        assert kinds(decision) == []
        assert len(decision.status.attempts) == (2 if goes_on else 1)
        assert str(decision.status.phase) == ("Starting" if goes_on else status["phase"])
        assert decision.status.observed_generation == 2


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"training": {"epochs": 20}, "stop": True}, "spec.stop is true: set it to false"),
        ({"training": {"epochs": 20}, "suspend": True}, "spec.suspend is true: set it to false"),
        (
            {"training": {"epochs": 20}, "stop": True, "suspend": True},
            "spec.stop and spec.suspend are true: set them to false",
        ),
        ({"training": {"epochs": 12}, "stop": True}, ""),
        ({"stop": True}, ""),
    ],
)
def test_a_finished_job_says_what_holds_more_epochs_back(spec: dict[str, Any], words: str) -> None:
    known = job(spec=spec, status=DONE, generation=2)
    decision = look(known)
    was = DONE["conditions"][0]["message"]
    said = f"{was}; 20 epochs are wanted now, but {words}" if words else was
    assert of(decision, "Complete").message == said
    assert str(decision.status.phase) == "Succeeded"
    # Said once, and no more once the epochs are taken back.
    again = replace(following(decision, known), generation=3)
    assert of(look(again), "Complete").message == said
    back = job(spec={"stop": True}, status=decision.status.to_dict(), generation=3)
    assert of(look(back), "Complete").message == was


def test_a_reopened_job_forgets_its_finish() -> None:
    decision = look(job(spec={"training": {"epochs": 20}}, status=DONE, generation=2))
    status = decision.status
    assert (status.completion_time, status.finished) == (None, None)
    assert of(decision, "Complete").status == "False"


def test_epochs_raised_as_the_trainer_finished_are_trained() -> None:
    """The trainer ended by generation 1 with 12 epochs; generation 2 wants 20."""
    known = job(
        spec={"training": {"epochs": 20}}, status={"attempts": [running_attempt()]}, generation=2
    )
    decision = look(known, ended(0, last_words(0, epoch=12, epochs=12, generation=1)))
    assert str(decision.status.phase) == "Succeeded"
    assert str(look(following(decision, known)).status.phase) == "Starting"


def test_a_finished_job_ends_what_a_late_write_has_made() -> None:
    decision = look(job(status=DONE), Observed(children=(child(attempt=1, uid="late"),)))
    assert decision.actions == (DeleteChild("job-1", "late"),)


@pytest.mark.parametrize(
    ("ttl", "expected", "again"), [(None, [], None), (101, [], 1.0), (100, ["DeleteJob"], 15.0)]
)
def test_ttl_deletes_the_trainingjob(
    ttl: int | None, expected: list[str], again: float | None
) -> None:
    decision = look(job(spec={"ttlSecondsAfterFinished": ttl}, status=DONE))
    assert kinds(decision) == expected
    assert decision.requeue_after == again
    if expected:
        assert decision.actions == (DeleteJob(UID, "100"),)


def test_epochs_lowered_below_what_is_done_are_told_as_such() -> None:
    known = job(
        spec={"training": {"epochs": 1}}, status={"attempts": [running_attempt()]}, generation=2
    )
    decision = look(known, ended(0, last_words(0, epoch=3, epochs=1, generation=2)))
    assert of(decision, "Complete").message == "trained 3 epochs (epochs was lowered to 1)"
