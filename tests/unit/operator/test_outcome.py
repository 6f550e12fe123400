"""Each row: what is left of an attempt → how it ended."""

from __future__ import annotations

from typing import Any

import pytest

from kubeseg_operator.outcome import (
    clip,
    ending,
    explained,
    read_termination,
    tail,
    unexplained,
)
from kubeseg_types.exit_codes import Outcome
from tests.support.operator_objects import POD_UID, child, ended_pod, last_words, pod

DISRUPTED = [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}]


@pytest.mark.parametrize(
    ("code", "fields", "expected"),
    [
        (0, {}, (Outcome.INTERRUPTED, "JobFailed")),  # ended well, yet the Job failed
        (1, {}, (Outcome.FAILED, "TrainerError")),
        (2, {}, (Outcome.PERMANENT, "InvalidConfiguration")),
        (3, {}, (Outcome.PERMANENT, "InvalidDataset")),
        (4, {}, (Outcome.PERMANENT, "NonFiniteLoss")),
        (75, {}, (Outcome.INTERRUPTED, "Interrupted")),
        (76, {}, (Outcome.INTERRUPTED, "Superseded")),
        (77, {}, (Outcome.FAILED, "Stalled")),
        (78, {}, (Outcome.OUT_OF_MEMORY, "OutOfMemory")),
        (79, {}, (Outcome.FAILED, "StorageError")),
        (42, {}, (Outcome.FAILED, "TrainerError")),
        (127, {"reason": "StartError"}, (Outcome.FAILED, "StartError")),
        (137, {}, (Outcome.FAILED, "TrainerError")),
        (137, {"reason": "OOMKilled"}, (Outcome.OUT_OF_MEMORY, "OutOfMemory")),
        (1, {"reason": "OOMKilled"}, (Outcome.OUT_OF_MEMORY, "OutOfMemory")),
        (77, {"reason": "OOMKilled"}, (Outcome.OUT_OF_MEMORY, "OutOfMemory")),
        # The kernel has killed a loader process; the trainer coped, and ended for another reason.
        (75, {"reason": "OOMKilled"}, (Outcome.INTERRUPTED, "Interrupted")),
        (3, {"reason": "OOMKilled"}, (Outcome.PERMANENT, "InvalidDataset")),
        (137, {"conditions": DISRUPTED}, (Outcome.INTERRUPTED, "EvictionByEvictionAPI")),
        (1, {"conditions": DISRUPTED}, (Outcome.INTERRUPTED, "EvictionByEvictionAPI")),
        (3, {"conditions": DISRUPTED}, (Outcome.PERMANENT, "InvalidDataset")),
        (143, {"deletionTimestamp": "x"}, (Outcome.INTERRUPTED, "PodDeleted")),
        (137, {"gone": True}, (Outcome.INTERRUPTED, "PodDeleted")),
        (3, {"gone": True}, (Outcome.PERMANENT, "InvalidDataset")),
    ],
)
def test_exit_codes(code: int, fields: dict[str, Any], expected: tuple[Outcome, str]) -> None:
    end = ending(child(finished="Failed"), [ended_pod(code, **fields)])
    assert (end.outcome, end.reason, end.exit_code) == (*expected, code)


def told(reason: str, message: str, uid: str = POD_UID) -> dict[str, Any]:
    return {"reason": reason, "message": message, "involvedObject": {"uid": uid}}


KILLED = told("Killing", "Stopping container trainer")
MUTE = told("Unhealthy", "Liveness probe failed: Get: context deadline exceeded")


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        ([KILLED, MUTE], "Stalled"),
        ([told("Started", "Container started"), MUTE, KILLED], "Stalled"),
        ([MUTE], "TrainerError"),  # it did answer again, and was killed by somebody on its node
        ([KILLED], "TrainerError"),
        ([KILLED, told("Unhealthy", "Readiness probe failed: no")], "TrainerError"),
        ([KILLED, MUTE | {"involvedObject": {"uid": "another"}}], "TrainerError"),
        ([{"reason": "Killing"}, {"reason": "Unhealthy", "message": None}], "TrainerError"),
    ],
)
def test_the_kubelet_tells_of_a_trainer_that_it_had_killed(
    events: list[dict[str, Any]], reason: str
) -> None:
    dead = ended_pod(137, message="batch 16\nbatch 17\n")
    assert unexplained([dead]) == [dead]
    end = ending(child(finished="Failed"), explained([dead], events))
    assert (end.outcome, end.reason, end.exit_code) == (Outcome.FAILED, reason, 137)
    assert end.message.endswith("killed by SIGKILL. Its last lines: batch 16 | batch 17")
    assert ("liveness probe" in end.message) == (reason == "Stalled")


@pytest.mark.parametrize(
    ("code", "fields"),
    [
        (1, {}),
        (0, {}),
        (137, {"reason": "OOMKilled"}),
        (137, {"conditions": DISRUPTED}),
        (137, {"deletionTimestamp": "x"}),
        (137, {"gone": True}),
    ],
)
def test_other_ends_need_no_events(code: int, fields: dict[str, Any]) -> None:
    assert unexplained([ended_pod(code, **fields)]) == []


def test_a_complete_job_is_a_success_whatever_is_left() -> None:
    for pods in ([], [ended_pod(0)], [pod(phase="Running")]):
        assert ending(child(finished="Complete"), pods).outcome is Outcome.SUCCEEDED


def test_an_orphaned_pod_that_ended_well_is_a_success() -> None:
    assert ending(None, [ended_pod(0)]).outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("reason", ["Evicted", "Preempting", "NodeShutdown", "OutOfcpu"])
def test_a_pod_ended_by_its_node_is_an_interruption(reason: str) -> None:
    left = pod(phase="Failed")
    raw = {name: getattr(left, name) for name in left.__slots__}
    evicted = type(left)(**(raw | {"reason": reason, "message": "the node is full"}))
    end = ending(child(finished="Failed"), [evicted])
    assert (end.outcome, end.reason, end.message) == (
        Outcome.INTERRUPTED,
        reason,
        "the node is full",
    )


def test_a_pod_of_a_lost_node_is_named_so() -> None:
    ready = {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-02T03:00:00Z"}
    conditions = [ready, {"type": "ContainersReady", "status": "True"}, *DISRUPTED]
    lost = pod(phase="Running", conditions=conditions, gone=True)
    end = ending(None, [lost])
    assert (end.outcome, end.reason, end.node) == (Outcome.INTERRUPTED, "NodeLost", "node-a")
    assert end.message == 'node "node-a" did not answer since 2026-01-02T03:00:00Z'


def test_the_end_of_a_long_log_counts() -> None:
    text = "\n".join(f"line {number}" for number in range(1000))
    assert tail(text, 20).startswith("…")
    assert tail(text, 20).endswith("line 999")
    assert len(tail(text, 20)) == 20


def test_no_pod_left_to_ask_is_an_interruption() -> None:
    assert ending(child(finished="Failed"), []).reason == "PodDeleted"
    assert ending(None, []).reason == "JobDeleted"
    assert ending(child(finished="Failed"), []).outcome is Outcome.INTERRUPTED


def test_a_pod_that_failed_tells_more_than_one_that_did_not() -> None:
    silent, failed = pod(uid="a"), ended_pod(3, uid="b")
    assert ending(child(finished="Failed"), [failed, silent]).reason == "InvalidDataset"


@pytest.mark.parametrize(
    ("message", "code", "words"),
    [
        (last_words(1, message="out of patience"), 1, "out of patience"),
        # No words of its own: the kubelet gives the end of its log.
        ("Traceback:\n  boom\n\n", 1, "exit code 1. Its last lines: Traceback: | boom"),
        ("", 137, "killed by SIGKILL"),
        ("", 143, "killed by SIGTERM"),
        # A message of another code was left by an earlier process.
        (last_words(0, message="all is well"), 1, "exit code 1"),
    ],
)
def test_the_words(message: str, code: int, words: str) -> None:
    assert ending(child(finished="Failed"), [ended_pod(code, message=message)]).message == words


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"exitCode": 0}',
        "[" * 5000,
        last_words(0, epoch=10**9),
        last_words(0, epoch=-1),
        last_words(0, best={"epoch": -5}),
        last_words(0, best_weights="x" * 1025),
        last_words(0, checkpoint={"epoch": 1, "step": 2**70}),
        last_words(0).replace('"epoch":0', '"epoch":NaN'),
        last_words(0)[:-1] + ', "x": "' + "y" * 20_000 + '"}',
    ],
)
def test_a_message_that_cant_be_true_is_not_believed(text: str) -> None:
    assert read_termination(text) is None


def test_a_newer_trainers_extra_fields_are_ignored() -> None:
    told = read_termination(last_words(0, epoch=3)[:-1] + ',"shoeSize":44}')
    assert told is not None
    assert told.epoch == 3


def test_clip() -> None:
    assert clip(" abc ", 3) == "abc"
    assert clip("abcd", 3) == "ab…"
