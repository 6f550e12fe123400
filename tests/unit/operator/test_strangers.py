"""Pods that bear our labels without being ours, and ours that have lost their owner."""

from __future__ import annotations

from dataclasses import replace

from kubeseg_operator.decide import Observed
from kubeseg_operator.views import pod_view
from tests.support.operator_decisions import kinds, look, standing
from tests.support.operator_objects import (
    CHILD_UID,
    child,
    job,
    pod,
    raw_pod,
    running_attempt,
    running_pod,
)

KNOWN = job(status={"attempts": [running_attempt()]})


def test_a_strangers_pod_with_our_labels_is_not_ours() -> None:
    stranger = replace(pod(phase="Running"), name="copy", uid="other", child=None)
    seen = Observed(children=(child(),), pods=(running_pod(KNOWN), stranger))
    decision = look(KNOWN, seen)
    assert kinds(decision) == []
    assert standing(decision) == ("Running", "TrainerRunning")


def test_a_strangers_pod_holds_up_no_end() -> None:
    stranger = replace(pod(phase="Running"), name="copy", uid="other", child=None)
    from kubeseg_operator.decide import Ask

    seen = Observed(pods=(stranger,), confirmed=frozenset({Ask.CHILD, Ask.PODS}))
    assert look(KNOWN, seen).status.attempts[0].outcome == "Interrupted"


def test_a_pod_whose_job_was_deleted_without_it_is_still_ours() -> None:
    labels = raw_pod()["metadata"]["labels"] | {"batch.kubernetes.io/controller-uid": CHILD_UID}
    left = pod_view(raw_pod(phase="Running", labels=labels, ownerReferences=[]))
    assert left.child == CHILD_UID
