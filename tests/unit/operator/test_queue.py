"""Queued by Kueue: what is said of it, and what an attempt goes through."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kubeseg_operator.admission import LONGEST_PAUSE, SHORTEST_PAUSE, Found, pause, waiting
from kubeseg_operator.clock import parse
from kubeseg_operator.decide import Ask, Observed
from kubeseg_operator.story import happenings
from kubeseg_operator.views import JobView, Pod
from kubeseg_types.status import Phase, TrainingJobStatus
from tests.support.operator_decisions import following, kinds, look, of, standing
from tests.support.operator_objects import (
    CHILD_UID,
    NOW,
    at,
    attempt,
    child,
    ended_pod,
    job,
    progress,
    running_attempt,
    running_pod,
)

# --- what Kueue says, in words


def workload(*conditions: dict[str, str], active: bool = True, checks: Any = None) -> Found:
    status = {"conditions": list(conditions)} | ({"admissionChecks": checks} if checks else {})
    return Found({"metadata": {"name": "job-x"}, "spec": {"active": active}, "status": status})


def quota(reason: str, message: str, status: str = "False") -> dict[str, str]:
    return {"type": "QuotaReserved", "status": status, "reason": reason, "message": message}


NO_QUOTA = (
    "couldn't assign flavors to pod set main: insufficient unused quota for cpu in flavor default, "
    "1 more needed"
)


@pytest.mark.parametrize(
    ("found", "reason", "words"),
    [
        (Found(), "Queued", "Kueue has no Workload for it"),
        (Found(code=403), "Queued", "kueue.enabled"),
        (Found(code=404), "NoKueue", "no Kueue in this cluster"),
        (workload(), "Queued", "until Kueue admits it"),
        (workload(quota("WaitingForQuota", NO_QUOTA)), "WaitingForQuota", "1 more needed."),
        (
            workload(quota("Misconfigured", "LocalQueue nope doesn't exist")),
            "Misconfigured",
            "LocalQueue nope doesn't exist. Make this LocalQueue",
        ),
        (
            workload(quota("Inadmissible", "ClusterQueue c is inactive")),
            "Inadmissible",
            "Whoever runs Kueue",
        ),
        (workload(quota("not a reason!", "x")), "Queued", ": x."),
        (workload(quota("Pending", "x" * 5000)), "Pending", "xxx"),
        (workload(quota("Pending", NO_QUOTA), active=False), "Deactivated", "spec.active"),
        (
            workload(
                quota("Pending", NO_QUOTA),
                {"type": "Evicted", "status": "True", "reason": "Deactivated", "message": "Why."},
                active=False,
            ),
            "Deactivated",
            "is deactivated (Why): set",
        ),
        (
            workload(
                quota("QuotaReserved", "", "True"),
                checks=[{"name": "budget", "state": "Pending", "message": "asks for money"}],
            ),
            "WaitingForChecks",
            "budget (Pending: asks for money)",
        ),
        (workload(quota("QuotaReserved", "", "True")), "Queued", "about to start"),
        (
            workload(
                quota("QuotaReserved", "Quota reserved in ClusterQueue c", "True"),
                {"type": "Evicted", "status": "True", "reason": "Preempted", "message": "for x"},
            ),
            "Preempted",
            ": for x.",
        ),
        (
            workload(
                quota("QuotaReserved", "Quota reserved in ClusterQueue c", "True"),
                {"type": "Evicted", "status": "False", "reason": "QuotaReserved", "message": "y"},
            ),
            "Queued",
            "about to start",
        ),
        (
            workload(
                quota("QuotaReserved", "", "True"),
                {"type": "Finished", "status": "True", "reason": "FailedToStart", "message": "No."},
            ),
            "FailedToStart",
            "has closed its Workload job-x: No. Delete the Job",
        ),
        (
            workload(quota("Inadmissible", "LocalQueue q is terminating or missing")),
            "Inadmissible",
            "Make this LocalQueue",
        ),
        (
            workload(quota("Inadmissible", "ClusterQueue c is terminating or missing")),
            "Inadmissible",
            "Whoever runs Kueue",
        ),
        (
            workload(quota("Inadmissible", "LocalQueue q is stopped")),
            "Inadmissible",
            "Whoever runs Kueue",
        ),
        (
            workload(
                quota("Pending", ""),
                {"type": "Evicted", "status": "True", "reason": "Preempted", "message": "for x"},
            ),
            "Preempted",
            ": for x.",
        ),
    ],
)
def test_why_it_waits(found: Found, reason: str, words: str) -> None:
    obstacle = waiting(found, "team-a")
    assert obstacle.reason == reason
    assert words in obstacle.message
    assert '"team-a"' in obstacle.message
    assert len(obstacle.message) <= 1000


def test_looks_become_rare() -> None:
    assert [pause(s) for s in (0, 15, 100, 10**6)] == [SHORTEST_PAUSE, 15, 100, LONGEST_PAUSE]
    looks, waited = 0, 0.0
    while waited < 86_400:
        waited += pause(waited)
        looks += 1
    assert looks < 160, "of a job that waits for a day"


# --- an attempt's way through the queue

SPEC = {"queueName": "team-a"}
BASE = {"startTime": at(-40), "attempts": [attempt()]}
WAITS = workload(quota("WaitingForQuota", NO_QUOTA))


def queued(**status: Any) -> JobView:
    return job(spec=SPEC, status={**BASE, **status})


def seen(*pods: Pod, found: Found | None = WAITS, **fields: Any) -> Observed:
    known = {"suspended": True, "started": None} | fields
    confirmed = frozenset({Ask.WORKLOAD} if found else ())
    return Observed(children=(child(**known),), pods=pods, workload=found, confirmed=confirmed)


def test_the_first_seconds_are_no_news() -> None:
    decision = look(queued(), seen(found=None, creationTimestamp=at(-1)))
    assert decision.ask is None
    assert standing(decision) == ("Starting", "Starting")
    assert decision.requeue_after == 2


def test_it_waits_and_says_why() -> None:
    assert look(queued(), seen(found=None)).ask is Ask.WORKLOAD
    decision = look(queued(), seen())
    assert standing(decision) == ("Queued", "WaitingForQuota")
    assert decision.actions == ()
    assert 'attempt 1 waits in queue "team-a": couldn\'t' in of(decision, "Blocked").message
    assert decision.status.summary is not None
    assert "1 more needed" in (decision.status.summary.why or "")
    (waits,) = decision.status.attempts
    assert (waits.queued_time, waits.preemptions) == (at(0), None)
    assert decision.requeue_after == SHORTEST_PAUSE


def test_waiting_on_changes_nothing() -> None:
    once = look(queued(), seen())
    again = look(following(once, queued()), seen(), after=100)
    assert again.status == once.status
    assert again.requeue_after == 100


def test_a_deadline_does_not_run_in_the_queue() -> None:
    spec = {**SPEC, "activeDeadlineSeconds": 50}
    known = job(spec=spec, status=BASE)
    once = look(known, seen())
    assert once.status.start_time is None
    later = look(following(once, known), seen(), after=1000)
    assert str(later.status.phase) == "Queued"
    admitted = look(following(later, known), seen(suspended=False, started=at(1000)), after=1001)
    assert admitted.status.start_time == at(1001)
    assert str(admitted.status.phase) == "Starting"


def test_admitted_and_running() -> None:
    known = queued(attempts=[attempt(queuedTime=at(-30))], phase="Queued")
    pod = running_pod(known)
    decision = look(known, seen(pod, suspended=False, started=at(-29)))
    assert standing(decision) == ("Running", "TrainerRunning")
    (begun,) = decision.status.attempts
    assert (begun.queued_time, begun.queued_seconds, begun.start_time) == (None, None, at(-20))


BEGUN = {"attempts": [running_attempt()], "phase": "Running", "progress": progress(4)}


def test_preempted_the_attempt_goes_on_waiting() -> None:
    known = queued(**BEGUN)
    leaving = running_pod(known, deletionTimestamp=at(0))
    waiting = seen(leaving, found=None)
    assert look(known, waiting).ask is Ask.PODS, "that it is there still, nobody may have told"
    decision = look(known, replace(waiting, confirmed=waiting.confirmed | {Ask.PODS}))
    assert standing(decision) == ("Queued", "Preempted")
    assert decision.actions == (), "neither the Job nor its suspension is ours to touch"
    (waits,) = decision.status.attempts
    assert (waits.queued_time, waits.preemptions, waits.end_time) == (at(0), 1, None)
    assert waits.start_time == at(-20)
    # Its pod is gone: the Workload says why it waits.
    gone = ended_pod(75, gone=True)
    after = look(following(decision, known), seen(gone), after=3)
    assert standing(after) == ("Queued", "WaitingForQuota")
    assert after.status.attempts[0].preemptions == 1


def test_readmitted_it_gets_the_configuration_as_it_is_now() -> None:
    """The pod is made from the original template: what was edited since is brought to it."""
    waits = running_attempt(queuedTime=at(-10), preemptions=1)
    known = job(spec=SPEC, status={**BASE, **BEGUN, "attempts": [waits]}, generation=2)
    gone = ended_pod(75, gone=True)
    first = look(known, seen(gone, suspended=False, started=at(-1)))
    assert (standing(first), kinds(first)) == (("Starting", "Starting"), [])
    assert first.status.attempts[0].queued_seconds == 10
    state = {"running": {"startedAt": at(0)}}
    fresh = running_pod(
        queued(), uid="new", name="job-1-0-fresh", creationTimestamp=at(-1), state=state,
        node="node-b",
    )  # fmt: skip
    second = look(following(first, known), seen(gone, fresh, suspended=False, started=at(-1)))
    assert standing(second) == ("Running", "TrainerRunning")
    assert kinds(second) == ["PatchConfig"]
    (goes_on,) = second.status.attempts
    assert (goes_on.start_time, goes_on.node, goes_on.number) == (at(-20), "node-b", 1)
    assert "preempted 1×" in of(second, "Running").message


def test_a_readmission_that_nobody_saw_is_followed() -> None:
    """The operator was away: what it knew of is the pod before, and the Job has begun anew."""
    known = queued(**BEGUN)
    gone = ended_pod(75, gone=True)
    decision = look(known, seen(gone, suspended=False, started=at(-2), found=None))
    assert standing(decision) == ("Starting", "Starting")


def test_an_admitted_job_is_no_longer_queued_until_its_controller_takes_it_up() -> None:
    """Kueue has taken its start time away, and created it was long ago."""
    waits = running_attempt(queuedTime=at(-900), preemptions=1)
    known = job(spec=SPEC, status={"attempts": [waits], "phase": "Queued"})
    long_ago: dict[str, Any] = {"suspended": False, "creationTimestamp": at(-1000)}
    decision = look(known, seen(ended_pod(75, gone=True), **long_ago))
    assert standing(decision) == ("Starting", "Starting")
    never = {"attempts": [attempt(queuedTime=at(-900), uid=CHILD_UID)], "phase": "Queued"}
    decision = look(job(spec=SPEC, status=never), seen(**long_ago))
    assert standing(decision) == ("Starting", "Starting")
    assert decision.status.start_time == at(0)


def test_nothing_is_in_the_way_of_a_readmitted_job_whose_pods_still_end() -> None:
    """They are replaced once they have ended, and that takes as long as they were given."""
    waits = running_attempt(queuedTime=at(-60), preemptions=1)
    known = job(spec=SPEC, status={"attempts": [waits], "phase": "Queued"})
    leaving = running_pod(known, deletionTimestamp=at(0))
    decision = look(known, seen(leaving, suspended=False, started=at(-18), found=None))
    assert decision.ask is None
    assert standing(decision) == ("Starting", "Starting")


def test_a_pod_that_lives_is_of_this_admission_whatever_the_clocks_say() -> None:
    """The Job's start is by the controller's clock, the pod's creation by the API server's."""
    known = queued(attempts=[attempt(queuedTime=at(-30))], phase="Queued")
    pod = running_pod(known, creationTimestamp=at(-30))
    decision = look(known, seen(pod, suspended=False, started=at(-29)))
    assert standing(decision) == ("Running", "TrainerRunning")


def test_a_pod_that_still_ends_is_not_of_this_admission() -> None:
    known = queued(**BEGUN)
    leaving = running_pod(known, deletionTimestamp=at(-3))
    decision = look(known, seen(leaving, suspended=False, started=at(-2), found=None))
    assert standing(decision) == ("Starting", "Starting")


def test_the_end_is_told_by_the_newest_pod() -> None:
    known = queued(**BEGUN)
    before = ended_pod(75, gone=True, uid="old", name="job-1-0-old")
    last = ended_pod(0, creationTimestamp=at(-5))
    finished: dict[str, Any] = {
        "suspended": False,
        "started": at(-6),
        "finished": "Complete",
    }
    decision = look(known, seen(before, last, **finished))
    assert str(decision.status.phase) == "Succeeded"
    assert decision.status.attempts[0].exit_code == 0


def test_a_users_suspend_deletes_the_child_in_the_queue_too() -> None:
    waits = attempt(queuedTime=at(-10), uid=CHILD_UID)
    known = job(spec={**SPEC, "suspend": True}, status={**BASE, "attempts": [waits]})
    decision = look(known, seen(found=None))
    assert kinds(decision) == ["DeleteChild"]
    assert decision.ask is None
    assert str(decision.status.phase) != "Running"
    ended = look(
        job(spec={**SPEC, "suspend": True}, status={**BASE, "attempts": [waits | {"uid": "x"}]}),
        Observed(confirmed=frozenset({Ask.CHILD, Ask.PODS})),
    )
    assert standing(ended) == ("Suspended", "Suspended")
    assert ended.status.attempts[0].queued_time is None


def test_stop_in_the_queue_before_anything_was_trained() -> None:
    known = job(spec={**SPEC, "stop": True}, status=BASE)
    assert look(known, seen()).ask is Ask.PODS
    confirmed = replace(seen(), confirmed=frozenset({Ask.WORKLOAD, Ask.PODS}))
    assert standing(look(known, confirmed)) == ("Failed", "StoppedBeforeFirstEpoch")


def test_a_job_suspended_by_a_stranger_is_said() -> None:
    decision = look(job(status=BASE), seen(found=None))
    assert standing(decision) == ("Blocked", "JobSuspended")
    assert "spec.queueName" in of(decision, "Blocked").message


def test_the_story() -> None:
    known = queued(**BEGUN)

    def told(old: Any, new: TrainingJobStatus) -> list[tuple[str, str]]:
        before = TrainingJobStatus.model_validate(old)
        return [(h.kind, h.reason) for h in happenings(before, new, NOW)]

    waits = look(queued(), seen()).status
    assert told(BASE, waits) == [("Normal", "Queued")]
    preempted = look(known, seen(ended_pod(75, gone=True))).status
    assert ("Normal", "Preempted") in told(known.status, preempted)
    assert preempted.phase is Phase.QUEUED
    again = look(
        following(look(known, seen()), known), seen(suspended=False, started=at(-1))
    ).status
    assert told(preempted.to_dict(), again) == [("Normal", "Readmitted")]
    assert parse(again.start_time) == NOW


def test_the_pod_before_a_preemption_does_not_tell_how_the_job_ended() -> None:
    known = queued(**BEGUN)
    before = ended_pod(75, gone=True, creationTimestamp=at(-60))
    finished: dict[str, Any] = {
        "suspended": False,
        "started": at(-20),
        "finished": "Complete",
    }
    assert look(known, seen(before, **finished)).ask is Ask.PODS


@pytest.mark.parametrize(
    ("fields", "phase"),
    [
        # Nobody has told that its queue took its place away, or gave it back just now.
        ({"suspended": True, "started": None}, "Queued"),
        ({"suspended": False, "started": at(-5)}, "Running"),
        ({"suspended": False, "started": at(-100)}, "Failed"),
    ],
)
def test_the_deadline_is_not_believed_before_the_queue_was_looked_at(
    fields: dict[str, Any], phase: str
) -> None:
    running = [running_attempt(startTime=at(-90))]
    status = BASE | {"attempts": running, "phase": "Running", "startTime": at(-90)}
    known = job(spec=SPEC | {"activeDeadlineSeconds": 60}, status=status)
    there = (running_pod(known, creationTimestamp=at(-4)),) if phase == "Running" else ()
    before = seen(*there, **fields)
    assert look(known, replace(before, confirmed=frozenset())).ask is Ask.CHILD
    read = replace(before, confirmed=frozenset({Ask.CHILD, Ask.WORKLOAD}))
    assert str(look(known, read).status.phase) == phase
