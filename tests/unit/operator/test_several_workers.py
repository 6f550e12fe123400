"""Several workers: which end is the attempt's, and where a group of pods stands."""

from __future__ import annotations

from typing import Any

import pytest

from kubeseg_operator.cause import nodes_of
from kubeseg_operator.decide import Ask, CreateChild, Decision, EnsureService, Observed
from kubeseg_operator.obstacle import Obstacle
from kubeseg_operator.outcome import Ending, ending
from kubeseg_operator.poller import target_of
from kubeseg_operator.views import JobView, Pod
from kubeseg_types.exit_codes import Outcome
from tests.support.operator_decisions import NO_NODE, kinds, look, of, standing
from tests.support.operator_objects import (
    CHILD_UID,
    UID,
    at,
    attempt,
    child,
    ended_pod,
    job,
    last_words,
    pod,
    progress,
    running_attempt,
    running_pod,
)

# --- how an attempt of several workers ended

EVICTED = [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}]
REMOVED = {"deletionTimestamp": at(62), "deletionGracePeriodSeconds": 60}


def dead(index: int, code: int, seconds: float = -1, **fields: Any) -> Pod:
    """Worker `index`, ended so many seconds after now."""
    ended = ended_pod(code, index=index, **({"node": f"node-{index}"} | fields))
    return _at(ended, seconds)


def _at(ended: Pod, seconds: float) -> Pod:
    raw = {name: getattr(ended, name) for name in ended.__slots__}
    return Pod(**(raw | {"ended_at": at(seconds)}))


def removed(index: int, seconds: float, **fields: Any) -> Pod:
    """Worker `index` as it was last seen: deleted so many seconds after now."""
    meta = {"deletionTimestamp": at(seconds + 60), "deletionGracePeriodSeconds": 60}
    return pod(index=index, gone=True, **(meta | fields))


def end(*pods: Pod, workers: int = 3) -> Ending:
    return ending(child(finished="Failed"), pods, workers=workers)


@pytest.mark.parametrize(
    ("pods", "outcome", "reason", "words"),
    [
        # A worker is killed; its peers end as interrupted, before or after by their nodes' clocks.
        ([dead(0, 75, 2), dead(1, 137, 0), dead(2, 75, 1)], "Failed", "TrainerError", "worker 1"),
        ([dead(0, 75, -9), dead(1, 137, 0), dead(2, 75, 1)], "Failed", "TrainerError", "worker 1"),
        # Killed for memory: the peers' interruption is no more than its echo.
        (
            [dead(0, 75, -3), dead(1, 75, 1), dead(2, 137, 0, reason="OOMKilled")],
            "OutOfMemory",
            "OutOfMemory",
            "worker 2 on node-2: its memory limit was exceeded",
        ),
        # An error of one is the error of all: whose it is, its words say.
        (
            [
                dead(0, 4, 0, message=last_words(4, message="rank 1: the loss became nan")),
                dead(1, 4, 0, message=last_words(4, message="the loss became nan")),
                dead(2, 4, 0, message=last_words(4, message="rank 1: the loss became nan")),
            ],
            "Permanent",
            "NonFiniteLoss",
            "worker 1 on node-1: the loss became nan",
        ),
        (
            [dead(0, 1, 0, message=last_words(1, message="rank 1: no route")), dead(2, 75, 0)],
            "Failed",
            "TrainerError",
            "rank 1: no route",
        ),
        # What would happen again counts, even where another was evicted before.
        (
            [dead(0, 3, 5), dead(1, 75, 0, conditions=EVICTED)],
            "Permanent",
            "InvalidDataset",
            "worker 0",
        ),
        # Evicted: a peer that crashed after it did so because of it, one before it did not.
        (
            [dead(0, 134, 5), dead(1, 137, 0, conditions=EVICTED)],
            "Interrupted",
            "EvictionByEvictionAPI",
            "worker 1",
        ),
        (
            [dead(0, 134, 0), dead(1, 137, 5, conditions=EVICTED)],
            "Failed",
            "TrainerError",
            "worker 0",
        ),
        # A pod deleted by hand; those the Job controller removes after it were deleted later.
        (
            [dead(0, 75, 1), removed(1, 0), dead(2, 137, 30, **REMOVED)],
            "Interrupted",
            "PodDeleted",
            "worker 1 on node-a: its pod was deleted",
        ),
        (
            [dead(0, 75, 1), dead(1, 75, 1, deletionTimestamp=at(60), gone=True,
                                  deletionGracePeriodSeconds=60)],
            "Interrupted",
            "Interrupted",
            "worker 1",
        ),
        # Both deleted within one second, the API server tells in which order.
        (
            [dead(0, 75, 1, **(REMOVED | {"resourceVersion": "8"})),
             dead(1, 75, 1, **(REMOVED | {"resourceVersion": "7"}))],
            "Interrupted",
            "Interrupted",
            "worker 1 on node-1",
        ),
        # It waited for the others in vain; they are removed because it ended.
        (
            [dead(0, 75, 0, message=last_words(75, message="1 of 3 are here")), removed(2, 0)],
            "Interrupted",
            "Interrupted",
            "worker 0 on node-0: 1 of 3 are here",
        ),
        # A failure during which a pod was still waiting for a node.
        ([dead(0, 1, 0), pod(index=1), removed(2, 0)], "Failed", "TrainerError", "worker 0"),
        # All that is left of one tells of success; the Job failed, so another was taken away.
        ([dead(0, 0, 0)], "Interrupted", "JobFailed", "worker 0"),
        ([], "Interrupted", "PodDeleted", "its pod was deleted"),
    ],
)  # fmt: skip
def test_whose_end_it_is(pods: list[Pod], outcome: str, reason: str, words: str) -> None:
    for order in (pods, pods[::-1]):
        found = end(*order)
        assert (found.outcome, found.reason) == (Outcome(outcome), reason)
        assert words in found.message


def test_rank_0_alone_tells_of_the_run() -> None:
    lead = last_words(75, epoch=7, message="rank 1: has died")
    helper = last_words(78, epoch=0)
    found = end(dead(0, 75, message=lead), dead(1, 78, message=helper))
    assert found.outcome is Outcome.OUT_OF_MEMORY
    assert found.told is not None
    assert found.told.epoch == 7
    assert end(dead(1, 78, message=helper)).told is None
    assert found.time == at(-1)


def test_a_complete_job_is_told_by_rank_0() -> None:
    lead = last_words(0, epoch=12)
    found = ending(child(finished="Complete"), [dead(1, 0), dead(0, 0, message=lead)], workers=2)
    assert found.outcome is Outcome.SUCCEEDED
    assert found.told is not None
    assert found.told.epoch == 12


def test_nodes() -> None:
    pods = [pod(index=n, node=f"n{n % 2}") for n in (2, 0, 1)] + [pod(index=3, node=None)]
    assert nodes_of(pods) == "n0,n1"
    assert nodes_of([]) is None
    many = nodes_of(pod(index=n, node="x" * 60 + str(n)) for n in range(9))
    assert many is not None
    assert len(many) == 253


# --- where a group stands

SPEC = {"workers": 3}
BASE = {"startTime": at(-40), "attempts": [attempt()]}


def three(**status: Any) -> JobView:
    return job(spec=SPEC, status={**BASE, **status})


def worker(index: int, **fields: Any) -> Pod:
    return running_pod(three(), index=index, **({"node": f"node-{index}"} | fields))


def unborn(index: int, **fields: Any) -> Pod:
    return worker(index, **({"phase": "Pending", "state": None} | fields))


def seen(*pods: Pod, confirmed: set[Ask] | None = None, **fields: Any) -> Observed:
    fields = {"started": at(-10)} | fields
    return Observed(children=(child(**fields),), pods=pods, confirmed=frozenset(confirmed or set()))


def test_service_and_job_are_made_in_this_order() -> None:
    decision = look(three())
    assert kinds(decision) == ["EnsureService", "CreateChild"]
    service, made = decision.actions
    assert isinstance(service, EnsureService)
    assert isinstance(made, CreateChild)
    assert service.manifest["metadata"]["ownerReferences"][0]["uid"] == UID
    assert made.manifest["spec"]["completions"] == made.manifest["spec"]["parallelism"] == 3


def test_one_worker_needs_no_service() -> None:
    assert kinds(look(job(status=BASE))) == ["CreateChild"]


def test_a_service_that_cant_be_had_is_said() -> None:
    taken = Obstacle("NameTaken", "Service kubeseg-job is there already")
    decision = look(three(), Observed(refusal=taken))
    assert standing(decision) == ("Blocked", "NameTaken")
    assert decision.actions == ()


BACK_OFF = {"waiting": {"reason": "ImagePullBackOff", "message": "manifest not found"}}
UNSCHEDULABLE = {"conditions": [NO_NODE], "node": None}
SCHEDULED = {"type": "PodScheduled", "status": "True", "lastTransitionTime": at(-5)}


@pytest.mark.parametrize(
    ("pods", "expected", "words", "column"),
    [
        ([worker(0), worker(1), worker(2)], ("Running", "TrainerRunning"), "node-0,node-1", "3/3"),
        ([worker(0), worker(1), unborn(2, conditions=[SCHEDULED])], ("Starting", "Starting"), "",
         None),
        (
            [worker(0), worker(1), unborn(2, **UNSCHEDULABLE)],
            ("Blocked", "Unschedulable"),
            "2 of 3 workers run; worker 2: needs 1 CPU",
            "2/3",
        ),
        (
            [unborn(0), unborn(1, state=BACK_OFF), unborn(2, **UNSCHEDULABLE)],
            ("Blocked", "ImagePull"),
            "0 of 3 workers run; worker 1: image",
            "0/3",
        ),
        # A pod that isn't made yet keeps nobody from telling of one that is held up.
        (
            [worker(1), unborn(2, **UNSCHEDULABLE)],
            ("Blocked", "Unschedulable"),
            "1 of 3 workers run; worker 2",
            "1/3",
        ),
    ],
)  # fmt: skip
def test_where_a_group_stands(
    pods: list[Pod], expected: tuple[str, str], words: str, column: str | None
) -> None:
    decision = look(three(), seen(*pods, confirmed={Ask.POD_EVENTS}))
    assert standing(decision) == expected
    told = of(decision, "Blocked" if expected[0] == "Blocked" else "Running").message
    assert words in told
    summary = decision.status.summary
    assert (summary.workers if summary else None) == column


def test_a_pod_that_cant_be_made_is_said() -> None:
    question = look(three(), seen(worker(0), worker(2)))
    assert question.ask is Ask.CHILD_EVENTS
    events = ({"reason": "FailedCreate", "message": "exceeded quota: cpu"},)
    known = Observed(
        children=(child(started=at(-10)),),
        pods=(worker(0), worker(2)),
        events=events,
        confirmed=frozenset({Ask.CHILD_EVENTS}),
    )
    decision = look(three(), known)
    assert standing(decision) == ("Blocked", "Quota")
    assert "2 of 3 workers run; worker 1: the namespace's quota" in of(decision, "Blocked").message


def test_the_attempt_begins_when_the_last_worker_runs() -> None:
    late = {"running": {"startedAt": at(-3)}}
    decision = look(three(), seen(worker(0), worker(1, state=late), worker(2)))
    (begun,) = decision.status.attempts
    assert (begun.start_time, begun.node) == (at(-3), "node-0,node-1,node-2")


def test_a_changed_configuration_goes_to_every_live_pod() -> None:
    old = three()
    pods = [worker(0), worker(1), worker(2, config="{}")]
    assert kinds(look(old, seen(*pods))) == ["PatchConfig"]
    edited = job(spec=SPEC, status=BASE, generation=2)
    assert kinds(look(edited, seen(*pods))) == ["PatchConfig"] * 3


@pytest.mark.parametrize(
    ("started", "known", "expected"),
    [
        (-10, {}, []),  # they have had no time yet
        (-100, {}, ["EnsureService"]),
        (-1000, {}, []),  # they met, and the operator can't ask them, or have ended by now
        (-100, {"startEpoch": 0}, []),
    ],
)
def test_the_service_is_looked_at_while_workers_have_not_met(
    started: float, known: dict[str, Any], expected: list[str]
) -> None:
    attempts = [running_attempt(**({"startTime": at(started)} | known))]
    decision = look(three(attempts=attempts), seen(worker(0), worker(1), worker(2)))
    assert kinds(decision) == expected


def test_the_service_is_looked_at_without_anything_else_happening() -> None:
    """Nothing else brings a visit while workers wait for each other."""
    attempts = [running_attempt(startTime=at(-4))]
    decision = look(three(attempts=attempts), seen(worker(0), worker(1), worker(2)))
    assert (kinds(decision), decision.requeue_after) == ([], 11)


def test_a_service_taken_away_and_taken_by_another_is_said() -> None:
    taken = Observed(
        children=(child(),),
        pods=(worker(0), worker(1), worker(2)),
        refusal=Obstacle("NameTaken", "Service kubeseg-job isn't ours"),
    )
    assert standing(look(three(), taken)) == ("Blocked", "NameTaken")


def test_all_pods_are_asked_for_before_an_end_is_judged() -> None:
    """The store may know the peers' ends, and not yet that of the one they followed."""
    known = three(attempts=[running_attempt()], progress=progress(4))
    partly = seen(dead(0, 75), dead(1, 75), worker(2), finished="Failed")
    assert look(known, partly).ask is Ask.PODS
    every = (dead(0, 75), dead(1, 75), dead(2, 1))
    whole = seen(*every, finished="Failed", started=at(-30))
    decision = look(known, whole)
    assert decision.ask is None
    assert decision.status.attempts[0].outcome == "Failed"


def test_a_pod_from_before_a_suspension_tells_nothing_of_the_end() -> None:
    """Somebody suspended the Job and let it go on; its new pods are not known yet."""
    known = three(attempts=[running_attempt()], progress=progress(4))
    every = (dead(0, 75), dead(1, 75), dead(2, 75))
    assert look(known, seen(*every, finished="Complete", started=at(-9))).ask is Ask.PODS


def test_a_deleted_worker_ends_the_attempt_and_all_start_again() -> None:
    known = three(attempts=[running_attempt()], progress=progress(4))
    left = seen(dead(0, 75), removed(1, -2), dead(2, 75), finished="Failed", confirmed={Ask.PODS})
    decision = look(known, left)
    first, second = decision.status.attempts
    assert (first.outcome, first.reason, first.epoch) == ("Interrupted", "PodDeleted", 4)
    assert first.node == "node-0,node-a,node-2"
    assert second.number == 2
    assert decision.status.retry is None or decision.status.retry.failures == 0


def test_a_group_that_begins_to_end_is_left_alone() -> None:
    known = three(attempts=[running_attempt()], phase="Running")
    decision: Decision = look(known, seen(worker(0), dead(1, 137), worker(2)))
    assert (decision.actions, str(decision.status.phase)) == ((), "Running")


def test_rank_0_is_asked_for_progress() -> None:
    newer = at(-1)
    pods = (worker(0), worker(1, creationTimestamp=newer), worker(2, creationTimestamp=newer))
    target = target_of(UID, 1, pods, child=CHILD_UID)
    assert target is not None
    assert target.pod == pods[0].uid
    assert target_of(UID, 1, pods[1:], child=CHILD_UID) is None
