"""Real training on several worker pods and processes, over gloo, with everything in between."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.installation import Installation, training_job

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


def record(kubeseg: Installation, job: str) -> dict[str, Any]:
    """run.json of a job."""
    uid = kubeseg.get("tj", job)["metadata"]["uid"]
    file = kubeseg.workspace() / "runs" / job / uid / "run.json"
    loaded: dict[str, Any] = json.loads(file.read_text())
    return loaded


def process_of(child: str, index: int) -> int:
    """The first process of a worker's container: containers are processes here."""
    wanted = {f"KUBESEG_COORDINATOR={child}-0.", f"JOB_COMPLETION_INDEX={index}\0"}
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            environment = (entry / "environ").read_text(errors="replace")
        except OSError:
            continue
        if all(word in environment for word in wanted):
            found.append(int(entry.name))
    assert found, f"no process of {child}, worker {index}"
    return min(found)


def test_a_worker_killed_in_the_middle_starts_all_again(kubeseg: Installation) -> None:
    kubeseg.data_set("small")
    kubeseg.apply(training_job("two-workers", epochs=12, workers=2))
    before = kubeseg.wait_epoch("two-workers", 2)["progress"]["epoch"]
    assert kubeseg.status("two-workers")["summary"]["workers"] == "2/2"
    os.kill(process_of("two-workers-1", 1), signal.SIGKILL)
    status = kubeseg.wait_job("two-workers", "Succeeded", 240)
    first, second = status["attempts"]
    # Its peer ended as interrupted, and does not tell.
    assert (first["outcome"], first["exitCode"]) == ("Failed", 137), first
    assert first["message"].startswith("worker 1 on "), first
    assert second["startEpoch"] >= before
    assert [entry["epoch"] for entry in kubeseg.history("two-workers")] == list(range(1, 13))
    assert record(kubeseg, "two-workers")["hardware"]["processes"] == 2
    made = kubeseg.items("services", "kubeseg.dev/job=two-workers")
    assert [service["metadata"]["name"] for service in made] == ["kubeseg-two-workers"]


def test_two_gpus_are_two_processes_of_a_pod(kubeseg: Installation) -> None:
    """The GPUs are pretended, so they compute on the CPU; how many there are is not."""
    kubeseg.data_set("small")
    manifest = training_job("two-gpus", epochs=1)
    manifest["spec"]["resources"]["gpus"] = 2
    kubeseg.apply(manifest)
    kubeseg.wait_job("two-gpus", "Succeeded", 240)
    assert record(kubeseg, "two-gpus")["hardware"]["processes"] == 2
    assert len(kubeseg.items("pods", "kubeseg.dev/job=two-gpus,kubeseg.dev/attempt=1")) == 1
    assert kubeseg.items("services", "kubeseg.dev/job=two-gpus") == []
