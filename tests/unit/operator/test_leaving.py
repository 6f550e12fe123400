"""The end of a TrainingJob whose run goes with it: what is seen → what is done."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kubeseg_operator.decide import (
    Ask,
    CreateChild,
    Decision,
    DeleteChild,
    Observed,
    SetFinalizers,
)
from kubeseg_operator.obstacle import Obstacle
from kubeseg_operator.story import happenings
from kubeseg_operator.views import Child, JobView, Pod, child_view, pod_view
from kubeseg_types.names import FINALIZER_ARTIFACTS, LABEL_CLEANUP_OF
from kubeseg_types.status import TrainingJobStatus
from tests.support.operator_decisions import NO_NODE, following, kinds, look, of
from tests.support.operator_objects import (
    CHILD_UID,
    NOW,
    RUNNING,
    UID,
    at,
    child,
    condition,
    ended_attempt,
    ended_pod,
    job,
    last_words,
    raw_child,
    raw_pod,
    running_attempt,
    running_pod,
    terminated,
)

OURS = FINALIZER_ARTIFACTS
DELETE = {"artifacts": {"onDelete": "Delete"}}
ALL_READ = frozenset({Ask.PODS, Ask.CHILD, Ask.CHECK, Ask.CLEANUP})
RUN = f'runs/job/{UID} in the workspace claim "kubeseg-workspace"'
CLEANUP_UID = "44444444-0000-0000-0000-000000000001"


def leaving(status: dict[str, Any] | None = None, since: float = -10, **wanted: Any) -> JobView:
    """A TrainingJob that is being deleted for so many seconds, with our finalizer."""
    meta = {"finalizers": ["other.example/x", OURS], "deletionTimestamp": at(since)}
    return job(status=status or {}, **({"spec": DELETE} | meta | wanted))


def cleanup(**wanted: Any) -> Child:
    """The clean-up's Job."""
    labels = {"kubeseg.dev/job": "job", LABEL_CLEANUP_OF: UID}
    known = {"name": "job-cleanup1", "uid": CLEANUP_UID, "owner": None, "labels": labels}
    return child_view(raw_child(**(known | wanted)))


def pod(**wanted: Any) -> Pod:
    """The clean-up's pod."""
    labels = {"kubeseg.dev/job": "job"}
    return pod_view(
        raw_pod(name="job-cleanup1-x", uid="p", labels=labels, child_uid=CLEANUP_UID, **wanted)
    )


def record(number: int = 1, **fields: Any) -> dict[str, Any]:
    """The clean-up in status, under way unless told otherwise."""
    return {"number": number, "jobName": f"job-cleanup{number}", "reservedTime": at(-20)} | fields


def cleaning(**fields: Any) -> JobView:
    """A TrainingJob whose clean-up is under way."""
    known = record(**({"uid": CLEANUP_UID} | fields))
    return leaving({"attempts": [ended_attempt()], "cleanup": known})


def result(decision: Decision) -> tuple[int, str | None]:
    """Number and outcome of the clean-up."""
    found = decision.status.cleanup
    assert found is not None
    return found.number, str(found.outcome) if found.outcome else None


def let_go(decision: Decision) -> bool:
    """Whether the finalizer goes, and nobody else's does."""
    wanted = [a.finalizers for a in decision.actions if isinstance(a, SetFinalizers)]
    assert wanted in ([], [("other.example/x",)])
    return bool(wanted)


# --- the finalizer comes and goes with the wish


@pytest.mark.parametrize(
    ("spec", "there", "wanted"),
    [
        (DELETE, ["a"], ("a", OURS)),
        (DELETE, [], (OURS,)),
        ({}, ["a", OURS, "b"], ("a", "b")),
        (DELETE | {"suspend": True}, [], (OURS,)),
    ],
)
@pytest.mark.parametrize(
    "status", [{}, {"attempts": [running_attempt()]}, {"conditions": [condition("Complete")]}]
)
def test_it_is_put_right_before_anything_else_is_done(
    spec: dict[str, Any], there: list[str], wanted: tuple[str, ...], status: dict[str, Any]
) -> None:
    decision = look(job(spec=spec, status=status, finalizers=there))
    assert decision.actions == (SetFinalizers(UID, "100", wanted),)
    assert decision.status.to_dict() == TrainingJobStatus.model_validate(status).to_dict()


@pytest.mark.parametrize(("spec", "there"), [(DELETE, ["a", OURS]), ({}, []), ({}, ["a"])])
def test_where_it_is_right_it_is_left_alone(spec: dict[str, Any], there: list[str]) -> None:
    assert look(job(spec=spec, finalizers=there)).actions == ()


# --- a deletion that needs no clean-up


def test_without_our_finalizer_nothing_is_done() -> None:
    known = leaving({"attempts": [running_attempt()]}, finalizers=["other.example/x"])
    decision = look(known, Observed(children=(child(),)))
    assert decision.actions == ()
    assert decision.status == TrainingJobStatus.model_validate(known.status)


@pytest.mark.parametrize(
    "known",
    [
        leaving(),  # no pod was ever asked for
        leaving({"attempts": [running_attempt()]}, spec={}),  # edited back to Retain
        leaving({"phase": "Nonsense"}),  # written by somebody else
        leaving({"attempts": [ended_attempt()], "cleanup": record(outcome="Removed")}),
        leaving({"attempts": [ended_attempt()], "cleanup": record(outcome="Left")}),
    ],
)
def test_it_is_let_go_at_once(known: JobView) -> None:
    decision = look(known)
    assert let_go(decision)
    assert kinds(decision) == ["SetFinalizers"]


# --- first the attempt ends


def test_the_attempt_gets_sigterm_and_is_waited_for() -> None:
    known = leaving({"attempts": [running_attempt()]})
    pods = (running_pod(known),)
    first = look(known, Observed(children=(child(),), pods=pods))
    assert first.actions == (DeleteChild("job-1", CHILD_UID),)
    assert str(first.status.phase) == "Deleting"
    going = Observed(children=(child(deletionTimestamp=at(-5)),), pods=pods)
    second = look(following(first, known), going)
    assert (second.actions, second.status) == ((), first.status)
    alone = Observed(pods=pods)
    assert look(known, alone).ask is Ask.PODS
    assert look(known, Observed(pods=pods, confirmed=ALL_READ)).status.cleanup is None


@pytest.mark.parametrize(
    ("status", "questions"),
    [
        ({"attempts": [running_attempt()]}, {Ask.PODS, Ask.CHILD}),
        ({"attempts": [ended_attempt()]}, {Ask.PODS}),
        ({"preflight": {"number": 1, "jobName": "job-check1"}}, {Ask.PODS, Ask.CHECK}),
    ],
)
def test_that_nothing_runs_any_more_is_read_live(
    status: dict[str, Any], questions: set[Ask]
) -> None:
    known, asked = leaving(status), set[Ask]()
    while question := look(known, Observed(confirmed=frozenset(asked))).ask:
        asked.add(question)
    assert asked == questions


def test_what_has_long_been_told_to_run_is_looked_at_again() -> None:
    status = {"attempts": [running_attempt()]}
    seen = Observed(children=(child(),))
    assert look(leaving(status, since=-80), seen).ask is None
    assert look(leaving(status, since=-90), seen).ask is Ask.PODS


@pytest.mark.parametrize(
    ("status", "reason"),
    [({"attempts": [running_attempt()]}, "Deleted"), ({"attempts": [ended_attempt()]}, None)],
)
def test_then_the_clean_up_is_reserved(status: dict[str, Any], reason: str | None) -> None:
    known = leaving(status)
    decision = look(known, Observed(confirmed=ALL_READ))
    assert result(decision) == (1, None)
    assert kinds(decision) == []
    if reason:
        assert decision.status.attempts[0].reason == reason
    made = look(following(decision, known), Observed(confirmed=ALL_READ))
    (create,) = made.actions
    assert isinstance(create, CreateChild)
    assert create.manifest["metadata"]["name"] == "job-cleanup1"
    assert made.status == decision.status


def test_a_pod_on_a_lost_node_holds_it_up_for_ten_minutes() -> None:
    status = {"attempts": [running_attempt()]}
    lost = running_pod(job(), deletionTimestamp=at(-500))
    seen = Observed(pods=(lost,), confirmed=ALL_READ)
    assert look(leaving(status, since=-599), seen).status.cleanup is None
    decision = look(leaving(status, since=-600), seen)
    assert result(decision) == (0, "Left")
    assert decision.status.cleanup is not None
    assert decision.status.cleanup.message == (
        f"{RUN} is left there: {lost.name} has not ended within 600 s"
    )


def test_a_run_is_not_left_because_a_watch_has_not_told_that_all_has_ended() -> None:
    status = {"attempts": [running_attempt()]}
    seen = Observed(children=(child(),))
    assert look(leaving(status, since=-600), seen).ask is not None
    assert result(look(leaving(status, since=-600), replace(seen, confirmed=ALL_READ)))[1] == "Left"


# --- the clean-up


def done(code: int = 0, message: str = "", **fields: Any) -> Observed:
    state = terminated(code, message=message)
    finished = "Failed" if code else "Complete"
    return Observed(
        children=(cleanup(finished=finished),),
        pods=(pod(phase="Failed" if code else "Succeeded", state=state),),
        **fields,
    )


NO_CLAIM = NO_NODE | {"message": 'persistentvolumeclaim "kubeseg-workspace" not found'}
LEAVING_CLAIM = NO_NODE | {"message": 'persistentvolumeclaim "kubeseg-workspace" is being deleted'}
UNBOUND = NO_NODE | {"message": "pod has unbound immediate PersistentVolumeClaims"}
WAITING = {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}
STUCK = pod(state=WAITING)


@pytest.mark.parametrize(
    ("known", "seen", "after", "expected", "words"),
    [
        (cleaning(), done(), 0, (1, "Removed"), f"{RUN} was removed"),
        (cleaning(), done(79), 0, (2, None), ""),
        (cleaning(number=2), done(1), 0, (3, None), ""),
        (
            cleaning(number=3, jobName="job-cleanup3"),
            done(79, last_words(79, message="no room")),
            0,
            (3, "Left"),
            f"{RUN} is left there: 3 clean-up Jobs failed, the last one: no room",
        ),
        (
            cleaning(),
            done(2, last_words(2, message="runs is a link")),
            0,
            (1, "Left"),
            f"{RUN} is left there: runs is a link",
        ),
        (cleaning(), Observed(confirmed=ALL_READ), 0, (2, None), ""),
        (  # its Job was taken away before anyone looked
            cleaning(),
            Observed(pods=(pod(phase="Succeeded", state=terminated(0)),), confirmed=ALL_READ),
            0,
            (1, "Removed"),
            f"{RUN} was removed",
        ),
        (
            cleaning(),
            Observed(children=(cleanup(),), pods=(pod(conditions=[NO_CLAIM], node=None),)),
            0,
            (1, "Left"),
            "is not there",
        ),
        (
            cleaning(),
            Observed(children=(cleanup(),), pods=(pod(conditions=[LEAVING_CLAIM], node=None),)),
            0,
            (1, "Left"),
            "is being deleted",
        ),
        (
            cleaning(),
            Observed(
                children=(cleanup(),),
                pods=(pod(conditions=[UNBOUND], node=None),),
                confirmed=frozenset({Ask.CLAIM, Ask.CLAIM_EVENTS}),
            ),
            0,
            (1, "Left"),
            "is not bound to a volume",
        ),
        (
            cleaning(),
            Observed(children=(cleanup(),), pods=(STUCK,), confirmed=frozenset({Ask.POD_EVENTS})),
            200,
            (1, None),
            "",
        ),
        (
            cleaning(),
            Observed(children=(cleanup(),), pods=(STUCK,), confirmed=frozenset({Ask.POD_EVENTS})),
            300,
            (1, "Left"),
            "no clean-up Job could start within 300 s: image",
        ),
        (
            cleaning(),
            Observed(children=(cleanup(),), pods=(pod(phase="Running", state=RUNNING),)),
            9999,
            (1, None),
            "",
        ),
        (
            cleaning(uid=None),
            Observed(refusal=Obstacle("NamespaceLeaving", "…")),
            0,
            (1, "Left"),
            "its namespace is being deleted",
        ),
        (cleaning(uid=None), Observed(refusal=Obstacle("Quota", "used up")), 0, (1, None), ""),
        (
            cleaning(uid=None),
            Observed(refusal=Obstacle("Quota", "used up")),
            300,
            (1, "Left"),
            "no clean-up Job could be made: used up",
        ),
    ],
)
def test_where_the_clean_up_stands(
    known: JobView, seen: Observed, after: float, expected: tuple[int, str | None], words: str
) -> None:
    decision = look(known, seen, after=after)
    assert result(decision) == expected
    assert not let_go(decision)
    if expected[1]:
        assert decision.status.cleanup is not None
        assert words in (decision.status.cleanup.message or "")
        assert "resumed" not in (decision.status.cleanup.message or "")
        (told,) = happenings(TrainingJobStatus.model_validate(known.status), decision.status, NOW)
        assert told.kind == ("Normal" if expected[1] == "Removed" else "Warning")
        assert told.message == decision.status.cleanup.message


@pytest.mark.parametrize(
    ("known", "question"),
    [(cleaning(), Ask.CLEANUP), (cleaning(uid=None), None)],
)
def test_a_clean_up_that_is_gone_is_looked_for_first(known: JobView, question: Ask | None) -> None:
    assert look(known).ask is question


def test_the_words_of_its_pod_are_read_live() -> None:
    assert look(cleaning(), Observed(children=(cleanup(finished="Failed"),))).ask is Ask.PODS


def test_in_the_end_its_job_is_taken_away_and_the_finalizer() -> None:
    known = cleaning()
    removed = look(known, done())
    decision = look(following(removed, known), done())
    assert decision.actions == (DeleteChild("job-cleanup1", CLEANUP_UID),)
    assert decision.requeue_after == 1
    going = Observed(children=(cleanup(finished="Complete", deletionTimestamp=at(0)),))
    decision = look(following(removed, known), going)
    assert let_go(decision)
    assert kinds(decision) == ["SetFinalizers"]


def test_how_a_finished_job_ended_stays_in_its_status() -> None:
    status = {
        "phase": "Succeeded",
        "attempts": [ended_attempt(outcome="Succeeded")],
        "conditions": [condition("Complete")],
    }
    decision = look(leaving(status), Observed(confirmed=ALL_READ))
    assert str(decision.status.phase) == "Succeeded"
    assert of(decision, "Complete").status == "True"
    assert decision.status.summary is not None
    assert decision.status.summary.why == f"is being deleted: {RUN} is being removed"


def test_a_late_attempt_is_ended_beside_the_clean_up() -> None:
    seen = Observed(children=(cleanup(), child()), pods=(pod(phase="Running", state=RUNNING),))
    assert DeleteChild("job-1", CHILD_UID) in look(cleaning(), seen).actions


def test_a_clean_up_that_an_old_status_does_not_know_is_left_alone() -> None:
    seen = Observed(children=(cleanup(),), confirmed=ALL_READ)
    decision = look(leaving({"attempts": [ended_attempt()]}), seen)
    assert "DeleteChild" not in kinds(decision)


def test_a_suspended_job_that_is_deleted_is_not_told_as_resumed() -> None:
    status = {"attempts": [ended_attempt()], "conditions": [condition("Suspended")]}
    decision = look(leaving(status), Observed(confirmed=ALL_READ))
    told = happenings(TrainingJobStatus.model_validate(status), decision.status, NOW)
    assert told == []


def test_a_pod_that_has_ended_holds_nothing_up() -> None:
    known = leaving({"attempts": [running_attempt()]})
    seen = Observed(children=(child(finished="Failed"),), pods=(ended_pod(1),), confirmed=ALL_READ)
    assert result(look(known, seen)) == (1, None)


def test_a_job_that_others_hold_does_not_hold_up_the_folder() -> None:
    """Somebody's finalizer keeps it, and it makes no more pods."""
    meta = {"deletionTimestamp": at(-35), "finalizers": ["foregroundDeletion", "example.com/hold"]}
    held = Observed(children=(child(**meta),), confirmed=ALL_READ)
    known = {"attempts": [running_attempt()], "phase": "Running"}
    early = look(leaving(known, since=-20), held)
    assert (early.status.cleanup, early.requeue_after) == (None, 10)
    decision = look(leaving(known, since=-40), held)
    assert result(decision) == (1, None)
    (ended,) = decision.status.attempts
    assert (ended.outcome, ended.reason) == ("Interrupted", "Deleted")
