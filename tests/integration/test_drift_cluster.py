"""Others change what the operator made: it is put right. What isn't ours is left alone."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.operator_process import Place

pytestmark = pytest.mark.cluster
LABEL = "kubeseg.dev/job"


def test_what_others_change_of_a_job_is_put_right_and_its_pod_goes_on(place: Place) -> None:
    place.job("drift", {"epochs": 300, "seconds": 100})
    place.phase("drift", "Running")
    (pod,) = place.items("pod", "kubeseg.dev/job=drift")
    orphan = '{"metadata":{"ownerReferences":null,"labels":{"kubeseg.dev/job":null}}}'
    place.kubectl("patch", "job", "drift-1", "--type=merge", "-p", orphan)

    def mended(job: dict[str, Any]) -> bool:
        meta = job["metadata"]
        return bool(meta.get("ownerReferences")) and "kubeseg.dev/job" in meta["labels"]

    place.wait("job", "drift-1", mended)
    place.kubectl("patch", "job", "drift-1", "-p", '{"spec":{"parallelism":2,"completions":2}}')
    place.wait("job", "drift-1", lambda job: job["spec"]["parallelism"] == 1)
    assert pod["metadata"]["uid"] in {
        each["metadata"]["uid"] for each in place.items("pod", "kubeseg.dev/job=drift")
    }
    suspend = '{"spec":{"suspend":%s}}'
    place.kubectl("patch", "job", "drift-1", "-p", suspend % "true")
    status = place.phase("drift", "Blocked")
    assert "was suspended by somebody else" in status["summary"]["why"]
    place.kubectl("patch", "job", "drift-1", "-p", suspend % "false")
    status = place.phase("drift", "Running")
    assert len(status["attempts"]) == 1
    place.kubectl("delete", "tj", "drift", "--wait=false")


def test_a_pod_that_has_lost_its_label_gets_it_back_and_goes_on(place: Place) -> None:
    """To a watch by label it is gone."""
    place.job("hidden", {"epochs": 300, "seconds": 1})
    place.until("hidden", lambda status: status.get("progress", {}).get("epoch", 0) >= 1)
    (pod,) = place.items("pod", f"{LABEL}=hidden")
    name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
    for change in (f"{LABEL}-", f"{LABEL}=other", "kubeseg.dev/attempt-"):
        place.kubectl("label", "pod", name, change, "--overwrite")

        def mended(pod: dict[str, Any]) -> bool:
            labels = pod["metadata"]["labels"]
            return (labels.get(LABEL), labels.get("kubeseg.dev/attempt")) == ("hidden", "1")

        place.wait("pod", name, mended)
        epoch = place.until("hidden", bool)["progress"]["epoch"]

        def went_on(status: dict[str, Any], before: int = epoch) -> bool:
            return bool(status["progress"]["epoch"] > before)

        status = place.until("hidden", went_on)
        assert (status["phase"], len(status["attempts"])) == ("Running", 1)
    (pod,) = place.items("pod", f"{LABEL}=hidden")
    assert pod["metadata"]["uid"] == uid
    place.kubectl("delete", "tj", "hidden", "--wait=false")


def test_a_job_of_the_same_name_that_is_not_ours_is_never_touched(place: Place) -> None:
    place.kubectl("create", "job", "mine-1", "--image=kubeseg-tools:1", "--", "sleep", "1")
    uid = place.get("job", "mine-1")["metadata"]["uid"]
    place.job("mine", {"epochs": 0})
    status = place.phase("mine", "Blocked")
    assert "isn't this TrainingJob's" in status["summary"]["why"]
    assert place.get("job", "mine-1")["metadata"]["uid"] == uid
    place.kubectl("delete", "job", "mine-1")
    place.phase("mine", "Succeeded")
