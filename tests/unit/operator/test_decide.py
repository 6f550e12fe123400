"""Each row: a TrainingJob and what is seen of it → what is done, and where it then stands."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kubeseg_operator.decide import (
    Ask,
    CreateChild,
    DeleteChild,
    Observed,
)
from kubeseg_operator.obstacle import Obstacle
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
    UID,
    at,
    attempt,
    child,
    condition,
    ended_attempt,
    ended_pod,
    job,
    last_words,
    progress,
    running_attempt,
    running_pod,
)

# --- the first visit


def test_first_visit_reserves_the_attempt_and_makes_nothing_yet() -> None:
    decision = look(job())
    assert decision.actions == ()
    assert [(a.number, a.job_name, a.uid) for a in decision.status.attempts] == [(1, "job-1", None)]
    assert decision.status.start_time == at(0)
    assert decision.status.observed_generation == 1


def test_all_conditions_are_set_from_the_first_visit() -> None:
    assert {c.type: c.status for c in look(job()).status.conditions} == {
        "Running": "False",
        "Blocked": "False",
        "Suspended": "False",
        "Complete": "False",
        "Failed": "False",
    }


def test_a_reserved_attempt_without_a_job_is_made() -> None:
    first = job()
    decision = look(following(look(first), first))
    assert kinds(decision) == ["CreateChild"]
    (create,) = decision.actions
    assert isinstance(create, CreateChild)
    assert create.manifest["metadata"]["name"] == "job-1"
    assert create.manifest["metadata"]["ownerReferences"][0]["uid"] == UID


def test_a_second_look_at_an_unchanged_job_changes_nothing() -> None:
    known = job(status={"attempts": [attempt()], "conditions": [], "startTime": at(-40)})
    seen = Observed(children=(child(),))
    once = look(known, seen)
    twice = look(following(once, known), seen, after=5)
    assert twice.actions == ()
    assert twice.status == once.status


# --- where a running attempt stands

BASE = {"startTime": at(-40), "attempts": [attempt()]}
SCHEDULED = {"type": "PodScheduled", "status": "True", "lastTransitionTime": at(-5)}
LONG_SCHEDULED = SCHEDULED | {"lastTransitionTime": at(-60)}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


PULLING = pending(state=waiting("ImagePullBackOff"))


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (Observed(children=(child(started=at(-2)),)), ("Starting", "Starting")),
        (Observed(children=(child(started=None),)), ("Starting", "Starting")),
        (
            Observed(children=(child(started=None, creationTimestamp=at(-121)),)),
            ("Blocked", "NoPod"),
        ),
        (
            Observed(children=(child(started=at(-4)),), confirmed=frozenset({Ask.CHILD_EVENTS})),
            ("Starting", "Starting"),
        ),
        (
            Observed(children=(child(),), pods=(pending(conditions=[SCHEDULED]),)),
            ("Starting", "Starting"),
        ),
        # A scheduler that says nothing: busy at first, then perhaps not there.
        (Observed(children=(child(),), pods=(pending(node=None),)), ("Starting", "Starting")),
        (
            Observed(children=(child(),), pods=(pending(node=None, creationTimestamp=at(-121)),)),
            ("Blocked", "NotScheduled"),
        ),
        (
            Observed(children=(child(),), pods=(pending(conditions=[NO_NODE], node=None),)),
            ("Blocked", "Unschedulable"),
        ),
        (
            Observed(children=(child(),), pods=(PULLING,), confirmed=frozenset({Ask.POD_EVENTS})),
            ("Blocked", "ImagePull"),
        ),
        (
            Observed(
                children=(child(),), pods=(pending(state=waiting("CreateContainerConfigError")),)
            ),
            ("Blocked", "ConfigMissing"),
        ),
        (
            Observed(
                children=(child(),),
                pods=(pending(conditions=[LONG_SCHEDULED], state=waiting("ContainerCreating")),),
                confirmed=frozenset({Ask.POD_EVENTS}),
                events=({"reason": "FailedMount", "message": 'secret "x" not found'},),
            ),
            ("Blocked", "VolumeMount"),
        ),
        (
            Observed(
                children=(child(),),
                pods=(pending(conditions=[LONG_SCHEDULED], state=waiting("ContainerCreating")),),
                confirmed=frozenset({Ask.POD_EVENTS}),
            ),
            ("Starting", "Starting"),
        ),
        (
            Observed(
                children=(child(),),
                confirmed=frozenset({Ask.CHILD_EVENTS}),
                events=({"reason": "FailedCreate", "message": 'x violates PodSecurity "a"'},),
            ),
            ("Blocked", "PodSecurity"),
        ),
        (
            Observed(
                children=(child(),),
                confirmed=frozenset({Ask.CHILD_EVENTS}),
                events=({"reason": "FailedCreate", "message": "exceeded quota: gpus"},),
            ),
            ("Blocked", "Quota"),
        ),
        (
            Observed(children=(child(),), confirmed=frozenset({Ask.CHILD_EVENTS, Ask.PODS})),
            ("Blocked", "NoPod"),
        ),
        (Observed(refusal=Obstacle("NameTaken", "…")), ("Blocked", "NameTaken")),
        (Observed(children=(child(),), pods=(running_pod(job()),)), ("Running", "TrainerRunning")),
    ],
)
def test_where_an_attempt_stands(seen: Observed, expected: tuple[str, str]) -> None:
    decision = look(job(status=BASE), seen)
    assert standing(decision) == expected
    assert kinds(decision) == []


LONG_AGO = at(-121)
UNTAKEN = Observed(children=(child(started=None, creationTimestamp=LONG_AGO),))
UNPLACED = Observed(children=(child(),), pods=(pending(node=None, creationTimestamp=LONG_AGO),))


@pytest.mark.parametrize("seen", [UNTAKEN, UNPLACED])
@pytest.mark.parametrize(
    ("last", "phase"),
    [
        (LONG_AGO, "Blocked"),
        (at(-100), "Starting"),
    ],
)
def test_in_a_burst_who_serves_others_is_busy_and_not_away(
    seen: Observed, last: str, phase: str
) -> None:
    decision = look(job(status=BASE), replace(seen, last_taken_up=last, last_placed=last))
    assert standing(decision)[0] == phase
    if phase == "Starting":
        assert decision.requeue_after == pytest.approx(20)


@pytest.mark.parametrize("seen", [UNTAKEN, UNPLACED])
def test_what_is_passed_over_for_long_has_another_trouble(seen: Observed) -> None:
    busy = replace(seen, last_taken_up=at(1760), last_placed=at(1760))
    waits = job(status=BASE)
    assert standing(look(waits, busy, after=1798))[0] == "Starting"
    # Half an hour after it was made, and two minutes.
    assert standing(look(waits, busy, after=1800))[0] == "Blocked"


def test_another_scheduler_is_not_judged_by_the_clusters_own() -> None:
    other = job(spec={"schedulerName": "binpack"}, status=BASE)
    seen = replace(UNPLACED, last_placed=at(-1))
    assert standing(look(other, seen)) == ("Blocked", "NotScheduled")


@pytest.mark.parametrize(
    ("seen", "question"),
    [
        (Observed(children=(child(),)), Ask.CHILD_EVENTS),
        (Observed(children=(child(),), confirmed=frozenset({Ask.CHILD_EVENTS})), Ask.PODS),
        (
            Observed(children=(child(),), pods=(pending(conditions=[LONG_SCHEDULED]),)),
            Ask.POD_EVENTS,
        ),
        (Observed(children=(child(finished="Failed"),)), Ask.PODS),
        (ended(137), Ask.END_EVENTS),
    ],
)
def test_what_is_read_live_before_a_verdict(seen: Observed, question: Ask) -> None:
    assert look(job(status=BASE), seen).ask is question


def test_running_tells_where_and_from_where() -> None:
    decision = look(job(status=BASE), Observed(children=(child(),), pods=(running_pod(job()),)))
    assert of(decision, "Running").message == "attempt 1 runs on node node-a, from scratch"
    assert decision.status.attempts[0].uid == CHILD_UID
    assert decision.status.attempts[0].start_time == at(-20)


def test_a_trainer_that_has_ended_leaves_the_phase_until_the_job_is_counted() -> None:
    known = job(status=BASE)
    running = look(known, Observed(children=(child(),), pods=(running_pod(known),)))
    known = following(running, known)
    decision = look(known, Observed(children=(child(),), pods=(ended_pod(0),)))
    assert decision.status == running.status


# --- a stale store is never believed about absence


def test_absence_of_a_recorded_job_is_confirmed_first() -> None:
    assert look(job(status={"attempts": [running_attempt()]})).ask is Ask.CHILD


def test_a_recorded_job_that_is_gone_is_an_interruption_and_the_next_attempt_follows() -> None:
    known = job(status={"attempts": [running_attempt()], "progress": progress(3)})
    decision = look(known, Observed(confirmed=frozenset({Ask.CHILD, Ask.PODS})))
    first, second = decision.status.attempts
    assert (first.outcome, first.reason, first.epoch) == ("Interrupted", "JobDeleted", 3)
    assert (second.number, second.end_time) == (2, None)
    assert decision.status.retry is None or decision.status.retry.failures == 0


def test_no_next_attempt_while_a_pod_of_the_last_one_lives() -> None:
    known = job(status={"attempts": [running_attempt()]})
    seen = Observed(pods=(running_pod(known),), confirmed=frozenset({Ask.CHILD, Ask.PODS}))
    decision = look(known, seen)
    assert len(decision.status.attempts) == 1
    assert decision.requeue_after == 5


def test_a_job_of_an_ended_attempt_that_still_runs_is_deleted() -> None:
    status = {"attempts": [ended_attempt(1), attempt(2)]}
    decision = look(job(status=status), Observed(children=(child(uid="late"),)))
    assert DeleteChild("job-1", "late") in decision.actions


@pytest.mark.parametrize("phase", ["Running", "Complete"])
def test_a_job_of_an_attempt_that_an_old_status_does_not_know_is_let_be(phase: str) -> None:
    """Another operator has gone on meanwhile: an attempt is in status before its Job is made."""
    status = {"attempts": [ended_attempt(1)], "conditions": [condition(phase)]}
    decision = look(job(status=status), Observed(children=(child(attempt=2, uid="newer"),)))
    assert "DeleteChild" not in kinds(decision)


def test_a_child_of_the_recorded_name_with_another_uid_is_not_the_attempt() -> None:
    known = job(status={"attempts": [running_attempt(uid="recorded")]})
    seen = Observed(children=(child(uid="other"),), confirmed=frozenset({Ask.CHILD, Ask.PODS}))
    decision = look(known, seen)
    assert decision.status.attempts[0].outcome == "Interrupted"
    assert DeleteChild("job-1", "other") in decision.actions


# --- ends


@pytest.mark.parametrize(
    ("seen", "expected", "retried"),
    [
        (ended(0, WORDS), ("Succeeded", "Trained"), False),
        (ended(0), ("Succeeded", "Trained"), False),
        (ended(2, last_words(2, message="bad")), ("Failed", "InvalidConfiguration"), False),
        (ended(3, last_words(3, message="a.png")), ("Failed", "InvalidDataset"), False),
        (ended(4), ("Failed", "NonFiniteLoss"), False),
        (ended(1), ("Retrying", "TrainerError"), False),
        (ended(127), ("Retrying", "TrainerError"), False),
        (ended(77), ("Retrying", "Stalled"), False),
        (ended(78), ("Retrying", "OutOfMemory"), False),
        (ended(79), ("Retrying", "StorageError"), False),
        (ended(137, reason="OOMKilled"), ("Retrying", "OutOfMemory"), False),
        (ended(75), ("Starting", "Starting"), True),
        (ended(76), ("Starting", "Starting"), True),
        (
            Observed(children=(child(finished="Failed"),), confirmed=frozenset({Ask.PODS})),
            ("Starting", "Starting"),
            True,
        ),
    ],
)
def test_what_an_end_means(seen: Observed, expected: tuple[str, str], retried: bool) -> None:
    decision = look(job(status={"attempts": [running_attempt()]}), seen)
    assert standing(decision) == expected
    assert len(decision.status.attempts) == (2 if retried else 1)
    assert kinds(decision) == []


def test_a_trainer_that_ends_before_it_has_loaded_its_checkpoint_costs_no_epochs() -> None:
    """Its last words speak of epoch 0; `stop` would find no model, and fail the job."""
    status = {
        "attempts": [ended_attempt(1), running_attempt(2)],
        "progress": progress(7, checkpoint={"epoch": 7}),
    }
    owner = child(attempt=2)
    words = last_words(75, epochs=0, generation=0)
    pods = (ended_pod(75, message=words, attempt=2),)
    seen = Observed(children=(replace(owner, finished="Failed"),), pods=pods)
    decision = look(job(status=status, spec={"stop": True}), seen)
    assert decision.status.progress is not None
    assert (decision.status.progress.epoch, decision.status.attempts[1].epoch) == (7, 7)
    assert standing(decision)[0] == "Starting"


def test_success_keeps_the_last_words() -> None:
    decision = look(job(status={"attempts": [running_attempt()]}), ended(0, WORDS))
    status = decision.status
    assert status.run is not None
    assert (status.run.best_weights, status.run.best_sha256) == ("runs/w", "ab")
    assert status.finished is not None
    assert (status.finished.epochs, status.finished.generation) == (12, 1)
    assert status.summary is not None
    assert (status.summary.epoch, status.summary.best) == ("12/12", "0.830 (11)")
    assert of(decision, "Complete").message == (
        "trained 12 of 12 epochs; best validation IoU 0.830 at epoch 11"
    )
    assert status.completion_time == at(0)


# --- retries


@pytest.mark.parametrize(
    ("before", "epoch", "limit", "expected", "delay"),
    [
        ((0, 0), 0, 3, "Retrying", 10),
        ((1, 0), 0, 3, "Retrying", 20),
        ((2, 4), 4, 3, "Retrying", 40),
        ((3, 4), 4, 3, "Failed", None),
        ((3, 4), 5, 3, "Retrying", 10),  # progress since: the count begins anew
        ((0, 0), 0, 0, "Failed", None),
        ((8, 0), 0, 100, "Retrying", 300),  # the back-off has an end
    ],
)
def test_failures_are_counted_since_the_last_progress(
    before: tuple[int, int], epoch: int, limit: int, expected: str, delay: float | None
) -> None:
    status = {
        "attempts": [running_attempt()],
        "retry": {"failures": before[0], "progressEpoch": before[1]},
        "progress": progress(epoch),
    }
    decision = look(job(spec={"maxRetries": limit}, status=status), ended(1))
    assert str(decision.status.phase) == expected
    assert decision.requeue_after == delay
    if expected == "Failed":
        assert of(decision, "Failed").reason == "RetriesExhausted"
        assert f"maxRetries is {limit}" in of(decision, "Failed").message


def test_after_the_back_off_the_next_attempt_is_reserved() -> None:
    status = {
        "attempts": [ended_attempt(1, "Failed", reason="TrainerError")],
        "retry": {"failures": 1, "progressEpoch": 0, "notBefore": at(10)},
    }
    waiting_still = look(job(status=status), after=9)
    assert standing(waiting_still) == ("Retrying", "TrainerError")
    assert waiting_still.requeue_after == 1
    decision = look(job(status=status), after=10)
    assert [a.number for a in decision.status.attempts] == [1, 2]
    assert decision.status.retry is not None
    assert (decision.status.retry.failures, decision.status.retry.not_before) == (1, None)


@pytest.mark.parametrize(
    ("before", "delay"),
    [
        ([], None),
        ([ended_attempt(1, epoch=3)], 10),
        ([ended_attempt(1, epoch=3), ended_attempt(2, epoch=3)], 20),
        ([ended_attempt(1, epoch=3, reason="Suspended")], None),
        ([ended_attempt(1, epoch=2)], None),  # an epoch further: no loop
        ([ended_attempt(n, epoch=3) for n in range(1, 9)], 60),
    ],
)
def test_interruptions_count_for_nothing_but_a_loop_slows_down(
    before: list[dict[str, Any]], delay: float | None
) -> None:
    number = len(before) + 1
    status = {"attempts": [*before, running_attempt(number)], "progress": progress(3)}
    seen = Observed(
        children=(child(attempt=number, finished="Failed"),), pods=(ended_pod(75, attempt=number),)
    )
    decision = look(job(status=status), seen)
    assert decision.requeue_after == delay
    assert decision.status.retry is None or decision.status.retry.failures == 0


def test_only_the_last_attempts_are_kept() -> None:
    status = {"attempts": [ended_attempt(n, epoch=n) for n in range(5, 15)]}
    numbers = [a.number for a in look(job(status=status)).status.attempts]
    assert numbers == list(range(6, 16))
