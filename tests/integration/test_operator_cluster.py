"""The operator against a real API server, real controllers and a real kubelet.

The trainer is a script (tests/support/scripted_trainer.py) that keeps the contract; what the real
trainer makes of it is tested in tests/e2e.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from datetime import datetime
from typing import Any

import pytest

from kubeseg_local.kube import Kube
from tests.support.audit_log import by_account
from tests.support.cluster import wait_for
from tests.support.operator_process import CLAIM, Place
from tests.support.operator_rights import ACCOUNT

pytestmark = pytest.mark.cluster


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_a_start_takes_two_writes_and_well_under_a_second(place: Place) -> None:
    place.job("quick", {"epochs": 0})
    place.phase("quick", "Succeeded")
    assert place.written("quick")[:2] == ["update trainingjobs status", "create jobs"]
    (made,) = [
        e
        for e in place.calls("quick", agent="kubectl")
        if e["objectRef"]["resource"] == "trainingjobs"
    ]
    (job,) = [e for e in place.calls("quick-1") if e["verb"] == "create"]
    took = moment(job["stageTimestamp"]) - moment(made["stageTimestamp"])
    print(f"create → Job created: {took.total_seconds() * 1000:.0f} ms")
    assert took.total_seconds() < 1


def test_a_whole_life_takes_few_writes(place: Place) -> None:
    place.job("short", {"epochs": 0})
    place.phase("short", "Succeeded")
    writes = place.written("short")
    # Reserve, create, (running, first report), end.
    assert writes[:2] == ["update trainingjobs status", "create jobs"]
    assert set(writes[2:]) == {"update trainingjobs status"}
    assert len(writes) <= 5
    assert place.story("short")[-1] == "Succeeded"


def test_an_epochs_end_is_in_status_within_a_second(place: Place) -> None:
    place.job("epochs", {"epochs": 4, "seconds": 2.5})
    place.phase("epochs", "Succeeded")
    log = place.kubectl("logs", "-l", "kubeseg.dev/job=epochs")
    ends = [moment(line.split()[2]) for line in log.splitlines() if line.startswith("epoch")]
    puts = [
        moment(e["stageTimestamp"])
        for e in place.calls("epochs")
        if e["objectRef"].get("subresource") == "status"
    ]
    delays = [min((put - end).total_seconds() for put in puts if put > end) for end in ends]
    print("epoch's end → status:", [f"{delay * 1000:.0f} ms" for delay in delays])
    assert len(ends) == 4
    assert max(delays) < 1


def test_a_restart_writes_nothing(place: Place) -> None:
    place.job("steady", {"epochs": 300, "seconds": 100})
    place.until("steady", lambda s: s.get("progress", {}).get("trainerGeneration"))
    before = len(place.calls())
    assert place.operator.stop() == 0
    place.operator.start()
    # Proof that it works again: another job passes through.
    place.job("after-restart", {"epochs": 0})
    place.phase("after-restart", "Succeeded")
    others = [e for e in place.calls()[before:] if not e["objectRef"]["name"].startswith("after")]
    assert others == []
    place.kubectl("delete", "tj", "steady")


def test_sigterm_ends_it_within_five_seconds(place: Place) -> None:
    begun = time.monotonic()
    assert place.operator.stop() == 0
    assert time.monotonic() - begun < 5
    place.operator.start()
    assert (place.operator.probe("healthz"), place.operator.probe("readyz")) == (200, 200)


def test_killed_in_the_middle_it_misses_no_end(place: Place) -> None:
    place.job("orphaned", {"epochs": 1, "seconds": 2})
    place.until("orphaned", lambda s: s.get("phase") == "Running")
    place.operator.stop(signal.SIGKILL)
    place.wait("job", "orphaned-1", lambda job: job["status"].get("succeeded"))
    place.operator.start()
    status = place.phase("orphaned", "Succeeded")
    assert len(status["attempts"]) == 1
    assert status["progress"]["epoch"] == 1


@pytest.mark.parametrize(
    ("code", "phase", "reason"),
    [
        (2, "Failed", "InvalidConfiguration"),
        (3, "Failed", "InvalidDataset"),
        (4, "Failed", "NonFiniteLoss"),
    ],
)
def test_permanent_errors_fail_at_once(place: Place, code: int, phase: str, reason: str) -> None:
    name = f"permanent-{code}"
    place.job(name, {"exit": code, "message": "masks/a.png has label 12"})
    status = place.phase(name, phase)
    failed = next(c for c in status["conditions"] if c["type"] == "Failed")
    assert failed["reason"] == reason
    assert failed["message"].startswith("masks/a.png has label 12. ")
    assert failed["message"].endswith("make a new TrainingJob.")
    assert len(status["attempts"]) == 1


def test_failures_are_retried_until_there_are_none_left(place: Place) -> None:
    place.job("hopeless", {"exit": 1, "message": "no luck"}, maxRetries=1)
    status = place.phase("hopeless", "Failed")
    assert [a["outcome"] for a in status["attempts"]] == ["Failed", "Failed"]
    assert "attempt 2 failed (TrainerError): no luck" in status["summary"]["why"]
    assert place.story("hopeless")[-1] == "Failed"
    assert "Retrying" in place.story("hopeless")


def test_a_program_that_is_not_there_is_a_failure_with_its_reason(place: Place) -> None:
    place.job("no-program", {}, image="kubeseg-tools:1", maxRetries=0)
    status = place.phase("no-program", "Failed")
    assert status["attempts"][0]["outcome"] == "Failed"


def test_suspend_and_resume(place: Place) -> None:
    place.job("pause", {"epochs": 3, "seconds": 1.5})
    place.until("pause", lambda s: s.get("progress", {}).get("epoch") == 1)
    place.edit("pause", suspend=True)
    status = place.phase("pause", "Suspended")
    assert place.items("pod", "kubeseg.dev/job=pause") == []
    assert (status["attempts"][0]["exitCode"], status["attempts"][0]["reason"]) == (75, "Suspended")
    place.edit("pause", suspend=False)
    status = place.phase("pause", "Succeeded")
    assert [a["number"] for a in status["attempts"]] == [1, 2]
    assert place.story("pause") == [
        "AttemptStarted", "Suspended", "Resumed", "AttemptStarted", "Succeeded",
    ]  # fmt: skip


def test_a_deleted_pod_is_an_interruption(place: Place) -> None:
    place.job("taken", {"epochs": 2, "seconds": 2})
    place.phase("taken", "Running")
    place.kubectl("delete", "pod", "-l", "kubeseg.dev/job=taken", "--wait=false")
    status = place.phase("taken", "Succeeded")
    assert [a["outcome"] for a in status["attempts"]] == ["Interrupted", "Succeeded"]
    assert status.get("retry", {}).get("failures", 0) == 0


def test_a_deleted_child_job_is_an_interruption(place: Place) -> None:
    place.job("childless", {"epochs": 2, "seconds": 2})
    place.phase("childless", "Running")
    place.kubectl("delete", "job", "childless-1", "--wait=false")
    status = place.phase("childless", "Succeeded")
    assert [a["outcome"] for a in status["attempts"]] == ["Interrupted", "Succeeded"]


def test_live_edits_reach_the_trainer_and_are_acknowledged(place: Place) -> None:
    place.job("edited", {"epochs": 300, "seconds": 1})
    place.until("edited", lambda s: s.get("progress", {}).get("trainerGeneration") == 1)
    place.edit("edited", training={"epochs": 400})
    status = place.until(
        "edited", lambda s: s["progress"].get("trainerGeneration") == 2, deadline=10
    )
    assert status["progress"]["epochs"] == 400
    place.edit("edited", stop=True)
    status = place.phase("edited", "Succeeded")
    complete = next(c for c in status["conditions"] if c["type"] == "Complete")
    assert complete["reason"] == "Stopped"
    assert status["finished"]["epochs"] == 400


def test_more_epochs_reopen_a_succeeded_job_and_fewer_do_not(place: Place) -> None:
    place.job("again", {"epochs": 1, "seconds": 0.1})
    place.phase("again", "Succeeded")
    place.edit("again", training={"epochs": 5})
    status = place.until("again", lambda s: len(s["attempts"]) == 2)
    status = place.phase("again", "Succeeded")
    assert (len(status["attempts"]), status["finished"]["epochs"]) == (2, 5)
    assert "Reopened" in place.story("again")
    place.edit("again", training={"epochs": 2})
    place.until("again", lambda s: s["observedGeneration"] == 3)
    assert place.phase("again", "Succeeded")["finished"]["epochs"] == 5


def test_a_finished_job_makes_nothing_when_its_children_are_cleaned_up(place: Place) -> None:
    place.job("clean", {"epochs": 0})
    place.phase("clean", "Succeeded")
    before = len(place.written("clean"))
    place.kubectl("delete", "job", "clean-1", "--cascade=foreground")
    place.operator.stop()
    place.operator.start()
    place.job("clean-proof", {"epochs": 0})
    place.phase("clean-proof", "Succeeded")
    # The log tells names by how they begin: what was written since is the proof's.
    assert len(place.written("clean")) - before == len(place.written("clean-proof"))
    assert place.get("job", "clean-1") == {}


async def test_what_others_change_meanwhile_is_kept(place: Place) -> None:
    """Writes of status meet a newer version all the time: it is read, and decided upon anew."""
    place.job("busy", {"epochs": 8, "seconds": 0.5})
    status = place.cluster.cluster.status()
    assert status.settings
    kube = Kube(place.cluster.cluster.layout, status.settings)
    path = f"/apis/kubeseg.dev/v1alpha1/namespaces/{place.name}/trainingjobs/busy"
    count = 0

    def read_again() -> bool:
        return any(
            entry["verb"] == "get" and entry["objectRef"].get("name") == "busy"
            for entry in by_account(place.cluster, ACCOUNT)
            if entry.get("objectRef", {}).get("namespace") == place.name
        )

    async with asyncio.timeout(30), kube.http:
        while not read_again():
            for _ in range(100):
                count += 1
                await kube.patch(path, {"metadata": {"annotations": {"count": str(count)}}})
    done = place.phase("busy", "Succeeded")
    assert done["progress"]["epoch"] == 8
    assert len(done["attempts"]) == 1
    assert place.get("tj", "busy")["metadata"]["annotations"]["count"] == str(count)


BLOCKED: list[tuple[str, dict[str, Any], str, str]] = [
    ("no-image", {"image": "nowhere.example/trainer:missing"}, "ImagePull", "can't be pulled"),
    ("no-claim", {"workspace": {"claimName": "nothing"}}, "WorkspaceMissing", '"nothing"'),
    (
        "no-secret",
        {"env": [{"name": "T", "valueFrom": {"secretKeyRef": {"name": "none", "key": "k"}}}]},
        "ConfigMissing",
        "none",
    ),
    (
        "no-gpu",
        {"resources": {"gpus": 1, "gpuResource": "example.com/gpu", "cpu": "10m"}},
        "Unschedulable",
        (
            "needs 1 example.com/gpu, 10m CPU, 4Gi memory on one node; 0/1 nodes are available: 1 "
            "Insufficient example.com/gpu. No node offers example.com/gpu. They offer nvidia.com/g"
        ),
    ),
    ("no-runtime", {"runtimeClassName": "none"}, "RuntimeClassMissing", '"none"'),
    ("no-node", {"nodeSelector": {"disk": "none"}}, "Unschedulable", "spec.nodeSelector"),
    ("no-class", {"priorityClassName": "none"}, "PriorityClassMissing", "none"),
    ("bad-label", {"podLabels": {"a b": "x"}}, "JobRefused", "a b"),
]


@pytest.mark.parametrize(("name", "spec", "reason", "words"), BLOCKED, ids=lambda v: str(v)[:9])
def test_why_it_does_not_run(
    place: Place, name: str, spec: dict[str, Any], reason: str, words: str
) -> None:
    place.job(name, {"epochs": 0}, **spec)
    status = place.phase(name, "Blocked")
    blocked = next(c for c in status["conditions"] if c["type"] == "Blocked")
    assert blocked["reason"] == reason, blocked
    assert words in blocked["message"]
    assert words in status["summary"]["why"]
    place.kubectl("delete", "tj", name)


def test_a_claim_that_no_class_serves_is_said(place: Place) -> None:
    claim = json.loads(json.dumps(CLAIM))
    claim["metadata"]["name"], claim["spec"]["storageClassName"] = "classless", "none"
    place.apply(claim)
    place.job("unbound", {"epochs": 0}, workspace={"claimName": "classless"})
    status = place.phase("unbound", "Blocked")
    blocked = next(c for c in status["conditions"] if c["type"] == "Blocked")
    assert blocked["reason"] == "WorkspaceUnbound"
    assert '(ReadWriteMany, of class "none")' in blocked["message"]
    place.kubectl("delete", "tj", "unbound")
    place.kubectl("delete", "pvc", "classless", "--wait=false")


def test_a_full_quota_is_said(place: Place) -> None:
    place.kubectl("create", "quota", "small", "--hard=requests.memory=1Gi,limits.memory=1Gi")
    try:
        place.job("too-much", {"epochs": 0}, resources={"memory": "2Gi", "cpu": "10m"})
        status = place.phase("too-much", "Blocked")
        assert 'quota "small" is too small for the pod' in status["summary"]["why"]
    finally:
        place.kubectl("delete", "quota", "small")
        place.kubectl("delete", "tj", "too-much")


def test_what_was_missing_and_comes_lets_it_go_on(place: Place) -> None:
    env = [{"name": "T", "valueFrom": {"secretKeyRef": {"name": "late", "key": "k"}}}]
    place.job("patient", {"epochs": 0}, env=env)
    place.phase("patient", "Blocked")
    place.kubectl("create", "secret", "generic", "late", "--from-literal=k=v")
    status = place.phase("patient", "Succeeded")
    assert len(status["attempts"]) == 1


MEMORY = {"cpu": "10m", "memory": "128Mi", "sharedMemory": "16Mi"}


def test_a_kill_for_memory_makes_the_next_attempts_parts_smaller(place: Place) -> None:
    """Eight images are too many for 128 MiB, four are not; one of 200 MiB never fits."""
    place.job("greedy", {"epochs": 1, "seconds": 1.5, "eat": 20}, resources=MEMORY)
    small = {"epochs": 1, "batchSize": 2, "accumulate": 2}
    huge = {"epochs": 1, "seconds": 2, "eat": 200}
    place.job("hopeless-memory", huge, resources=MEMORY, training=small)
    status = place.phase("greedy", "Succeeded")
    first, second = status["attempts"]
    assert (first["outcome"], first["exitCode"]) == ("OutOfMemory", 137)
    assert (second["outcome"], status["progress"]["accumulate"]) == ("Succeeded", 2)
    assert status["batch"] == {"accumulate": 2, "imagesAtOnce": 4, "afterAttempt": 1}
    assert status["totals"]["attempts"] == 2
    assert status.get("retry", {}).get("failures", 0) == 0
    status = place.phase("hopeless-memory", "Failed")
    assert len(status["attempts"]) == 1
    assert (
        "with 1 image at once, and a batch can't be computed in smaller parts"
        in (status["summary"]["why"])
    )


def test_a_trainer_that_leaves_no_word_is_quoted_by_its_log(place: Place) -> None:
    place.job("speechless", {"crash": "Bus error\ncore dumped"}, maxRetries=0)
    status = place.phase("speechless", "Failed")
    assert "exit code 1. Its last lines: Bus error | core dumped" in status["summary"]["why"]


GHOST = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "ghost", "labels": {"disk": "ghost"}},
}


def test_a_node_that_does_not_answer_is_named_and_given_up(place: Place) -> None:
    """A node without a kubelet: the test says what one would have said before it fell silent."""
    place.cluster.kubectl("apply", "-f", "-", stdin=json.dumps(GHOST))
    try:
        anywhere = [{"operator": "Exists"}]
        place.job("haunted", {"epochs": 0}, nodeSelector={"disk": "ghost"}, tolerations=anywhere)
        capacity = dict.fromkeys(("cpu", "pods"), "100") | {"memory": "100Gi"}
        ready = {"type": "Ready", "status": "True", "reason": "x", "message": "x"}
        node = {"status": {"capacity": capacity, "allocatable": capacity, "conditions": [ready]}}
        place.kubectl("patch", "node", "ghost", "--subresource=status", "-p", json.dumps(node))
        wait_for("its pod", lambda: place.items("pod", "kubeseg.dev/job=haunted"))
        name = place.items("pod", "kubeseg.dev/job=haunted")[0]["metadata"]["name"]
        place.wait("pod", name, lambda pod: pod["spec"].get("nodeName") == "ghost")
        place.kubectl("patch", "pod", name, "--subresource=status", "-p", json.dumps(SILENT))
        place.until("haunted", lambda s: "does not answer" in s.get("summary", {}).get("why", ""))
        # Its kubelet gives a node this label.
        place.edit("haunted", nodeSelector={"disk": None, "kubernetes.io/os": "linux"})
        place.kubectl("delete", "pod", name, "--grace-period=1", "--wait=false")
        status = place.phase("haunted", "Succeeded")
        first, second = status["attempts"]
        assert (first["outcome"], first["reason"], first["node"]) == (
            "Interrupted", "NodeLost", "ghost",
        )  # fmt: skip
        assert second["outcome"] == "Succeeded"
        assert "NodeLost" in place.story("haunted")
    finally:
        place.cluster.kubectl("delete", "node", "ghost", "--wait=false")


SILENT = {
    "status": {
        "phase": "Running",
        "conditions": [
            {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-02T03:04:05Z"},
            {"type": "ContainersReady", "status": "True"},
        ],
        "containerStatuses": [
            {
                "name": "trainer",
                "ready": True,
                "restartCount": 0,
                "image": "x",
                "imageID": "x",
                "state": {"running": {"startedAt": "2026-01-02T03:04:05Z"}},
            }
        ],
    }
}


@pytest.mark.parametrize("serve", ["lies", "hangs", "floods", "nothing"])
def test_a_pod_is_not_trusted(place: Place, serve: str) -> None:
    place.job(f"bad-{serve}", {"epochs": 1, "seconds": 3, "serve": serve})
    place.job(f"good-beside-{serve}", {"epochs": 1, "seconds": 0.5})
    place.phase(f"good-beside-{serve}", "Succeeded")
    status = place.phase(f"bad-{serve}", "Succeeded")
    assert status["progress"]["epoch"] == 1  # from its last words
    assert place.operator.probe("healthz") == 200


def test_the_deadline(place: Place) -> None:
    place.job("late", {"epochs": 100, "seconds": 100}, activeDeadlineSeconds=3)
    status = place.phase("late", "Failed")
    assert "activeDeadlineSeconds: 3 s" in status["summary"]["why"]
    wait_for("its pod goes", lambda: place.items("pod", "kubeseg.dev/job=late") == [])


def test_deletion_takes_the_children_along_and_ends_the_series(place: Place) -> None:
    place.job("leaving", {"epochs": 100, "seconds": 100})
    place.phase("leaving", "Running")
    manifest = place.get("tj", "leaving")
    assert "finalizers" not in manifest["metadata"]
    assert manifest["metadata"].get("annotations", {}).keys() <= {
        "kubectl.kubernetes.io/last-applied-configuration"
    }
    assert any('job="leaving"' in s for s in place.operator.series("kubeseg_job_phase"))
    place.kubectl("delete", "tj", "leaving")
    wait_for("its pod goes", lambda: place.items("pod", "kubeseg.dev/job=leaving") == [])
    wait_for("its Job goes", lambda: place.get("job", "leaving-1") == {})
    wait_for(
        "its series end",
        lambda: not any('job="leaving"' in s for s in place.operator.series("kubeseg_job_phase")),
    )


def test_the_same_name_again_starts_anew(place: Place) -> None:
    place.job("twice", {"epochs": 100, "seconds": 100})
    place.phase("twice", "Running")
    place.kubectl("delete", "tj", "twice", "--wait=false")
    place.job("twice", {"epochs": 1, "seconds": 0.5})
    status = place.until("twice", lambda s: s.get("phase") == "Succeeded")
    assert [a["number"] for a in status["attempts"]] == [1]


def test_ttl_deletes_the_trainingjob(place: Place) -> None:
    place.job("brief", {"epochs": 0}, ttlSecondsAfterFinished=1)
    wait_for(
        "it is gone",
        lambda: place.get("tj", "brief") == {} and "brief" in str(place.calls("brief")),
    )


def test_a_bad_data_set_ends_the_job_before_its_first_attempt(place: Place) -> None:
    gpu = {"resources": {"gpus": 1, "cpu": "10m", "memory": "64Mi", "sharedMemory": "16Mi"}}
    words = 'data set "x": 1 of 9 images with masks can\'t be used: masks/a.png has label 12'
    place.job("unfit", {"epochs": 1, "check": {"exit": 3, "message": words}}, **gpu)
    status = place.phase("unfit", "Failed")
    assert status["summary"]["why"].startswith(words)
    assert place.written("unfit")[:2] == ["update trainingjobs status", "create jobs"]
    assert not place.get("job", "unfit-1")


def test_a_suspension_in_the_middle_of_a_check(place: Place) -> None:
    gpu = {"resources": {"gpus": 1, "cpu": "10m", "memory": "64Mi", "sharedMemory": "16Mi"}}
    place.job("unhurried", {"epochs": 0, "check": {"seconds": 3}}, **gpu)
    place.until("unhurried", lambda s: s.get("preflight", {}).get("startTime"))
    place.edit("unhurried", suspend=True)
    status = place.phase("unhurried", "Suspended")
    assert status["preflight"]["reason"] == "Suspended"
    assert place.items("pod", "kubeseg.dev/job=unhurried") == []
    place.edit("unhurried", suspend=False)
    status = place.phase("unhurried", "Succeeded")
    assert (status["preflight"]["number"], status["preflight"]["outcome"]) == (2, "Passed")
    assert [a["number"] for a in status["attempts"]] == [1]


def test_the_finalizer_comes_and_goes_with_the_wish(place: Place) -> None:
    place.job("kept", {"epochs": 100, "seconds": 100}, artifacts={"onDelete": "Delete"})
    place.phase("kept", "Running")
    assert place.get("tj", "kept")["metadata"]["finalizers"] == ["kubeseg.dev/artifacts"]
    place.edit("kept", artifacts={"onDelete": "Retain"})
    place.wait("tj", "kept", lambda tj: "finalizers" not in tj["metadata"])
    place.kubectl("delete", "tj", "kept")
    assert not place.get("job", "kept-cleanup1")
