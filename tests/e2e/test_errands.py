"""What comes before a GPU is taken, and what goes with a TrainingJob: check and clean-up."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.e2e.installation import Installation, png, small_files, training_job, zipped
from tests.support.cluster import wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

GPU: dict[str, Any] = {
    "resources": {"gpus": 1, "cpu": "500m", "memory": "2Gi", "sharedMemory": "64Mi"}
}


def bad() -> bytes:
    """A data set with a label that no class has."""
    files = small_files(6)
    files["masks/003.png"] = png(np.full((48, 48), 9, np.uint8))
    return zipped(files)


def seconds(status: dict[str, Any], begin: str, end: str) -> float:
    """Between two times of a status, dotted."""

    def moment(path: str) -> datetime:
        value: Any = status
        for part in path.split("."):
            value = value[part]
        return datetime.fromisoformat(value)

    return (moment(end) - moment(begin)).total_seconds()


def everything(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def events(kubeseg: Installation, job: str) -> dict[str, str]:
    """Reason and message of a job's events."""
    text = kubeseg.kubectl(
        "get", "events", "--field-selector", f"involvedObject.name={job}", "-o", "json"
    )
    return {event["reason"]: event["message"] for event in json.loads(text)["items"]}


def test_a_bad_data_set_fails_the_job_before_it_takes_a_gpu(kubeseg: Installation) -> None:
    kubeseg.data_set("bad-gpu", bad)
    classes = {"name": "bad-gpu", "classes": [{"name": n} for n in ("bg", "disc", "square")]}
    for name in ("gpu-bad", "gpu-bad-again"):
        job = training_job(name, epochs=3, dataset="bad-gpu", **GPU)
        job["spec"]["dataset"] = classes
        kubeseg.apply(job)
        status = kubeseg.wait_job(name, "Failed", 90)
        failed = kubeseg.condition(name, "Failed")
        assert failed["reason"] == "InvalidDataset"
        assert "masks/003.png has label 9" in failed["message"]
        assert status["summary"]["why"] == failed["message"]
        assert "attempts" not in status or status["attempts"] == []
        assert not kubeseg.get("job", f"{name}-1")
        took = seconds(status, "preflight.reservedTime", "preflight.endTime")
        print(f"{name}: Failed after {took:.0f} s")


def test_a_good_one_goes_on_and_its_run_goes_with_it_alone(kubeseg: Installation) -> None:
    kubeseg.data_set("small")
    job = training_job("gpu-good", epochs=500, artifacts={"onDelete": "Delete"}, **GPU)
    kubeseg.apply(job)
    status = kubeseg.wait_job("gpu-good", "Running")
    assert status["preflight"]["outcome"] == "Passed"
    assert 'data set "small" is good' in events(kubeseg, "gpu-good")["Checked"]
    assert [a["number"] for a in status["attempts"]] == [1], status["attempts"]
    made = kubeseg.get("tj", "gpu-good")["metadata"]
    assert made["finalizers"] == ["kubeseg.dev/artifacts"]

    workspace = kubeseg.workspace()
    run = f"runs/gpu-good/{made['uid']}/"
    # Before it imports torch: the test need not wait for an epoch.
    wait_for("its run is there", (workspace / run / "run.json").exists)
    other = workspace / "runs/gpu-good/00000000-of-another/file"
    other.parent.mkdir()
    other.write_text("stays")
    data = everything(workspace / "datasets")

    # Those who delete in the foreground have the garbage collector at their heels.
    kubeseg.kubectl("delete", "tj", "gpu-good", "--cascade=foreground", "--timeout=120s")
    assert not (workspace / run).exists()
    assert everything(workspace / "datasets") == data
    assert other.exists()
    wait_for("nothing is left of it", lambda: not _left(kubeseg))
    assert run.rstrip("/") in events(kubeseg, "gpu-good")["ArtifactsRemoved"]


def _left(kubeseg: Installation) -> list[str]:
    found = kubeseg.kubectl("get", "jobs,pods", "-l", "kubeseg.dev/job=gpu-good", "-o", "name")
    return found.split()
