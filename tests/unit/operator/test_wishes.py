"""What users wish: suspend, stop, live edits, deadlines; and what trainers report."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kubeseg_operator.decide import (
    Ask,
    Decision,
    DeleteChild,
    Observed,
    PatchConfig,
)
from tests.support.operator_decisions import (
    NO_NODE,
    WORDS,
    ended,
    following,
    kinds,
    look,
    of,
    pending,
    standing,
)
from tests.support.operator_objects import (
    CHILD_UID,
    POD_UID,
    at,
    attempt,
    child,
    condition,
    ended_attempt,
    ended_pod,
    job,
    last_words,
    progress,
    record,
    report,
    running_attempt,
    running_pod,
    strange_job,
)

# --- suspend, resume, stop


def test_suspend_deletes_the_job_and_waits() -> None:
    known = job(spec={"suspend": True}, status={"attempts": [running_attempt()]})
    decision = look(known, Observed(children=(child(),), pods=(running_pod(known),)))
    assert decision.actions == (DeleteChild("job-1", CHILD_UID),)
    assert of(decision, "Suspended").reason == "Suspending"
    leaving = Observed(
        children=(child(deletionTimestamp=at(0)),),
        pods=(running_pod(known, deletionTimestamp="x"),),
    )
    assert look(known, leaving).actions == ()


def test_suspended_once_job_and_pods_are_gone() -> None:
    known = job(spec={"suspend": True}, status={"attempts": [running_attempt()]})
    last = ended_pod(75, message=last_words(75, epoch=7, checkpoint={"epoch": 7}), gone=True)
    seen = Observed(pods=(last,), confirmed=frozenset({Ask.CHILD, Ask.PODS}))
    decision = look(known, seen)
    assert standing(decision) == ("Suspended", "Suspended")
    assert decision.status.attempts[0].reason == "Suspended"
    assert decision.status.progress is not None
    assert decision.status.progress.epoch == 7
    assert "goes on from epoch 7" in of(decision, "Suspended").message
    assert decision.status.start_time is None


def test_suspended_from_the_first_visit_makes_nothing() -> None:
    decision = look(job(spec={"suspend": True}))
    assert standing(decision) == ("Suspended", "Suspended")
    assert (decision.status.attempts, decision.actions) == ([], ())


def test_suspend_drops_a_reservation_only_when_its_job_is_surely_absent() -> None:
    known = job(spec={"suspend": True}, status={"attempts": [attempt()]})
    assert look(known).ask is Ask.CHILD
    decision = look(known, Observed(confirmed=frozenset({Ask.CHILD, Ask.PODS})))
    assert standing(decision) == ("Suspended", "Suspended")


def test_resume_starts_the_next_attempt() -> None:
    status = {
        "attempts": [ended_attempt(1, reason="Suspended")],
        "conditions": [condition("Suspended")],
    }
    decision = look(job(status=status, generation=2))
    assert [a.number for a in decision.status.attempts] == [1, 2]
    assert of(decision, "Suspended").status == "False"
    assert decision.status.start_time == at(0)


def test_success_while_suspending_is_success() -> None:
    known = job(spec={"suspend": True}, status={"attempts": [running_attempt()]})
    decision = look(known, ended(0, WORDS))
    assert str(decision.status.phase) == "Succeeded"


@pytest.mark.parametrize(
    ("spec", "status", "expected"),
    [
        ({"stop": True}, {}, ("Failed", "StoppedBeforeFirstEpoch")),
        ({"stop": True, "suspend": True}, {}, ("Failed", "StoppedBeforeFirstEpoch")),
        (
            {"stop": True, "suspend": True},
            {"attempts": [ended_attempt(1)], "progress": progress(4)},
            ("Succeeded", "Stopped"),
        ),
        # An attempt is made that exports the best model and ends.
        (
            {"stop": True},
            {"attempts": [ended_attempt(1)], "progress": progress(4)},
            ("Starting", "Starting"),
        ),
    ],
)
def test_stop_without_a_running_trainer(
    spec: dict[str, Any], status: dict[str, Any], expected: tuple[str, str]
) -> None:
    assert standing(look(job(spec=spec, status=status))) == expected


def test_stop_before_the_trainer_began_ends_the_attempt_and_then_its_job() -> None:
    known = job(spec={"stop": True}, status={"attempts": [attempt()]})
    seen = Observed(children=(child(),), pods=(pending(conditions=[NO_NODE]),))
    # A watch may be behind, and a failure is for ever: the trainer may have begun meanwhile.
    assert look(known, seen).ask is Ask.PODS
    seen = replace(seen, confirmed=frozenset({Ask.PODS}))
    decision = look(known, seen)
    assert standing(decision) == ("Failed", "StoppedBeforeFirstEpoch")
    after = look(following(decision, known), seen)
    assert after.actions == (DeleteChild("job-1", CHILD_UID),)


def test_stop_of_a_running_trainer_reaches_it_and_deletes_nothing() -> None:
    before = job(status={"attempts": [running_attempt()]})
    known = job(spec={"stop": True}, status={"attempts": [running_attempt()]}, generation=2)
    decision = look(known, Observed(children=(child(),), pods=(running_pod(before),)))
    (patch,) = decision.actions
    assert isinstance(patch, PatchConfig)
    assert '"stop":true' in patch.text


def test_a_uid_is_in_status_before_its_job_is_deleted() -> None:
    """Killed in between, the Job would look like one that was never made, and be made again."""
    known = job(spec={"suspend": True}, status={"attempts": [attempt()]})
    seen = Observed(children=(child(),))
    first = look(known, seen)
    assert (kinds(first), first.status.attempts[0].uid) == ([], CHILD_UID)
    assert look(following(first, known), seen).actions == (DeleteChild("job-1", CHILD_UID),)


# --- live edits


def test_a_changed_generation_reaches_the_live_pod_once() -> None:
    before = job(status={"attempts": [running_attempt()]})
    known = job(
        spec={"training": {"epochs": 20}}, status={"attempts": [running_attempt()]}, generation=2
    )
    decision = look(known, Observed(children=(child(),), pods=(running_pod(before),)))
    (patch,) = decision.actions
    assert isinstance(patch, PatchConfig)
    assert (patch.uid, '"epochs":20' in patch.text) == (POD_UID, True)
    assert look(known, Observed(children=(child(),), pods=(running_pod(known),))).actions == ()


@pytest.mark.parametrize("fields", [{"deletionTimestamp": at(0)}, {"phase": "Failed"}])
def test_a_pod_that_ends_gets_no_configuration(fields: dict[str, Any]) -> None:
    before = job()
    known = job(status={"attempts": [running_attempt()]}, generation=2)
    seen = Observed(children=(child(),), pods=(running_pod(before, **fields),))
    assert look(known, seen).actions == ()


def test_an_acknowledged_generation_reaches_status() -> None:
    known = job(status={"attempts": [running_attempt()]}, generation=2)
    seen = Observed(
        children=(child(),), pods=(running_pod(known),), progress=report(generation=2, epochs=20)
    )
    decision = look(known, seen)
    assert decision.status.progress is not None
    assert decision.status.progress.trainer_generation == 2
    assert decision.status.summary is not None
    assert decision.status.summary.epoch == "0/20"


@pytest.mark.parametrize(
    ("generation", "told", "words"),
    [
        (2, {"generation": 2}, "from scratch"),
        (
            3,
            {"generation": 2},
            (
                "from scratch; it has been sent generation 3 of the spec, and takes it up at the "
                "end of this epoch"
            ),
        ),
        # It has reported nothing yet: what is known is of the attempt before.
        (3, {"generation": 2, "state": "Starting"}, "from scratch"),
    ],
)
def test_an_edit_is_on_its_way_until_the_trainer_follows_it(
    generation: int, told: dict[str, Any], words: str
) -> None:
    known = job(status={"attempts": [running_attempt()]}, generation=generation)
    seen = Observed(children=(child(),), pods=(running_pod(known),), progress=report(**told))
    message = of(look(known, seen), "Running").message
    assert message == f"attempt 1 runs on node node-a, {words}"


# --- deadline, deletion, refusals


def test_the_deadline_fails_the_job_and_then_ends_its_job() -> None:
    status = {"attempts": [running_attempt()], "startTime": at(-100)}
    known = job(spec={"activeDeadlineSeconds": 100}, status=status)
    seen = Observed(children=(child(),), pods=(running_pod(known),))
    assert look(known, seen).ask is Ask.CHILD
    seen = replace(seen, confirmed=frozenset({Ask.CHILD, Ask.PODS}))
    decision = look(known, seen)
    assert standing(decision) == ("Failed", "DeadlineExceeded")
    assert decision.status.attempts[0].reason == "DeadlineExceeded"
    assert look(following(decision, known), seen).actions == (DeleteChild("job-1", CHILD_UID),)


def test_a_training_that_ended_is_no_failure_because_the_operator_looks_late() -> None:
    status = {"attempts": [running_attempt()], "startTime": at(-100)}
    known = job(spec={"activeDeadlineSeconds": 50}, status=status)
    seen = replace(ended(0, WORDS), confirmed=frozenset({Ask.CHILD, Ask.PODS}))
    assert standing(look(known, seen)) == ("Succeeded", "Trained")


def test_before_the_deadline_the_job_is_visited_in_time() -> None:
    status = {"attempts": [running_attempt()], "startTime": at(-100)}
    known = job(spec={"activeDeadlineSeconds": 130}, status=status)
    decision = look(known, Observed(children=(child(),), pods=(running_pod(known),)))
    assert (str(decision.status.phase), decision.requeue_after) == ("Running", 30)


def test_a_suspended_job_has_no_deadline() -> None:
    status = {"attempts": [ended_attempt(1)], "startTime": at(-100)}
    known = job(spec={"activeDeadlineSeconds": 10, "suspend": True}, status=status)
    assert standing(look(known)) == ("Suspended", "Suspended")


def test_a_job_being_deleted_is_left_alone() -> None:
    known = job(status={"attempts": [attempt()]}, deletionTimestamp=at(0))
    decision = look(known)
    assert (decision.actions, decision.requeue_after) == ((), None)


@pytest.mark.parametrize(
    ("field", "value", "word"),
    [
        ("workers", 257, "spec.workers"),
        ("surprise", 1, "spec.surprise"),
        ("training", {"epochs": 0}, "spec.training.epochs"),
    ],
)
def test_a_spec_that_this_version_cant_follow_waits_with_a_sentence(
    field: str, value: Any, word: str
) -> None:
    decision = look(strange_job(**{field: value}))
    assert standing(decision) == ("Blocked", "InvalidSpec")
    assert word in of(decision, "Blocked").message
    assert (decision.actions, decision.requeue_after) == ((), None)


def test_a_trainer_goes_on_where_the_spec_cant_be_followed_any_more() -> None:
    """As during an upgrade, when the schema is newer than the operator."""
    status = {"attempts": [running_attempt()], "startTime": at(-100)}
    known = strange_job(status, surprise=1, activeDeadlineSeconds=10)
    seen = Observed(children=(child(),), pods=(running_pod(job()),))
    decision = look(known, seen)
    assert standing(decision) == ("Blocked", "InvalidSpec")
    assert "Its trainer goes on undisturbed; " in of(decision, "Blocked").message
    assert decision.actions == ()
    assert decision.status.attempts[0].outcome is None
    told = replace(seen, progress=report(epoch=7))
    progress = look(known, told).status.progress
    assert progress is not None
    assert progress.epoch == 7, "what it tells is taken in"
    ended = Observed(children=(child(finished="Failed"),), pods=(ended_pod(1),))
    assert "trainer" not in of(look(known, ended), "Blocked").message


def test_once_the_spec_can_be_followed_the_job_goes_on_where_it_was() -> None:
    status = {"attempts": [running_attempt()], "startTime": at(-100)}
    held = look(strange_job(status, surprise=1), Observed(children=(child(),)))
    again = job(status=held.status.to_dict())
    ends = Observed(children=(child(),), pods=(ended_pod(0),))
    assert standing(look(again, ends)) == ("Starting", "Starting")


def test_a_paused_job_whose_spec_cant_be_followed_stays_paused() -> None:
    paused = look(job(spec={"suspend": True}))
    status = paused.status.to_dict()
    decision = look(strange_job(status, surprise=1, suspend=True))
    assert standing(decision) == ("Suspended", "Suspended")
    assert standing(look(strange_job(status, surprise=1)))[0] == "Blocked"
    assert look(strange_job(status, surprise=1)).status.start_time is None


# --- progress


def folded(status: dict[str, Any], after: float = 0, **fields: Any) -> Decision:
    known = job(status={"attempts": [running_attempt(startEpoch=0)]} | status)
    seen = Observed(children=(child(),), pods=(running_pod(known),), progress=report(**fields))
    return look(known, seen, after=after)


def test_an_epochs_end_is_written_with_metrics_and_pointers() -> None:
    status = folded(
        {},
        epoch=3,
        last=record(3, 0.684),
        best=record(2, 0.691, weights="runs/x.safetensors"),
        checkpoint={"epoch": 3, "step": 30, "time": at(-1)},
        eta_seconds=720,
    ).status
    assert status.summary is not None
    assert status.summary.to_dict() == {
        "epoch": "3/12",
        "valIou": "0.684",
        "best": "0.691 (2)",
        "eta": "12m",
    }
    assert status.run is not None
    assert status.run.best_weights == "runs/x.safetensors"
    assert status.progress is not None
    assert status.progress.checkpoint is not None


WRITTEN = progress(
    3, step=2, stepsPerEpoch=10, batchSize=8, accumulate=1, trainerGeneration=1, updated=at(0)
)


@pytest.mark.parametrize(
    ("after", "fields", "written"),
    [
        (5, {"epoch": 3, "step": 7}, False),
        (16, {"epoch": 3, "step": 7}, True),
        (100, {"epoch": 3, "step": 2}, False),
        (1, {"epoch": 4, "step": 7}, True),
        (1, {"epoch": 3, "step": 7, "checkpoint": {"epoch": 3}}, False),
        (3, {"epoch": 3, "step": 7, "checkpoint": {"epoch": 3}}, True),
        # A trainer that has yet to load its checkpoint knows of no epoch.
        (100, {"epoch": 0, "step": 0, "state": "Starting"}, False),
        # Nor does one that was ended before it had.
        (100, {"epoch": 0, "step": 0, "state": "Finished"}, False),
        (100, {"epoch": 4, "step": 0, "state": "Finished"}, True),
        (1, {"epoch": 3, "step": 7, "generation": 2}, True),
        (1, {"epoch": 3, "step": 37}, False),
    ],
)
def test_steps_between_epochs_are_written_rarely(
    after: float, fields: dict[str, Any], written: bool
) -> None:
    before = folded({"progress": WRITTEN}, after=0, epoch=3, step=2).status.progress
    now = folded({"progress": WRITTEN}, after=after, **fields).status.progress
    assert (now != before) is written


@pytest.mark.parametrize(
    ("time", "kept"),
    [("2026-01-02", "2026-01-02T00:00:00Z"), (at(-1), at(-1)), ("yesterday", None)],
)
def test_a_checkpoints_time_is_one_that_the_api_server_takes(time: str, kept: str | None) -> None:
    written = folded({}, epoch=3, checkpoint={"epoch": 3, "time": time}).status.progress
    assert written is not None
    assert written.checkpoint is not None
    assert written.checkpoint.time == kept


def test_a_number_beyond_all_measure_fits_its_column() -> None:
    summary = folded({}, epoch=3, last=record(3, 1e300), best=record(3, 1e300)).status.summary
    assert summary is not None
    assert len(summary.val_iou or "") <= 32
    assert len(summary.best or "") <= 32


@pytest.mark.parametrize("fields", [{"attempt": 2}, {"uid": "another"}])
def test_reports_of_others_are_not_believed(fields: dict[str, Any]) -> None:
    assert folded({}, epoch=9, **fields).status.progress is None
