"""What others change of an attempt's Job and pods: put right, or reported."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kubeseg_operator.decide import Ask, Decision, DeleteChild, MendChild, MendPod, Observed
from kubeseg_operator.views import Child
from tests.support.operator_decisions import look, of, standing
from tests.support.operator_objects import (
    CHILD_UID,
    POD_UID,
    UID,
    at,
    attempt,
    child,
    ended_attempt,
    ended_pod,
    job,
    last_words,
    running_attempt,
    running_pod,
)

KNOWN = job(status={"attempts": [running_attempt()]})
LABELS = {
    "kubeseg.dev/job": "job",
    "kubeseg.dev/attempt": "1",
    "app.kubernetes.io/name": "kubeseg-trainer",
    "app.kubernetes.io/managed-by": "kubeseg-operator",
}
ONE = {"parallelism": 1, "completions": 1}
LATER = {"creationTimestamp": "2026-01-02T03:04:00Z"}


@pytest.mark.parametrize(
    ("changed", "patch"),
    [
        ({}, None),
        ({"parallelism": 1}, None),
        ({"parallelism": 0}, {"metadata": {}, "spec": ONE}),
        ({"parallelism": 3}, {"metadata": {}, "spec": ONE}),
        ({"labelled": False}, {"metadata": {"labels": LABELS}}),
        ({"attempt": 0}, {"metadata": {"labels": LABELS}}),
        ({"owner": UID, "deleting": True, "parallelism": 0}, None),  # it leaves anyway
        ({"finished": "Failed", "parallelism": 0}, None),
    ],
)
def test_what_is_put_right(changed: dict[str, Any], patch: dict[str, Any] | None) -> None:
    found = replace(child(), **changed)
    seen = Observed(children=(found,), pods=(running_pod(KNOWN),), confirmed=frozenset(Ask))
    mends = [a for a in look(KNOWN, seen).actions if isinstance(a, MendChild)]
    assert mends == ([MendChild("job-1", CHILD_UID, patch)] if patch else [])


@pytest.mark.parametrize(
    ("changed", "hidden"),
    [({"job": ""}, True), ({"job": "other"}, True), ({"attempt": 0}, False)],
)
def test_the_labels_of_a_pod_are_put_right(changed: dict[str, Any], hidden: bool) -> None:
    found = replace(running_pod(KNOWN), **changed)
    seen = Observed(children=(child(),), pods=(found,))
    if hidden:
        # No watch tells of it: what is known may be old.
        assert look(KNOWN, seen).ask is Ask.PODS
    decision = look(KNOWN, replace(seen, confirmed=frozenset({Ask.PODS})))
    assert decision.actions == (MendPod(found.name, POD_UID, LABELS),)
    assert standing(decision) == ("Running", "TrainerRunning")


@pytest.mark.parametrize("changed", [{"deleting": True}, {"phase": "Failed", "exit_code": 1}])
def test_the_labels_of_a_pod_that_ends_are_left(changed: dict[str, Any]) -> None:
    found = replace(running_pod(KNOWN), job="", **changed)
    seen = Observed(children=(child(),), pods=(found,), confirmed=frozenset({Ask.PODS}))
    assert look(KNOWN, seen).actions == ()


@pytest.mark.parametrize("made", [(child(),), ()])
def test_a_pod_that_is_gone_without_a_word_is_looked_for(made: tuple[Child, ...]) -> None:
    """It may only have lost its label; another attempt must not begin beside it."""
    gone = replace(running_pod(KNOWN), gone=True)
    confirmed = frozenset({Ask.CHILD})
    seen = Observed(children=made, pods=(gone,), confirmed=confirmed)
    assert look(KNOWN, seen).ask is Ask.PODS
    # A new process has never heard of it.
    assert look(KNOWN, replace(seen, pods=())).ask is Ask.PODS
    told = replace(gone, exit_code=75)
    assert look(KNOWN, replace(seen, pods=(told,))).ask is None


@pytest.mark.parametrize("number", [0, 7])
def test_a_job_that_bears_another_attempts_number_is_known_by_its_name(number: int) -> None:
    """Its UID is not in status yet."""
    known = job(status={"attempts": [attempt()]})
    seen = Observed(children=(replace(child(), attempt=number),), pods=(running_pod(known),))
    decision = look(known, seen)
    assert standing(decision) == ("Running", "TrainerRunning")
    assert decision.status.attempts[0].uid == CHILD_UID
    assert [type(action) for action in decision.actions] == [MendChild]


def test_a_job_that_has_lost_its_owner_gets_it_back() -> None:
    """It is known by the UID that was recorded."""
    orphan = child(owner=None)
    seen = Observed(children=(orphan,), pods=(running_pod(KNOWN),))
    (mend,) = look(KNOWN, seen).actions
    assert isinstance(mend, MendChild)
    (owner,) = mend.patch["metadata"]["ownerReferences"]
    assert (owner["uid"], owner["controller"]) == (UID, True)


def waiting(**changed: Any) -> Child:
    return replace(child(started=None), **changed)


def test_a_suspension_by_others_is_reported_and_never_fought() -> None:
    for pods in ((), (ended_pod(75, gone=True),)):
        decision = look(KNOWN, Observed(children=(waiting(suspended=True),), pods=pods))
        assert_suspended(decision)


def test_a_job_that_goes_on_after_a_suspension_runs() -> None:
    """The same Job, a new pod; the old one is gone."""
    pods = (ended_pod(75, gone=True), running_pod(KNOWN, name="job-1-0-new", uid="new", **LATER))
    decision = look(KNOWN, Observed(children=(child(),), pods=pods))
    assert standing(decision) == ("Running", "TrainerRunning")
    done = (
        pods[0],
        ended_pod(0, name="job-1-0-new", uid="new", message=last_words(0, epoch=12), **LATER),
    )
    decision = look(KNOWN, Observed(children=(child(finished="Complete"),), pods=done))
    assert standing(decision) == ("Succeeded", "Trained")
    assert decision.status.progress is not None
    assert decision.status.progress.epoch == 12


def assert_suspended(decision: Decision) -> None:
    assert standing(decision) == ("Blocked", "JobSuspended")
    assert "Job job-1 was suspended by somebody else" in of(decision, "Blocked").message
    assert decision.actions == ()


def test_who_holds_a_job_that_is_to_go_is_named() -> None:
    known = job(
        spec={"suspend": True}, status={"attempts": [running_attempt()], "phase": "Running"}
    )
    meta = {"deletionTimestamp": at(-35), "finalizers": ["foregroundDeletion", "example.com/hold"]}
    decision = look(known, Observed(children=(child(**meta),)))
    assert "is held by the finalizer example.com/hold" in of(decision, "Running").message
    leaving = Observed(children=(child(**meta),), pods=(running_pod(known),))
    assert "held" not in of(look(known, leaving), "Running").message


def test_of_thousands_of_strays_some_are_ended_at_a_time() -> None:
    """Others may make Jobs that look like ours: no visit is the longer for it."""
    many = tuple(child(uid=f"u{n}", name=f"job-1-{n}") for n in range(1000))
    status = {"attempts": [ended_attempt()], "startTime": at(-100)}
    decision = look(job(spec={"suspend": True}, status=status), Observed(children=many))
    ended = [action for action in decision.actions if isinstance(action, DeleteChild)]
    assert (len(ended), decision.requeue_after) == (20, 1)
