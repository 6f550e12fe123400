"""Each row: what was in force as memory ran out → what the next attempt does, or why none comes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kubeseg_operator.builders import child_job
from kubeseg_operator.decide import Decision, Observed
from kubeseg_operator.decide.ends import WAY_OUT
from kubeseg_operator.story import happenings
from kubeseg_types.spec import TrainingJobSpec
from kubeseg_types.status import TrainingJobStatus
from tests.support.operator_decisions import ended, following, look, of, standing
from tests.support.operator_objects import (
    NOW,
    child,
    job,
    last_words,
    progress,
    running_attempt,
    running_pod,
)


def killed(
    training: dict[str, Any] | None = None,
    status: dict[str, Any] | None = None,
    spec: dict[str, Any] | None = None,
    code: int = 137,
) -> Decision:
    known = job(
        spec={"training": training or {}, **(spec or {})},
        status={"attempts": [running_attempt(startEpoch=0)]} | (status or {}),
    )
    return look(known, ended(code, reason="OOMKilled" if code == 137 else "Error"))


@pytest.mark.parametrize(
    ("training", "status", "expected"),
    [
        ({}, {}, (2, 4)),
        ({"batchSize": 9}, {}, (2, 5)),
        ({"accumulate": 2}, {}, (4, 2)),
        # The trainer had already halved by itself.
        ({}, {"progress": progress(0, batchSize=8, accumulate=4)}, (8, 1)),
        # An earlier kill, and a trainer that never came to report.
        ({}, {"batch": {"accumulate": 2, "imagesAtOnce": 4, "afterAttempt": 1}}, (4, 2)),
        ({"batchSize": 3, "accumulate": 2}, {}, (3, 1)),
        ({"batchSize": 4096, "accumulate": 1000}, {}, (1024, 4)),
        # A pod may claim anything: this is the floor.
        ({}, {"progress": progress(0, accumulate=2**53)}, None),
        ({"batchSize": 1}, {}, None),
        ({"batchSize": 8, "accumulate": 8}, {}, None),
    ],
)
def test_parts_of_a_batch_after_a_kill(
    training: dict[str, Any], status: dict[str, Any], expected: tuple[int, int] | None
) -> None:
    decision = killed(training, status)
    batch = decision.status.batch
    if expected is None:
        assert standing(decision) == ("Failed", "OutOfMemory")
        return
    assert batch is not None
    assert (batch.accumulate, batch.images_at_once, batch.after_attempt) == (*expected, 1)
    assert standing(decision) == ("Retrying", "OutOfMemory")
    assert decision.requeue_after == 10


def test_the_condition_says_what_changes_and_what_does_not() -> None:
    assert of(killed(), "Running").message == (
        "attempt 1 failed (OutOfMemory): its memory limit was exceeded. From now on at most 4 "
        "images at once: each batch of 8 is computed in 2 parts, with the same result; the next "
        "attempt starts at 2026-01-02T03:04:15Z"
    )


def test_the_next_attempt_is_made_with_more_parts_and_the_same_batch() -> None:
    first = job(status={"attempts": [running_attempt()]})
    known = following(look(first, ended(137, reason="OOMKilled")), first)
    known = following(look(known, after=11), known)
    (create,) = look(known, after=11).actions
    config = json.loads(
        create.manifest["spec"]["template"]["metadata"]["annotations"]["kubeseg.dev/config"]  # type: ignore[union-attr]
    )
    assert config["attempt"] == 2
    assert (config["training"]["batchSize"], config["training"]["accumulate"]) == (8, 2)


def test_event_and_running_condition_say_it_too() -> None:
    known = job(status={"attempts": [running_attempt()]})
    decision = look(known, ended(137, reason="OOMKilled"))
    before = TrainingJobStatus.model_validate(known.status)
    (told,) = happenings(before, decision.status, NOW)
    assert told.message.endswith("; going on in 10s with at most 4 images at once")
    batch = decision.status.batch
    assert batch is not None
    status = {"attempts": [running_attempt(2)], "batch": batch.to_dict()}
    known = job(status=status)
    seen = Observed(children=(child(attempt=2),), pods=(running_pod(known, attempt=2),))
    assert of(look(known, seen), "Running").message == (
        "attempt 2 runs on node node-a, from scratch, with at most 4 images at once since "
        "attempt 1 ran out of memory"
    )


def test_it_is_no_failure_as_long_as_something_can_be_changed() -> None:
    retry = {"failures": 3, "progressEpoch": 0}
    decision = killed(status={"retry": retry}, spec={"maxRetries": 0})
    assert str(decision.status.phase) == "Retrying"
    assert decision.status.retry is not None
    assert decision.status.retry.failures == 3


def test_at_the_floor_a_sentence_tells_what_is_left_to_do() -> None:
    decision = killed({"batchSize": 2, "accumulate": 2}, spec={"resources": {"memory": "6Gi"}})
    assert of(decision, "Failed").message == (
        "attempt 1 failed (OutOfMemory): its memory limit was exceeded. Memory ran out with 1 "
        "image at once, and a batch can't be computed in smaller parts. Raise "
        "spec.resources.memory (6Gi) and make a new TrainingJob with it, or one with a smaller "
        "training.imageSize (512) or a smaller network."
    )


def test_a_kill_before_any_step_was_reported_names_the_memory_each_time() -> None:
    """Smaller parts may be in vain: the start alone may not fit."""
    resources = {"resources": {"memory": "1200Mi"}}
    silent = {"attempts": [running_attempt()]}
    decision = killed({"batchSize": 2}, silent, resources)
    assert standing(decision) == ("Retrying", "OutOfMemory")
    assert (
        "It had not reported a step: should the next attempt end like this, raise "
        "spec.resources.memory (1200Mi), which may be done at once; the next attempt starts"
    ) in of(decision, "Running").message
    decision = killed({"batchSize": 1}, silent, resources)
    assert of(decision, "Failed").message == (
        "attempt 1 failed (OutOfMemory): its memory limit was exceeded. Memory ran out with 1 "
        "image at once, and a batch can't be computed in smaller parts; no step was reported, so "
        "the start alone may not fit. Raise spec.resources.memory (1200Mi) and make a new "
        "TrainingJob with it."
    )


def test_at_the_floor_the_trainers_own_words_come_first() -> None:
    known = job(spec={"training": {"batchSize": 1}}, status={"attempts": [running_attempt()]})
    words = last_words(78, message="CUDA out of memory: lower spec.training.imageSize.")
    assert of(look(known, ended(78, words)), "Failed").message == (
        "attempt 1 failed (OutOfMemory): CUDA out of memory: lower spec.training.imageSize. A "
        f"batch can't be computed in smaller parts. {WAY_OUT}"
    )


def test_at_the_floor_an_attempt_that_finished_epochs_is_retried_like_any_failure() -> None:
    decision = killed({"batchSize": 1}, {"progress": progress(5)})
    assert standing(decision) == ("Retrying", "OutOfMemory")
    assert decision.status.retry is not None
    assert decision.status.retry.failures == 1


def test_a_trainer_that_reports_out_of_memory_is_taken_at_its_word() -> None:
    """With several processes in a pod one is killed, and the launcher tells by its exit code."""
    decision = killed(code=78)
    assert decision.status.batch is not None
    assert decision.status.batch.accumulate == 2


@pytest.mark.parametrize(("accumulate", "expected"), [(10**9, 8), (0, 1), (-5, 1)])
def test_a_status_written_by_somebody_else_makes_no_configuration_that_is_refused(
    accumulate: int, expected: int
) -> None:
    batch = {"accumulate": accumulate, "imagesAtOnce": 1, "afterAttempt": 1}
    known = job(status={"batch": batch})
    manifest = child_job(
        known, TrainingJobSpec.model_validate(known.spec), attempt=2, image="trainer:1"
    )
    config = json.loads(
        manifest["spec"]["template"]["metadata"]["annotations"]["kubeseg.dev/config"]
    )
    assert config["training"]["accumulate"] == expected
