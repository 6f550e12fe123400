"""A TrainingJob from kubectl apply to the model, through everything that may come between."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.installation import Installation, training_job
from tests.support.cluster import wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


def epochs_of(history: list[dict[str, Any]]) -> list[int]:
    return [record["epoch"] for record in history]


def finished_well(kubeseg: Installation, job: str, epochs: int) -> dict[str, Any]:
    """The status of a job that succeeded, with each epoch once in its history."""
    status = kubeseg.wait_job(job, "Succeeded", 240)
    assert epochs_of(kubeseg.history(job)) == list(range(1, epochs + 1))
    assert status["progress"]["epoch"] == epochs
    return status


def test_applied_trained_downloaded(kubeseg: Installation, tmp_path: Path) -> None:
    kubeseg.data_set("small")
    kubeseg.apply(training_job("whole-path", epochs=4, export={"onnx": True}))
    status = finished_well(kubeseg, "whole-path", 4)

    conditions = {c["type"]: c for c in status["conditions"]}
    assert conditions["Complete"]["status"] == "True"
    assert conditions["Failed"]["status"] == "False"
    assert status["metrics"]["last"]["epoch"] == 4
    best = status["metrics"]["best"]
    assert best["valIou"] >= status["metrics"]["last"]["valIou"]
    row = kubeseg.kubectl("get", "tj", "whole-path")
    assert "Succeeded" in row
    assert "4/4" in row

    run = status["run"]
    with kubeseg.http as client:
        reply = client.get(f"/v1/files/{run['bestWeights']}")
    assert reply.status_code == 200
    assert hashlib.sha256(reply.content).hexdigest() == run["bestSha256"]

    with kubeseg.http as client:
        onnx = client.get(f"/v1/files/{run['path']}/model/model.onnx")
        card = client.get(f"/v1/files/{run['path']}/model/README.md")
    assert onnx.status_code == 200
    assert card.status_code == 200
    assert "# whole-path" in card.text

    # The folder that a run leaves is opened by smp alone.
    model = kubeseg.workspace() / run["path"] / "model"
    code = (
        "import sys, torch, segmentation_models_pytorch as smp\n"
        "model = smp.from_pretrained(sys.argv[1]).eval()\n"
        "print(tuple(model(torch.zeros(1, 3, 64, 64)).shape))\n"
    )
    shape = subprocess.run(
        [sys.executable, "-c", code, str(model)], capture_output=True, text=True, check=True
    ).stdout
    assert shape.strip().endswith("(1, 3, 64, 64)")

    # The child Job's pod passed Pod Security `restricted`, which the namespace enforces.
    labels = kubeseg.get("namespace", kubeseg.name)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"

    described = kubeseg.kubectl("describe", "tj", "whole-path")
    assert "AttemptStarted" in described
    assert "Succeeded" in described


def test_a_pod_deleted_in_the_middle_goes_on_at_the_right_epoch(kubeseg: Installation) -> None:
    kubeseg.data_set("small")
    kubeseg.apply(training_job("pod-deleted", epochs=25))
    before = kubeseg.wait_epoch("pod-deleted", 3)["progress"]["epoch"]
    kubeseg.kubectl("delete", "pod", "-l", "kubeseg.dev/job=pod-deleted", "--wait=false")
    status = finished_well(kubeseg, "pod-deleted", 25)
    first, second = status["attempts"]
    assert first["outcome"] == "Interrupted"
    assert second["startEpoch"] >= before
    history = kubeseg.history("pod-deleted")
    attempts = [record["attempt"] for record in history]
    assert attempts == sorted(attempts)
    assert attempts.count(1) == second["startEpoch"]
    assert status.get("retry", {}).get("failures", 0) == 0, "an interruption is no failure"


def test_the_operator_killed_and_restarted_in_the_middle(kubeseg: Installation) -> None:
    kubeseg.data_set("small")
    kubeseg.apply(training_job("operator-killed", epochs=20))
    kubeseg.wait_epoch("operator-killed", 2)
    kubeseg.kubectl(
        "delete", "pod", "-l", "app.kubernetes.io/component=operator", "--force",
        "--grace-period=0",
    )  # fmt: skip
    status = finished_well(kubeseg, "operator-killed", 20)
    assert len(status["attempts"]) == 1, "the training did not notice"
    assert len(kubeseg.items("jobs", "kubeseg.dev/job=operator-killed")) == 1


def test_the_same_name_deleted_and_applied_again_starts_anew(kubeseg: Installation) -> None:
    kubeseg.data_set("small")
    kubeseg.apply(training_job("again", epochs=2))
    kubeseg.wait_job("again", "Succeeded")
    first = kubeseg.get("tj", "again")["metadata"]["uid"]
    kubeseg.kubectl("delete", "tj", "again")
    kubeseg.apply(training_job("again", epochs=3))
    status = finished_well(kubeseg, "again", 3)
    second = kubeseg.get("tj", "again")["metadata"]["uid"]
    assert second != first
    assert status["run"]["path"] == f"runs/again/{second}"
    assert epochs_of(kubeseg.history("again", first)) == [1, 2], "the first run is untouched"
    assert {record["attempt"] for record in kubeseg.history("again")} == {1}


def test_deleted_while_it_runs_leaves_nothing_but_the_run(kubeseg: Installation) -> None:
    kubeseg.data_set("small")
    kubeseg.apply(training_job("deleted", epochs=500))
    kubeseg.wait_epoch("deleted", 1)
    uid = kubeseg.get("tj", "deleted")["metadata"]["uid"]
    kubeseg.kubectl("delete", "tj", "deleted")
    wait_for(
        "children gone",
        lambda: not kubeseg.items("jobs,pods", "kubeseg.dev/job=deleted"),
    )
    run = kubeseg.workspace() / "runs" / "deleted" / uid
    assert json.loads((run / "run.json").read_text())["state"] == "Interrupted"
    assert kubeseg.history("deleted", uid)


def test_suspend_and_resume(kubeseg: Installation) -> None:
    kubeseg.data_set("small")
    kubeseg.apply(training_job("paused", epochs=20))
    kubeseg.wait_epoch("paused", 2)
    kubeseg.kubectl("patch", "tj", "paused", "--type=merge", "-p", '{"spec":{"suspend":true}}')
    status = kubeseg.wait_job("paused", "Suspended")
    assert not kubeseg.items("pods", "kubeseg.dev/job=paused"), "no pod stays"
    done = len(kubeseg.history("paused"))
    assert status["attempts"][-1]["outcome"] == "Interrupted"
    kubeseg.kubectl("patch", "tj", "paused", "--type=merge", "-p", '{"spec":{"suspend":false}}')
    status = finished_well(kubeseg, "paused", 20)
    assert status["attempts"][-1]["startEpoch"] >= done - 1
    assert status["attempts"][-1]["number"] == 2


def test_epochs_changed_while_it_runs_and_after_it(kubeseg: Installation) -> None:
    kubeseg.data_set("small")
    kubeseg.apply(training_job("edited", epochs=1000))
    kubeseg.wait_epoch("edited", 1)

    def patch(epochs: int) -> None:
        change = json.dumps({"spec": {"training": {"epochs": epochs}}})
        kubeseg.kubectl("patch", "tj", "edited", "--type=merge", "-p", change)

    patch(12)
    generation = kubeseg.get("tj", "edited")["metadata"]["generation"]
    kubeseg.wait_status(
        "edited",
        "the trainer follows the new generation",
        lambda s: s.get("progress", {}).get("trainerGeneration") == generation,
        60,
    )
    status = kubeseg.wait_job("edited", "Succeeded")
    assert len(status["attempts"]) == 1, "without a restart"
    reached = status["progress"]["epoch"]
    assert 12 <= reached < 1000
    # More epochs on a finished job: it goes on from its last checkpoint.
    patch(reached + 2)
    status = kubeseg.wait_status(
        "edited",
        "finished again",
        lambda s: s["phase"] == "Succeeded" and s["progress"]["epoch"] == reached + 2,
    )
    assert status["attempts"][-1]["startEpoch"] == reached
    assert epochs_of(kubeseg.history("edited")) == list(range(1, reached + 3))


def test_stop_ends_gracefully_and_counts_as_success(kubeseg: Installation) -> None:
    kubeseg.data_set("small")
    kubeseg.apply(training_job("stopped", epochs=1000))
    kubeseg.wait_epoch("stopped", 1)
    kubeseg.kubectl("patch", "tj", "stopped", "--type=merge", "-p", '{"spec":{"stop":true}}')
    status = kubeseg.wait_job("stopped", "Succeeded")
    assert status["progress"]["epoch"] < 1000
    assert (kubeseg.workspace() / status["run"]["path"] / "model" / "config.json").is_file()


def test_a_killed_trainer_is_retried_from_its_checkpoint(kubeseg: Installation) -> None:
    """SIGKILL leaves the trainer no time for anything."""
    kubeseg.data_set("small")
    kubeseg.apply(training_job("killed", epochs=20))
    kubeseg.wait_epoch("killed", 3)
    uid = kubeseg.get("tj", "killed")["metadata"]["uid"]
    killed = [process for process in Path("/proc").glob("[0-9]*") if _is_trainer_of(process, uid)]
    assert killed
    subprocess.run(["kill", "-KILL", *[process.name for process in killed]], check=False)
    status = finished_well(kubeseg, "killed", 20)
    assert status["attempts"][0]["outcome"] == "Failed"
    assert status["attempts"][0]["exitCode"] == 137
    assert status["attempts"][1]["startEpoch"] >= 2


def _is_trainer_of(process: Path, uid: str) -> bool:
    """Whether a process is a trainer whose files lie in the run with this UID."""
    try:
        if b"kubeseg_trainer" not in (process / "cmdline").read_bytes():
            return False
        config = process / "root" / "etc" / "kubeseg" / "config.json"
        return uid in config.read_text()
    except OSError:
        return False
