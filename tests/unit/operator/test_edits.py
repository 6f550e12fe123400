"""Changes of what pods are made of: they reach an attempt that has not begun, and then the next."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kubeseg_operator.builders import child_job
from kubeseg_operator.decide import Ask, Observed
from kubeseg_operator.errands import check_job
from kubeseg_operator.views import JobView, Raw
from kubeseg_types.spec import TrainingJobSpec
from tests.support.operator_decisions import SETTINGS, following, kinds, look, of, pending, standing
from tests.support.operator_objects import (
    CHILD_UID,
    at,
    attempt,
    child,
    job,
    raw_child,
    running_attempt,
    running_pod,
)

WAITING: Raw = {"attempts": [attempt(uid=CHILD_UID)], "phase": "Blocked"}
RUNNING: Raw = {"attempts": [running_attempt(startEpoch=0)], "phase": "Running"}


def known(status: Raw, generation: int = 2, **spec: Any) -> JobView:
    return job(spec=spec, status=status, generation=generation)


def template_of(spec: Raw) -> dict[str, str]:
    """The annotations of a Job that was made of this spec."""
    made_of = job(spec=spec)
    wanted = TrainingJobSpec.model_validate(made_of.spec)
    manifest = child_job(made_of, wanted, attempt=1, image=SETTINGS.image)
    return dict(manifest["metadata"]["annotations"])


def seen(*pods: Any, of_spec: Raw | None = None, **fields: Any) -> Observed:
    made = child(annotations=template_of(of_spec or {}), **fields)
    return Observed(children=(made,), pods=pods, confirmed=frozenset({Ask.PODS}))


@pytest.mark.parametrize(
    "changed",
    [
        {"resources": {"gpus": 1}},
        {"image": "mine:2"},
        {"schedulerName": "volcano"},
        {"env": [{"name": "A", "value": "b"}]},
        {"podLabels": {"team": "a"}},
        {"priorityClassName": "high"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_an_attempt_that_has_not_begun_is_made_anew(changed: Raw) -> None:
    waiting = known(WAITING, **changed)
    # The store may not have heard yet that it trains.
    assert look(waiting, replace(seen(pending()), confirmed=frozenset())).ask is Ask.PODS
    decision = look(waiting, seen(pending()))
    assert kinds(decision) == ["DeleteChild"]
    assert standing(decision) == ("Starting", "Ending")
    assert "made anew" in of(decision, "Running").message
    # Its Job is gone: the next attempt is made of the changed spec, and it counts as no failure.
    gone = Observed(confirmed=frozenset({Ask.CHILD, Ask.PODS}))
    after = look(following(decision, waiting), gone)
    first, second = after.status.attempts
    assert (first.outcome, first.reason) == ("Interrupted", "SpecChanged")
    assert (second.number, second.end_time) == (2, None)
    assert after.status.retry is None or after.status.retry.failures == 0


def test_it_waits_until_the_jobs_uid_is_in_status() -> None:
    """A Job deleted before looks, after a crash, like one that was never made."""
    unnoted = {"attempts": [attempt()], "phase": "Starting"}
    decision = look(known(unnoted, image="mine:2"), seen(pending()))
    assert "DeleteChild" not in kinds(decision)
    assert decision.status.attempts[0].uid == CHILD_UID


@pytest.mark.parametrize(
    ("status", "spec", "of_spec"),
    [
        (WAITING, {}, {}),  # what has changed makes no other pods
        (WAITING, {"image": "mine:2"}, {"image": "mine:2"}),
    ],
)
def test_else_it_is_left_alone(status: Raw, spec: Raw, of_spec: Raw) -> None:
    decision = look(known(status, **spec), seen(pending(), of_spec=of_spec))
    assert "DeleteChild" not in kinds(decision)


def test_a_job_from_before_there_was_a_hash_is_left_alone() -> None:
    assert not raw_child()["metadata"].get("annotations")
    seen_so = Observed(children=(child(),), pods=(pending(),))
    assert "DeleteChild" not in kinds(look(known(WAITING, image="mine:2"), seen_so))


def test_a_running_one_goes_on_and_says_when_it_counts() -> None:
    running = known(RUNNING, resources={"memory": "16Gi"})
    decision = look(running, seen(running_pod(running)))
    assert kinds(decision) == []
    words = of(decision, "Running").message
    assert "its pods are those of an older spec" in words
    assert "takes it up" not in words


def test_of_several_workers_none_has_begun_before_all_have() -> None:
    waiting = known(WAITING, workers=2, resources={"gpus": 1})
    first = running_pod(waiting, state={"running": {"startedAt": at(-5)}})
    decision = look(waiting, seen(first, pending(index=1), of_spec={"workers": 2}))
    assert kinds(decision) == ["DeleteChild"]


def test_a_check_that_waits_is_made_anew() -> None:
    spec: dict[str, Any] = {"resources": {"gpus": 1}, "preflight": "Auto"}
    before = job(spec=spec)
    wanted = TrainingJobSpec.model_validate(before.spec)
    made = check_job(before, wanted, number=1, image=SETTINGS.image)["metadata"]["annotations"]
    record = {"number": 1, "jobName": "job-check-1", "uid": CHILD_UID, "reservedTime": at(-30)}
    waiting = known({"preflight": record, "phase": "Checking"}, **spec, image="mine:2")
    check = child(name="job-check-1", labels={"kubeseg.dev/job": "job"}, annotations=made)
    decision = look(waiting, Observed(children=(check,)))
    assert kinds(decision) == ["DeleteChild"]
    assert standing(decision) == ("Checking", "Ending")
