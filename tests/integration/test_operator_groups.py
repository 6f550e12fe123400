"""Several workers, and queues, on a real cluster; the trainer is a script.

Real training on several workers is in tests/e2e. Kueue itself is played: see
tests/support/queue_stand_in.py for what the stand-in does, and what it leaves out. The real one is
in tests/soak/test_kueue.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.cluster import TestCluster, wait_for
from tests.support.operator_process import Place, operated
from tests.support.operator_rights import EVERYTHING
from tests.support.queue_stand_in import WORKLOADS, QueueStandIn

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def place(cluster: TestCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A namespace with an operator of its own, in a cluster that has Kueue's Workloads."""
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(WORKLOADS))
    with operated(cluster, tmp_path_factory.mktemp("operator"), *EVERYTHING) as place:
        yield place
    cluster.kubectl("delete", "crd", WORKLOADS["metadata"]["name"], "--ignore-not-found")


def blocked(status: dict[str, Any]) -> tuple[str, str]:
    """Reason and message of the condition Blocked, where it is true."""
    for condition in status.get("conditions", []):
        if condition["type"] == "Blocked" and condition["status"] == "True":
            return condition["reason"], condition["message"]
    return "", ""


# --- several workers


def test_the_first_real_end_of_several_is_the_attempts(place: Place) -> None:
    """Worker 1 fails; worker 0 gets SIGTERM from the Job controller, and ends as interrupted."""
    failing = {"epochs": 1, "seconds": 1, "exit": 1, "message": "no luck"}
    script = {"epochs": 300, "seconds": 100, "workers": {"1": failing}}
    place.job("unlucky", script, workers=2, maxRetries=0)
    status = place.phase("unlucky", "Failed")
    (attempt,) = status["attempts"]
    assert (attempt["outcome"], attempt["exitCode"]) == ("Failed", 1)
    assert attempt["message"].startswith("worker 1 on ")
    assert attempt["message"].endswith(": no luck")
    pods = place.items("pod", "kubeseg.dev/job=unlucky")
    assert {p["spec"]["subdomain"] for p in pods} == {"kubeseg-unlucky"}
    service = place.get("service", "kubeseg-unlucky")
    assert service["spec"]["clusterIP"] == "None"
    owner = service["metadata"]["ownerReferences"][0]
    assert owner["uid"] == place.get("tj", "unlucky")["metadata"]["uid"]
    made = [e for e in place.calls("kubeseg-unlucky") if e["objectRef"]["resource"] == "services"]
    assert [e["verb"] for e in made] == ["create"]


def test_a_deleted_worker_starts_all_again_and_edits_reach_all(place: Place) -> None:
    place.job("pair", {"epochs": 300, "seconds": 1}, workers=2)
    place.phase("pair", "Running")
    assert "2/2" in place.kubectl("get", "tj", "pair", "-o", "wide")
    place.edit("pair", training={"epochs": 400})
    place.until("pair", lambda s: s.get("progress", {}).get("trainerGeneration") == 2)

    def generations() -> list[int]:
        pods = place.items("pod", "kubeseg.dev/job=pair,kubeseg.dev/attempt=1")
        configs = [p["metadata"]["annotations"]["kubeseg.dev/config"] for p in pods]
        return [json.loads(config)["generation"] for config in configs]

    wait_for("both pods are told", lambda: generations() == [2, 2])
    # Somebody changes the Service; the next attempt's workers need it as it was.
    hidden = '{"spec": {"publishNotReadyAddresses": false}}'
    place.kubectl("patch", "service", "kubeseg-pair", "--type", "merge", "-p", hidden)
    which = "kubeseg.dev/job=pair,batch.kubernetes.io/job-completion-index=1"
    place.kubectl("delete", "pod", "-l", which, "--wait=false")
    status = place.until("pair", lambda s: s["phase"] == "Running" and len(s["attempts"]) == 2)
    first = status["attempts"][0]
    assert (first["outcome"], first["reason"]) == ("Interrupted", "Interrupted")
    assert first["message"].startswith("worker 1 on ")
    assert place.get("service", "kubeseg-pair")["spec"]["publishNotReadyAddresses"] is True
    assert status.get("retry", {}).get("failures", 0) == 0
    place.edit("pair", suspend=True)
    place.phase("pair", "Suspended")
    assert place.items("pod", "kubeseg.dev/job=pair") == []
    place.kubectl("delete", "tj", "pair")
    wait_for("its Service goes", lambda: place.get("service", "kubeseg-pair") == {})


def test_a_group_that_cant_be_whole_says_who_is_missing(place: Place) -> None:
    resources = {"gpus": 3, "cpu": "10m", "memory": "64Mi", "sharedMemory": "16Mi"}
    place.job("wide", {"epochs": 300, "seconds": 100}, workers=2, resources=resources)
    status = place.until("wide", lambda s: "1 of 2 workers run" in blocked(s)[1])
    reason, message = blocked(status)
    assert reason == "Unschedulable"
    assert ": needs 3 nvidia.com/gpu, 10m CPU, 64Mi memory on one node; " in message
    assert status["summary"]["workers"] == "1/2"
    (running,) = [
        p for p in place.items("pod", "kubeseg.dev/job=wide") if p["status"]["phase"] == "Running"
    ]
    env = running["spec"]["containers"][0]["env"]
    assert {"name": "KUBESEG_PROCESSES", "value": "3"} in env
    place.kubectl("delete", "tj", "wide")


def test_a_claim_of_devices_is_passed_on(place: Place) -> None:
    claims = [{"name": "nic", "resourceClaimName": "nowhere"}]
    place.job("claims", {"epochs": 0}, resourceClaims=claims)
    (pod,) = wait_for("its pod", lambda: place.items("pod", "kubeseg.dev/job=claims"))
    assert pod["spec"]["resourceClaims"] == claims
    assert pod["spec"]["containers"][0]["resources"]["claims"] == [{"name": "nic"}]
    place.kubectl("delete", "tj", "claims")


# --- queues


def test_waiting_admitted_preempted_and_admitted_again(place: Place, cluster: TestCluster) -> None:
    with QueueStandIn(cluster, place.name, {"team-a": 0}) as queues:
        place.job("patient", {"epochs": 300, "seconds": 1}, queueName="team-a")
        place.job("lost", {"epochs": 0}, queueName="nope")
        status = place.until("patient", lambda s: blocked(s)[0] == "WaitingForQuota")
        assert status["phase"] == "Queued"
        assert 'attempt 1 waits in queue "team-a": couldn\'t assign' in status["summary"]["why"]
        assert "startTime" not in status
        lost = place.until("lost", lambda s: blocked(s)[0] == "Misconfigured")
        assert "LocalQueue nope doesn't exist" in lost["summary"]["why"]
        assert place.items("pod", "kubeseg.dev/job=patient") == []

        queues.room["team-a"] = 1
        status = place.until("patient", lambda s: s.get("progress", {}).get("epoch", 0) >= 2)
        assert status["phase"] == "Running"
        (before,) = place.items("pod", "kubeseg.dev/job=patient")
        uid = status["attempts"][0]["uid"]

        queues.room["team-a"] = 0
        status = place.until("patient", lambda s: blocked(s)[0] == "WaitingForQuota")
        assert status["phase"] == "Queued"
        (attempt,) = status["attempts"]
        assert (attempt["preemptions"], "endTime" in attempt) == (1, False)
        wait_for("its pod goes", lambda: place.items("pod", "kubeseg.dev/job=patient") == [])
        assert place.get("job", "patient-1")["status"].get("failed", 0) == 0

        # What is edited now is not in the template that the next pod is made from.
        place.edit("patient", training={"epochs": 400})
        queues.room["team-a"] = 1
        status = place.until(
            "patient", lambda s: s.get("progress", {}).get("trainerGeneration") == 2
        )
        assert (status["phase"], status["progress"]["epochs"]) == ("Running", 400)
        (attempt,) = status["attempts"]
        assert (attempt["uid"], attempt["preemptions"]) == (uid, 1)
        (after,) = place.items("pod", "kubeseg.dev/job=patient")
        assert after["metadata"]["uid"] != before["metadata"]["uid"]

        place.edit("patient", stop=True)
        status = place.phase("patient", "Succeeded")
        assert len(status["attempts"]) == 1
    story = place.story("patient")
    assert [reason for reason in story if reason != "Queued"] == [
        "AttemptStarted", "Preempted", "Readmitted", "Succeeded",
    ]  # fmt: skip
    touched = {e["verb"] for e in place.calls("patient-1") if e["objectRef"]["resource"] == "jobs"}
    assert touched == {"create"}, "suspend is Kueue's"
    place.kubectl("delete", "tj", "lost")


def test_a_users_suspend_gives_the_place_back(place: Place, cluster: TestCluster) -> None:
    with QueueStandIn(cluster, place.name, {"team-a": 1}) as queues:
        place.job("first", {"epochs": 300, "seconds": 1}, queueName="team-a")
        place.until("first", lambda s: s.get("progress", {}).get("epoch", 0) >= 1)
        place.job("second", {"epochs": 0}, queueName="team-a")
        place.edit("first", suspend=True)
        place.phase("first", "Suspended")
        place.phase("second", "Succeeded")
        queues.room["team-a"] = 0
        place.edit("first", suspend=False)
        status = place.phase("first", "Queued")
        assert [a["number"] for a in status["attempts"]] == [1, 2]
        # In the queue, too, and out of it at once.
        place.edit("first", suspend=True)
        status = place.phase("first", "Suspended")
        assert status["attempts"][-1]["reason"] == "Suspended"
        assert "queuedTime" not in status["attempts"][-1]
        assert place.get("job", "first-2") == {}
    place.kubectl("delete", "tj", "first")


def test_without_kueue_a_sentence_says_so(place: Place) -> None:
    place.kubectl("delete", "crd", WORKLOADS["metadata"]["name"])
    place.job("alone", {"epochs": 0}, queueName="team-a")
    status = place.phase("alone", "Queued")
    assert blocked(status)[0] == "NoKueue"
    assert "nobody admits the job" in status["summary"]["why"]
    place.kubectl("delete", "tj", "alone")
