"""The real Kueue and real trainings: who waits, who is preempted, and what the user reads of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.installation import Installation, installed, training_job, values
from tests.support import kueue
from tests.support.cluster import TestCluster, condition, wait_for
from tests.support.kueue import Kueue

pytestmark = [pytest.mark.cluster, pytest.mark.soak, pytest.mark.timeout(900)]

NAMESPACE, NODE_PORT = "kubeseg-queued", 80
QUEUE, CLUSTER_QUEUE = "team-a", "training"
#: What the tiny trainings ask for, each; the queue has room for one.
ONE, TWO = {"cpu": "500m", "memory": "2Gi"}, {"cpu": "1", "memory": "4Gi"}
NO_ROOM = "insufficient unused quota"
WORKLOADS = "workloads.kueue.x-k8s.io"


@pytest.fixture(scope="module")
def manager(cluster: TestCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kueue]:
    """Kueue, with a queue that has room for one training."""
    with kueue.running(cluster, tmp_path_factory.mktemp("kueue")) as manager:
        cluster.kubectl("label", "node", "--all", "pool=training")
        for name, value in (("urgent", 1000), ("ordinary", 10)):
            cluster.kubectl("create", "priorityclass", name, f"--value={value}")
        yield manager


@pytest.fixture(scope="module")
def kubeseg(manager: Kueue, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """kubeseg in a namespace that has the queue."""
    cluster = manager.cluster
    chosen = values(NAMESPACE, cluster.node_port(NODE_PORT)) | {"kueue": {"enabled": True}}
    folder = tmp_path_factory.mktemp("chart")
    with installed(cluster, NAMESPACE, chosen, folder) as installation:
        toleration = {"key": "pool", "operator": "Exists", "effect": "NoSchedule"}
        installation.apply(
            kueue.flavor("pool", nodeLabels={"pool": "training"}, tolerations=[toleration]),
            kueue.cluster_queue(CLUSTER_QUEUE, "pool", **ONE),
            kueue.local_queue(QUEUE, CLUSTER_QUEUE),
        )
        installation.data_set("small")
        yield installation
        installation.kubectl("delete", "tj", "--all", "--timeout=60s")
        wait_for("no Workload stays", lambda: not installation.items(WORKLOADS))


def queued_job(name: str, *, epochs: int, **spec: Any) -> dict[str, Any]:
    """A TrainingJob in the queue."""
    return training_job(name, epochs=epochs, **{"queueName": QUEUE, **spec})


def edit(kubeseg: Installation, job: str, **spec: Any) -> None:
    kubeseg.kubectl("patch", "tj", job, "--type=merge", "-p", json.dumps({"spec": spec}))


def room_for(kubeseg: Installation, quota: dict[str, str]) -> None:
    kubeseg.apply(kueue.cluster_queue(CLUSTER_QUEUE, "pool", **quota))


def pods(kubeseg: Installation, job: str) -> list[dict[str, Any]]:
    return kubeseg.items("pods", f"kubeseg.dev/job={job}")


def workloads(kubeseg: Installation, child: str) -> list[dict[str, Any]]:
    """Kueue's Workloads of a child Job."""
    return [
        each
        for each in kubeseg.items(WORKLOADS)
        if any(owner["name"] == child for owner in each["metadata"].get("ownerReferences", []))
    ]


def gone(kubeseg: Installation, job: str) -> None:
    """Wait until nothing of the job's first attempt is left."""
    what = f"kubeseg.dev/job={job}"
    wait_for(f"Job and pods of {job} go", lambda: not kubeseg.items("jobs,pods", what))
    wait_for(f"the Workload of {job} goes", lambda: not workloads(kubeseg, f"{job}-1"))


def waits(kubeseg: Installation, job: str, *words: str) -> str:
    """Why the job waits, once these words are in it. The reason is read again every 15 s."""

    def look(status: dict[str, Any]) -> bool:
        why = status.get("summary", {}).get("why", "")
        return status.get("phase") == "Queued" and all(word in why for word in words)

    why: str = kubeseg.wait_status(job, f"Queued, {words}", look, 60)["summary"]["why"]
    return why


def finished_well(kubeseg: Installation, job: str, epochs: int) -> dict[str, Any]:
    """The status of a job that succeeded, with each epoch once in its history."""
    status = kubeseg.wait_job(job, "Succeeded", 240)
    assert [entry["epoch"] for entry in kubeseg.history(job)] == list(range(1, epochs + 1))
    assert status.get("retry", {}).get("failures", 0) == 0
    return status


def test_the_second_waits_until_the_first_has_ended(kubeseg: Installation) -> None:
    kubeseg.apply(queued_job("first", epochs=12))
    kubeseg.wait_epoch("first", 1)
    kubeseg.apply(queued_job("second", epochs=3))
    why = waits(kubeseg, "second", NO_ROOM)
    assert f'attempt 1 waits in queue "{QUEUE}": ' in why
    (workload,) = workloads(kubeseg, "second-1")
    reserved = [c for c in workload["status"]["conditions"] if c["type"] == "QuotaReserved"]
    assert reserved[0]["message"] in why, "Kueue's own words"
    assert kubeseg.condition("second", "Blocked")["reason"] == reserved[0]["reason"]
    assert pods(kubeseg, "second") == []

    first = finished_well(kubeseg, "first", 12)
    assert first["completionTime"]
    second = finished_well(kubeseg, "second", 3)
    assert second["startTime"] >= first["completionTime"]
    assert [len(status["attempts"]) for status in (first, second)] == [1, 1]
    (pod,) = pods(kubeseg, "second")
    assert pod["spec"]["nodeSelector"]["pool"] == "training", "as the flavor has it"
    assert "pool" in {each.get("key") for each in pod["spec"]["tolerations"]}


def test_a_preempted_training_goes_on_from_its_checkpoint(kubeseg: Installation) -> None:
    kubeseg.apply(queued_job("patient", epochs=30, priorityClassName="ordinary"))
    kubeseg.wait_epoch("patient", 3)
    (before,) = pods(kubeseg, "patient")
    kubeseg.apply(queued_job("hasty", epochs=8, priorityClassName="urgent"))
    status = kubeseg.wait_job("patient", "Queued", 60)
    wait_for("its pod goes", lambda: not pods(kubeseg, "patient"))
    assert "epoch" in status["progress"]
    done = kubeseg.history("patient")
    assert len(done) >= 3
    assert len(done) < 30, "preempted in the middle"
    why = waits(kubeseg, "patient", NO_ROOM)
    assert "about to start" not in why

    finished_well(kubeseg, "hasty", 8)
    status = finished_well(kubeseg, "patient", 30)
    (attempt,) = status["attempts"]
    assert attempt["preemptions"] == 1
    assert attempt["queuedSeconds"] >= 1
    (after,) = pods(kubeseg, "patient")
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert kubeseg.history("patient")[: len(done)] == done, "no epoch was trained again"
    told = kubeseg.kubectl("describe", "tj", "patient")
    assert "Preempted" in told
    assert "Readmitted" in told


def test_suspended_by_the_user_in_the_queue_and_out_of_it(kubeseg: Installation) -> None:
    kubeseg.apply(queued_job("runs", epochs=500))
    kubeseg.wait_epoch("runs", 1)
    kubeseg.apply(queued_job("waits", epochs=3))
    waits(kubeseg, "waits", NO_ROOM)
    edit(kubeseg, "waits", suspend=True)
    kubeseg.wait_job("waits", "Suspended", 60)
    wait_for("its Workload goes", lambda: not workloads(kubeseg, "waits-1"))
    edit(kubeseg, "waits", suspend=False)
    waits(kubeseg, "waits", NO_ROOM)

    edit(kubeseg, "runs", suspend=True)
    status = kubeseg.wait_job("runs", "Suspended", 60)
    assert status["attempts"][-1]["outcome"] == "Interrupted"
    done = len(kubeseg.history("runs"))
    finished_well(kubeseg, "waits", 3)
    edit(kubeseg, "runs", suspend=False, training={"epochs": done + 10})
    status = finished_well(kubeseg, "runs", done + 10)
    assert [attempt["number"] for attempt in status["attempts"]] == [1, 2]
    assert status["attempts"][-1]["startEpoch"] >= done - 1


def test_deleted_in_the_queue_nothing_stays(kubeseg: Installation) -> None:
    kubeseg.apply(queued_job("blocks", epochs=500))
    kubeseg.wait_epoch("blocks", 1)
    kubeseg.apply(queued_job("unwanted", epochs=3))
    waits(kubeseg, "unwanted", NO_ROOM)
    assert len(workloads(kubeseg, "unwanted-1")) == 1
    for job in ("unwanted", "blocks"):
        kubeseg.kubectl("delete", "tj", job, "--timeout=60s")
        gone(kubeseg, job)


def test_a_queue_that_is_not_there(kubeseg: Installation) -> None:
    kubeseg.apply(queued_job("astray", epochs=3, queueName="team-z"))
    why = waits(kubeseg, "astray", "doesn't exist")
    assert "LocalQueue team-z doesn't exist. Make this LocalQueue" in why
    kubeseg.apply(kueue.local_queue("team-z", CLUSTER_QUEUE))
    finished_well(kubeseg, "astray", 3)


def test_what_kueue_cant_start_is_said(kubeseg: Installation) -> None:
    labels = {"kueue.x-k8s.io/podset": "others"}
    kubeseg.apply(queued_job("odd", epochs=3, podLabels=labels))
    why = waits(kubeseg, "odd", "Kueue has closed its Workload")
    assert "conflict for labels" in why
    kubeseg.kubectl("delete", "tj", "odd", "--timeout=60s")
    gone(kubeseg, "odd")


def test_several_workers_are_admitted_together(kubeseg: Installation) -> None:
    kubeseg.apply(queued_job("pair", epochs=12, workers=2))
    why = waits(kubeseg, "pair", "maximum capacity")
    assert "ask for less in spec.resources" in why
    assert pods(kubeseg, "pair") == [], "all or none"
    room_for(kubeseg, TWO)
    status = kubeseg.wait_job("pair", "Running", 60)
    assert status["summary"]["workers"] == "2/2"

    def ready() -> bool:
        (workload,) = workloads(kubeseg, "pair-1")
        return condition(workload, "PodsReady") == "True"

    wait_for("Kueue finds all pods ready, and does not evict them for it", ready)
    status = finished_well(kubeseg, "pair", 12)
    assert len(status["attempts"]) == 1
    room_for(kubeseg, ONE)


def test_its_workload_deactivated_and_deleted_and_its_queue_stopped(kubeseg: Installation) -> None:
    kubeseg.apply(queued_job("pushed", epochs=1000))
    kubeseg.wait_epoch("pushed", 1)

    reached = [1]

    def runs_again(times: int) -> None:
        def look(status: dict[str, Any]) -> bool:
            # Also where the trainer was ended before it had loaded its checkpoint.
            assert status["progress"]["epoch"] >= reached[-1], "no epoch is taken back"
            reached.append(status["progress"]["epoch"])
            preempted = status["attempts"][0].get("preemptions")
            return bool(status["phase"] == "Running" and preempted == times)

        kubeseg.wait_status("pushed", f"preempted {times} times, and runs", look, 90)

    def stop_queue(policy: str) -> None:
        patch = json.dumps({"spec": {"stopPolicy": policy}})
        kubeseg.kubectl("patch", "clusterqueue", CLUSTER_QUEUE, "--type=merge", "-p", patch)

    (workload,) = workloads(kubeseg, "pushed-1")
    name = workload["metadata"]["name"]
    activate = '{{"spec": {{"active": {}}}}}'.format
    kubeseg.kubectl("patch", WORKLOADS, name, "--type=merge", "-p", activate("false"))
    waits(kubeseg, "pushed", f"Workload {name} is deactivated")
    kubeseg.kubectl("patch", WORKLOADS, name, "--type=merge", "-p", activate("true"))
    runs_again(1)

    stop_queue("HoldAndDrain")
    try:
        why = waits(kubeseg, "pushed", "is inactive")
        assert "Whoever runs Kueue must put this right" in why
    finally:
        stop_queue("None")
    runs_again(2)

    kubeseg.kubectl("delete", WORKLOADS, name)
    runs_again(3)
    edit(kubeseg, "pushed", stop=True)
    status = kubeseg.wait_job("pushed", "Succeeded")
    assert len(status["attempts"]) == 1
    epochs = [entry["epoch"] for entry in kubeseg.history("pushed")]
    assert epochs == list(range(1, len(epochs) + 1))


def test_kueue_goes_and_comes_back(kubeseg: Installation, manager: Kueue) -> None:
    kubeseg.apply(queued_job("on", epochs=500))
    kubeseg.wait_epoch("on", 1)
    manager.stop()
    try:
        kubeseg.apply(queued_job("meanwhile", epochs=3))
        status = kubeseg.wait_job("meanwhile", "Blocked", 60)
        assert 'failed calling webhook "mjob.kb.io"' in status["summary"]["why"]
        assert kubeseg.status("on")["phase"] == "Running", "what runs goes on"
        edit(kubeseg, "on", suspend=True)
        wait_for("its pod goes", lambda: not pods(kubeseg, "on"))
    finally:
        manager.start()
    kubeseg.wait_job("on", "Suspended", 60)
    finished_well(kubeseg, "meanwhile", 3)
    kubeseg.kubectl("delete", "tj", "on")
