"""The check before the first attempt: what is seen of it → what is done, where it stands."""

from __future__ import annotations

from typing import Any

import pytest

from kubeseg_operator.decide import Ask, CreateChild, Decision, DeleteChild, Observed
from kubeseg_operator.decide.ends import WAY_OUT
from kubeseg_operator.decide.preflight import MAX_INTERRUPTIONS
from kubeseg_operator.obstacle import Obstacle
from kubeseg_operator.story import happenings
from kubeseg_operator.views import Child, JobView, Pod, child_view, pod_view
from kubeseg_types.status import TrainingJobStatus
from tests.support.operator_decisions import NO_NODE, following, kinds, look, of, standing
from tests.support.operator_objects import (
    CHILD_UID,
    NOW,
    RUNNING,
    at,
    attempt,
    condition,
    ended_attempt,
    job,
    last_words,
    raw_child,
    raw_pod,
    terminated,
)

GPU = {"resources": {"gpus": 1}}
LABELS = {"kubeseg.dev/job": "job"}


def check(number: int = 1, **wanted: Any) -> Child:
    """The check's Job."""
    return child_view(raw_child(name=f"job-check{number}", labels=LABELS, **wanted))


def pod(*, gone: bool = False, **wanted: Any) -> Pod:
    """The check's pod."""
    return pod_view(raw_pod(name="job-check1-abcde", labels=LABELS, **wanted), gone=gone)


def record(number: int = 1, **fields: Any) -> dict[str, Any]:
    """The check in status, under way unless told otherwise."""
    return {"number": number, "jobName": f"job-check{number}", "reservedTime": at(-40)} | fields


def checking(spec: dict[str, Any] | None = None, **fields: Any) -> JobView:
    """A TrainingJob whose check is under way."""
    known = {"uid": CHILD_UID} | fields
    return job(spec=GPU | (spec or {}), status={"preflight": record(**known), "startTime": at(-40)})


def ended(code: int, message: str = "", **fields: Any) -> Observed:
    """The check has ended."""
    state = terminated(code, message=message, **fields)
    phase = "Failed" if code else "Succeeded"
    finished = "Failed" if code else "Complete"
    return Observed(children=(check(finished=finished),), pods=(pod(phase=phase, state=state),))


def preflight(decision: Decision) -> tuple[int, str | None, str | None, int, int]:
    """Number, outcome, reason, failures, interruptions."""
    found = decision.status.preflight
    assert found is not None
    outcome = str(found.outcome) if found.outcome else None
    return found.number, outcome, found.reason, found.failures, found.interruptions


# --- when there is one


@pytest.mark.parametrize(
    ("spec", "status", "expected"),
    [
        (GPU, {}, "Checking"),
        ({}, {}, "Starting"),  # without GPUs the trainer itself says it as fast
        (GPU | {"preflight": "Never"}, {}, "Starting"),
        (GPU | {"suspend": True}, {}, "Suspended"),
        (GPU | {"stop": True}, {}, "Failed"),
        (GPU, {"attempts": [ended_attempt()]}, "Starting"),
        (GPU, {"preflight": record(outcome="Passed")}, "Starting"),
        (GPU, {"preflight": record(outcome="Skipped")}, "Starting"),
        (GPU, {"preflight": record(outcome="Interrupted")}, "Checking"),
    ],
)
def test_only_before_the_first_attempt_of_a_job_with_gpus(
    spec: dict[str, Any], status: dict[str, Any], expected: str
) -> None:
    decision = look(job(spec=spec, status=status))
    assert str(decision.status.phase) == expected
    assert bool(decision.status.attempts) is (expected == "Starting")
    assert kinds(decision) == []


def test_more_epochs_of_a_finished_job_are_not_checked() -> None:
    status = {
        "attempts": [ended_attempt(outcome="Succeeded")],
        "conditions": [condition("Complete")],
        "finished": {"epochs": 12, "generation": 1},
    }
    decision = look(job(spec=GPU | {"training": {"epochs": 20}}, status=status))
    assert decision.status.preflight is None
    assert len(decision.status.attempts) == 2


def test_it_is_reserved_then_made_and_then_nothing_changes() -> None:
    first = job(spec=GPU)
    reserved = look(first)
    assert preflight(reserved) == (1, None, None, 0, 0)
    assert reserved.status.start_time == at(0)
    assert standing(reserved) == ("Checking", "Checking")
    known = following(reserved, first)
    made = look(known)
    (create,) = made.actions
    assert isinstance(create, CreateChild)
    assert create.manifest["metadata"]["name"] == "job-check1"
    assert made.status == reserved.status
    seen = Observed(children=(check(started=at(0)),), pods=(pod(node=None),))
    once = look(known, seen)
    twice = look(following(once, known), seen, after=1)
    assert (once.actions, twice.actions, twice.status) == ((), (), once.status)


def test_running_is_told_once() -> None:
    seen = Observed(children=(check(),), pods=(pod(phase="Running", state=RUNNING),))
    decision = look(checking(), seen)
    assert decision.status.preflight is not None
    assert decision.status.preflight.start_time == at(-20)
    assert standing(decision) == ("Checking", "Checking")
    assert decision.status.summary is not None
    assert decision.status.summary.why == (
        'data set "streets" and network are checked before a GPU is asked for'
    )


# --- how it ends

BAD = 'data set "streets": 3 of 367 images with masks can\'t be used: masks/a.png has label 12'


@pytest.mark.parametrize(
    ("seen", "before", "expected", "phase"),
    [
        (ended(0, last_words(0, message="good")), {}, (1, "Passed", "Passed", 0, 0), "Starting"),
        (ended(0), {}, (1, "Passed", "Passed", 0, 0), "Starting"),
        (ended(3, last_words(3, message=BAD)), {}, (1, "Failed", "InvalidDataset", 0, 0), "Failed"),
        (ended(2, last_words(2)), {}, (1, "Failed", "InvalidConfiguration", 0, 0), "Failed"),
        # An image that does not know the command.
        (ended(2), {}, (2, None, "InvalidConfiguration", 1, 0), "Checking"),
        (ended(2), {"failures": 1}, (1, "Skipped", "InvalidConfiguration", 2, 0), "Starting"),
        (ended(75), {}, (2, None, "Interrupted", 0, 1), "Checking"),
        (
            ended(75),
            {"interruptions": MAX_INTERRUPTIONS - 1},
            (1, "Skipped", "Interrupted", 0, MAX_INTERRUPTIONS),
            "Starting",
        ),
        (ended(1), {}, (2, None, "TrainerError", 1, 0), "Checking"),
        (ended(79), {"interruptions": 3}, (2, None, "StorageError", 1, 3), "Checking"),
        (ended(137, reason="OOMKilled"), {}, (2, None, "OutOfMemory", 1, 0), "Checking"),
        (ended(1), {"failures": 1}, (1, "Skipped", "TrainerError", 2, 0), "Starting"),
        (
            Observed(children=(check(finished="Failed"),), confirmed=frozenset({Ask.PODS})),
            {},
            (2, None, "PodDeleted", 0, 1),
            "Checking",
        ),
        (
            Observed(confirmed=frozenset({Ask.CHECK})),
            {},
            (2, None, "JobDeleted", 0, 1),
            "Checking",
        ),
        (  # its Job's time to live was over before anyone looked
            Observed(
                confirmed=frozenset({Ask.CHECK}),
                pods=(pod(gone=True, phase="Succeeded", state=terminated(0)),),
            ),
            {},
            (1, "Passed", "Passed", 0, 0),
            "Starting",
        ),
    ],
)
def test_what_its_end_means(
    seen: Observed, before: dict[str, Any], expected: tuple[Any, ...], phase: str
) -> None:
    decision = look(checking(**before), seen)
    assert preflight(decision) == expected
    assert str(decision.status.phase) == phase
    assert bool(decision.status.attempts) is (phase == "Starting")
    assert kinds(decision) == []


def test_a_bad_data_set_is_told_with_its_files() -> None:
    decision = look(checking(), ended(3, last_words(3, message=BAD)))
    assert of(decision, "Failed").message == f"{BAD}. {WAY_OUT}"
    assert decision.status.summary is not None
    assert decision.status.summary.why == f"{BAD}. {WAY_OUT}"
    assert decision.status.completion_time == at(0)


def test_a_check_that_was_given_up_says_so_and_is_no_failure_of_the_job() -> None:
    known = checking(failures=1)
    decision = look(known, ended(1, last_words(1, message="no luck")))
    before = TrainingJobStatus.model_validate(known.status)
    (told,) = happenings(before, decision.status, NOW)
    assert (told.kind, told.reason) == ("Warning", "CheckSkipped")
    assert told.message == (
        "the check before the first attempt failed 2 times, the last time (TrainerError): no luck. "
        "Going on without it"
    )
    assert decision.status.retry is None


# --- what is read live before a verdict


@pytest.mark.parametrize(
    ("seen", "question"),
    [
        (Observed(), Ask.CHECK),
        (Observed(confirmed=frozenset({Ask.CHECK}), pods=(pod(),)), Ask.PODS),
        (Observed(children=(check(finished="Failed"),)), Ask.PODS),
        (Observed(children=(check(),)), Ask.CHILD_EVENTS),
    ],
)
def test_absence_is_confirmed_first(seen: Observed, question: Ask) -> None:
    assert look(checking(), seen).ask is question


# --- what keeps it from running

BACK_OFF = {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}
NO_CLAIM = NO_NODE | {"message": 'persistentvolumeclaim "kubeseg-workspace" not found'}


@pytest.mark.parametrize(
    ("seen", "after", "expected"),
    [
        (
            Observed(
                children=(check(),),
                pods=(pod(state=BACK_OFF),),
                confirmed=frozenset({Ask.POD_EVENTS}),
            ),
            0,
            ("Blocked", "ImagePull"),
        ),
        (
            Observed(
                children=(check(),),
                pods=(pod(state=BACK_OFF),),
                confirmed=frozenset({Ask.POD_EVENTS}),
            ),
            9999,
            ("Blocked", "ImagePull"),
        ),
        (
            Observed(children=(check(),), pods=(pod(conditions=[NO_CLAIM], node=None),)),
            9999,
            ("Blocked", "WorkspaceMissing"),
        ),
        (
            Observed(children=(check(),), pods=(pod(conditions=[NO_NODE], node=None),)),
            200,
            ("Blocked", "Unschedulable"),
        ),
        (
            Observed(children=(check(),), pods=(pod(conditions=[NO_NODE], node=None),)),
            300,
            ("Starting", "Starting"),
        ),
        (
            Observed(
                children=(check(),),
                confirmed=frozenset({Ask.CHILD_EVENTS}),
                events=({"reason": "FailedCreate", "message": "exceeded quota: cpu"},),
            ),
            0,
            ("Blocked", "Quota"),
        ),
    ],
)
def test_why_it_does_not_run(seen: Observed, after: float, expected: tuple[str, str]) -> None:
    decision = look(checking(), seen, after=after)
    assert standing(decision) == expected
    if expected[0] == "Blocked":
        words = of(decision, "Blocked").message
        assert words.startswith("the check before the first attempt can't start: ")
    else:
        assert (preflight(decision)[1:3], decision.actions) == (("Skipped", "Unschedulable"), ())
        # Given up for want of room: it must not come later, beside the attempt.
        later = look(following(decision, checking()), seen)
        assert later.actions[0] == DeleteChild("job-check1", CHILD_UID)


def test_what_helps_a_check_without_room_is_not_what_helps_an_attempt() -> None:
    """What it asks for is fixed."""
    no_room = NO_NODE | {"message": "0/1 nodes are available: 1 Insufficient cpu."}
    seen = Observed(children=(check(),), pods=(pod(conditions=[no_room], node=None),))
    assert of(look(checking(), seen, after=1), "Blocked").message == (
        "the check before the first attempt can't start: needs 500m CPU, 1Gi memory on one node; "
        "0/1 nodes are available: 1 Insufficient cpu. To do: free so much on a node, or wait. "
        "After 300 s the job goes on without it. A new TrainingJob with preflight: Never has no "
        "check."
    )


def test_a_check_heeds_little_of_what_chooses_nodes() -> None:
    no_match = NO_NODE | {"message": "1 node(s) didn't match Pod's node affinity/selector."}
    seen = Observed(children=(check(),), pods=(pod(conditions=[no_match], node=None),))
    words = of(look(checking(), seen, after=1), "Blocked").message
    assert "look at kubernetes.io/os and kubernetes.io/arch in spec.nodeSelector." in words
    assert "spec.affinity" not in words


def test_a_job_that_cannot_be_made_is_said() -> None:
    known = job(spec=GPU, status={"preflight": record()})
    decision = look(known, Observed(refusal=Obstacle("NameTaken", "…")))
    assert standing(decision) == ("Blocked", "NameTaken")
    assert decision.requeue_after is not None


# --- what users do meanwhile


def test_suspend_ends_it_and_resuming_makes_it_again() -> None:
    known = checking({"suspend": True})
    seen = Observed(children=(check(),), pods=(pod(phase="Running", state=RUNNING),))
    leaving = look(known, seen)
    assert leaving.actions == (DeleteChild("job-check1", CHILD_UID),)
    assert of(leaving, "Suspended").reason == "Suspending"
    going = Observed(children=(check(deletionTimestamp=at(0)),), pods=seen.pods)
    assert look(known, going).actions == ()
    gone = look(known, Observed(confirmed=frozenset({Ask.CHECK})))
    assert standing(gone) == ("Suspended", "Suspended")
    assert preflight(gone) == (1, "Interrupted", "Suspended", 0, 0)
    assert gone.status.start_time is None
    resumed = look(job(spec=GPU, status=gone.status.to_dict()))
    assert preflight(resumed)[:2] == (2, None)
    assert standing(resumed) == ("Checking", "Checking")


def test_suspended_before_it_was_made_nothing_is_made() -> None:
    known = job(spec=GPU | {"suspend": True}, status={"preflight": record()})
    assert look(known).ask is Ask.CHECK
    decision = look(known, Observed(confirmed=frozenset({Ask.CHECK})))
    assert standing(decision) == ("Suspended", "Suspended")


def test_a_check_that_ends_well_while_it_is_suspended_counts() -> None:
    decision = look(checking({"suspend": True}), ended(0))
    assert standing(decision) == ("Suspended", "Suspended")
    assert preflight(decision)[1] == "Passed"


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"stop": True}, "StoppedBeforeFirstEpoch"),
        ({"activeDeadlineSeconds": 40}, "DeadlineExceeded"),
    ],
)
def test_what_ends_the_job_ends_the_check(spec: dict[str, Any], reason: str) -> None:
    known = checking(spec)
    seen = Observed(children=(check(),), pods=(pod(phase="Running", state=RUNNING),))
    decision = look(known, seen)
    assert standing(decision) == ("Failed", reason)
    assert preflight(decision)[1] == "Interrupted"
    after = look(following(decision, known), seen)
    assert (decision.actions, after.actions) == ((), (DeleteChild("job-check1", CHILD_UID),))


def test_a_late_check_beside_an_attempt_is_deleted() -> None:
    known = job(spec=GPU, status={"attempts": [attempt()], "preflight": record(outcome="Passed")})
    decision = look(known, Observed(children=(check(),)))
    assert DeleteChild("job-check1", CHILD_UID) in decision.actions


def test_a_check_that_an_old_status_does_not_know_is_left_alone() -> None:
    seen = Observed(children=(check(),))
    assert look(job(spec=GPU), seen).actions == ()
    assert look(checking(number=2, jobName="job-check2", uid=None), seen).actions[0] == (
        DeleteChild("job-check1", CHILD_UID)
    )


def test_no_gpus_any_more_lets_the_check_end() -> None:
    known = checking({"resources": {"gpus": 0}})
    seen = Observed(children=(check(),), pods=(pod(phase="Running", state=RUNNING),))
    assert standing(look(known, seen)) == ("Checking", "Checking")
