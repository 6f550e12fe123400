"""A node that does not answer: each row, what is seen → what is said and done."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kubeseg_operator.decide import Ask, DeleteChild, DeletePod, Observed
from kubeseg_operator.story import happenings
from kubeseg_operator.views import Pod
from kubeseg_types.status import TrainingJobStatus
from tests.support import operator_decisions
from tests.support.operator_decisions import following, look, of
from tests.support.operator_objects import (
    CHILD_UID,
    NOW,
    POD_UID,
    at,
    child,
    job,
    running_attempt,
    running_pod,
)

KNOWN = job(status={"attempts": [running_attempt()]})
QUIET = [
    {"type": "Ready", "status": "False", "lastTransitionTime": at(-700)},
    {"type": "ContainersReady", "status": "True"},
]
TAINTED = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}
EVICTED = [*QUIET, TAINTED]
SHARED = {Ask.CLAIM: ({"spec": {"accessModes": ["ReadWriteMany"]}},)}
ALONE = {Ask.CLAIM: ({"spec": {"accessModes": ["ReadWriteOnce"]}},)}
SINCE = f'node "node-a" does not answer since {at(-700)}; attempt 1 '


def quiet(due: str | None = None, since: float = -700, **fields: Any) -> Pod:
    conditions = [QUIET[0] | {"lastTransitionTime": at(since)}, *EVICTED[1:]]
    meta = {"deletionTimestamp": due} if due else {}
    return running_pod(KNOWN, conditions=conditions, **meta, **fields)


def seen(pod: Pod, **fields: Any) -> Observed:
    known: dict[str, Any] = {"children": (child(),), "pods": (pod,), "confirmed": frozenset(Ask)}
    return Observed(**(known | fields))


GONE = (DeleteChild("job-1", CHILD_UID), DeletePod("job-1-0-abcde", POD_UID))


@pytest.mark.parametrize(
    ("pod", "answers", "words", "actions"),
    [
        (quiet(), SHARED, f"{SINCE}may still run there. Kubernetes evicts its pod", ()),
        (quiet(at(-31)), SHARED, f"{SINCE}is given up: its pod is removed", GONE),
        (quiet(at(-29)), SHARED, f"{SINCE}is waited for until", ()),  # its node has time yet
        (quiet(at(-31), since=-590), SHARED, "until it has not answered for 600 s", ()),
        (quiet(at(-31)), ALONE, "is not known to be ReadWriteMany", ()),
        (quiet(at(-31)), {}, "node.kubernetes.io/out-of-service=:NoExecute", ()),
        (
            quiet(at(-31), deletionGracePeriodSeconds=0),
            SHARED,
            "is given up",
            GONE[:1],  # its pod is on its way already
        ),
    ],
)
def test_a_lost_node(
    pod: Pod, answers: dict[Ask, Any], words: str, actions: tuple[Any, ...]
) -> None:
    decision = look(KNOWN, seen(pod, answers=answers))
    running = of(decision, "Running")
    assert (running.status, running.reason) == ("True", "NodeLost")
    assert words in running.message
    assert decision.status.summary is not None
    assert decision.status.summary.why == running.message
    assert decision.actions == actions
    assert decision.requeue_after is not None


def test_the_claim_is_read_only_when_all_else_speaks_for_giving_up() -> None:
    assert look(KNOWN, seen(quiet(at(-31)), confirmed=frozenset())).ask is Ask.CLAIM
    assert look(KNOWN, seen(quiet(at(-29)), confirmed=frozenset())).ask is None


def test_an_administrator_may_have_it_waited_for_always(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace(operator_decisions.SETTINGS, lost_node_seconds=0)
    monkeypatch.setattr(operator_decisions, "SETTINGS", settings)
    decision = look(KNOWN, seen(quiet(at(-9999)), answers=SHARED))
    assert decision.actions == ()
    assert "until the node answers. Once it is surely off: kubectl taint node node-a" in (
        of(decision, "Running").message
    )


@pytest.mark.parametrize(
    ("due", "limit", "reason", "actions"),
    [
        (at(-59), 60, "TrainerRunning", ()),
        (at(-61), 60, "NodeLost", GONE),
        (at(-61), 600, "NodeLost", ()),
    ],
)
def test_a_pod_whose_kubelet_never_reported_shows_by_its_deletion(
    due: str, limit: float, reason: str, actions: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(operator_decisions.SETTINGS, lost_node_seconds=limit)
    monkeypatch.setattr(operator_decisions, "SETTINGS", settings)
    pod = running_pod(KNOWN, deletionTimestamp=due)
    decision = look(KNOWN, seen(pod, answers=SHARED))
    assert of(decision, "Running").reason == reason
    assert decision.actions == actions
    assert decision.requeue_after is not None


def test_a_deletion_at_no_time_at_all_says_nothing() -> None:
    pod = running_pod(KNOWN, deletionTimestamp="soon")
    assert of(look(KNOWN, seen(pod, answers=SHARED)), "Running").reason == "TrainerRunning"


@pytest.mark.parametrize(
    "conditions",
    [
        [],
        [QUIET[0], {"type": "ContainersReady", "status": "False"}],  # its own probe fails
        [QUIET[0] | {"status": "True"}, QUIET[1]],
        [QUIET[0] | {"reason": "ReadinessGatesNotReady"}, QUIET[1]],
    ],
)
def test_a_node_that_answers(conditions: list[dict[str, Any]]) -> None:
    decision = look(KNOWN, seen(running_pod(KNOWN, conditions=conditions)))
    assert of(decision, "Running").reason == "TrainerRunning"


def test_suspend_reaches_a_job_on_a_lost_node() -> None:
    known = job(spec={"suspend": True}, status={"attempts": [running_attempt()]})
    decision = look(known, seen(quiet(), confirmed=frozenset()))
    assert decision.actions == (DeleteChild("job-1", CHILD_UID),)
    leaving = seen(quiet(at(-31)), children=(child(deletionTimestamp=at(-90)),), answers=SHARED)
    assert look(known, leaving).actions == GONE[1:]


def test_a_pod_whose_job_is_gone_is_given_up_too() -> None:
    decision = look(KNOWN, seen(quiet(at(-31)), children=(), answers=SHARED))
    assert decision.actions == GONE[1:]


def test_once_it_is_gone_the_next_attempt_follows_and_the_reason_is_kept() -> None:
    gone = replace(quiet(at(-31)), gone=True)
    decision = look(KNOWN, seen(gone, children=()))
    first, second = decision.status.attempts
    assert (first.outcome, first.reason, first.node) == ("Interrupted", "NodeLost", "node-a")
    assert (second.number, second.end_time) == (2, None)


def test_it_is_told_once() -> None:
    lost = look(KNOWN, seen(quiet()))
    before = TrainingJobStatus.model_validate(KNOWN.status)
    assert [each.reason for each in happenings(before, lost.status, NOW)] == ["NodeLost"]
    later = look(following(lost, KNOWN), seen(quiet(at(-31)), answers=SHARED))
    assert happenings(lost.status, later.status, NOW) == []
