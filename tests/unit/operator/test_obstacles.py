"""Each row: what stands in the way → the sentence that a user reads."""

from __future__ import annotations

from typing import Any

import pytest

from kubeseg_operator.obstacles import no_pod, not_taken_up, of_pod, of_volumes
from kubeseg_types.spec import TrainingJobSpec
from tests.support.operator_objects import pod


def spec(**fields: Any) -> TrainingJobSpec:
    wanted = {"dataset": {"name": "d"}, "training": {"epochs": 1}}
    return TrainingJobSpec.model_validate(wanted | fields)


def refused(message: str) -> list[dict[str, Any]]:
    return [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
        }
    ]


@pytest.mark.parametrize(
    ("message", "reason", "words"),
    [
        (
            (
                "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. no new claims to "
                "deallocate, preemption: 0/3 nodes are available: 3 No preemption victims found."
            ),
            "Unschedulable",
            (
                "needs 1 nvidia.com/gpu, 1 CPU, 4Gi memory on one node; 0/3 nodes are available: "
                "3 Insufficient nvidia.com/gpu. To do: ask for less in spec.resources, or wait for "
                "a node with so much free."
            ),
        ),
        (
            "0/1 nodes are available: 1 node(s) had untolerated taint(s). preemption: x",
            "Unschedulable",
            (
                "needs 1 nvidia.com/gpu, 1 CPU, 4Gi memory on one node; 0/1 nodes are available: "
                "1 node(s) had untolerated taint(s). To do: add to spec.tolerations."
            ),
        ),
        (
            "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
            "Unschedulable",
            (
                "needs 1 nvidia.com/gpu, 1 CPU, 4Gi memory on one node; 0/1 nodes are available: "
                "1 node(s) didn't match Pod's node affinity/selector. To do: look at "
                "spec.nodeSelector and spec.affinity."
            ),
        ),
        (
            '0/1 nodes are available: persistentvolumeclaim "kubeseg-workspace" not found.',
            "WorkspaceMissing",
            (
                'workspace claim "kubeseg-workspace" is not there: create this '
                "PersistentVolumeClaim in the job's namespace (ReadWriteMany), and the job goes "
                "on by itself."
            ),
        ),
        (
            "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.",
            "WorkspaceUnbound",
            (
                'workspace claim "kubeseg-workspace" is not bound to a volume: look at its storage '
                "class and events (kubectl describe pvc kubeseg-workspace)."
            ),
        ),
    ],
)
def test_no_node(message: str, reason: str, words: str) -> None:
    found = of_pod(pod(conditions=refused(message)), spec(resources={"gpus": 1}), "trainer:1")
    assert found is not None
    assert (found.reason, found.message) == (reason, words)


PULL = 'rpc error: code = NotFound desc = image "r/t:9" not found'


@pytest.mark.parametrize(
    ("waiting", "message", "cause"),
    [
        ("ErrImagePull", PULL, "not found"),
        ("ImagePullBackOff", f'Back-off pulling image "r/t:9": ErrImagePull: {PULL}', "not found"),
        ("ImagePullBackOff", 'Back-off pulling image "r/t:9"', "the last try failed"),
        (
            "ErrImagePull",
            "pull access denied, repository does not exist",
            "access denied (spec.imagePullSecrets names the credentials)",
        ),
        ("InvalidImageName", "could not parse", "this is no image's name"),
        (
            "ErrImageNeverPull",
            "is not present",
            "it is not on the node, and spec.imagePullPolicy is Never",
        ),
        ("ErrImagePull", "dial tcp: i/o timeout", "dial tcp: i/o timeout"),
    ],
)
def test_no_image(waiting: str, message: str, cause: str) -> None:
    stuck = pod(state={"waiting": {"reason": waiting, "message": message}})
    found = of_pod(stuck, spec(image="r/t:9"), "trainer:1")
    assert found is not None
    assert found.reason == "ImagePull"
    assert found.message == (
        f"image \"r/t:9\" can't be pulled: {cause}. The operator's default is trainer:1."
    )


def test_the_two_faces_of_a_failed_pull_read_alike() -> None:
    """The kubelet turns from one to the other every few seconds: no status write for that."""
    faces = [
        ("ErrImagePull", PULL),
        ("ImagePullBackOff", f'Back-off pulling image "r/t:9": ErrImagePull: {PULL}'),
    ]
    found = [
        of_pod(pod(state={"waiting": {"reason": r, "message": m}}), spec(), "t:1") for r, m in faces
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize("reason", ["ContainerCreating", "PodInitializing"])
def test_a_pod_that_only_needs_time_has_no_obstacle(reason: str) -> None:
    assert of_pod(pod(state={"waiting": {"reason": reason}}), spec(), "t:1") is None


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ('pods "x" is forbidden: violates PodSecurity "restricted:latest"', "PodSecurity"),
        ('pods "x" is forbidden: exceeded quota: gpus, requested: 1', "Quota"),
        ("Error creating: serviceaccount default not found", "PodRefused"),
    ],
)
def test_no_pod(message: str, reason: str) -> None:
    events = [{"reason": "SuccessfulDelete", "message": "no matter"}]
    assert no_pod(events) is None
    found = no_pod([*events, {"reason": "FailedCreate", "message": message}])
    assert found is not None
    assert found.reason == reason
    assert message.removeprefix("Error creating: ") in found.message


def test_the_newest_event_counts() -> None:
    events = [
        {"reason": "FailedMount", "message": "new", "lastTimestamp": "2026-01-02T00:00:02Z"},
        {"reason": "FailedMount", "message": "old", "lastTimestamp": "2026-01-02T00:00:01Z"},
        {"reason": "Scheduled", "message": "x", "lastTimestamp": "2026-01-02T00:00:03Z"},
    ]
    found = of_volumes(events)
    assert found is not None
    assert found.message == "a volume can't be mounted: new"
    assert of_volumes(events[2:]) is None


@pytest.mark.parametrize(
    ("wish", "reason", "words"),
    [
        ({}, "NotScheduled", 'the scheduler "default-scheduler" has not looked at pod job-1-0'),
        ({"schedulerName": "nope"}, "NotScheduled", "spec.schedulerName names it"),
        (
            {
                "resourceClaims": [
                    {"name": "a", "resourceClaimName": "mine"},
                    {"name": "b", "resourceClaimTemplateName": "each"},
                ]
            },
            "ResourceClaims",
            "(ResourceClaim mine, ResourceClaimTemplate each)",
        ),
    ],
)
def test_a_pod_that_no_scheduler_has_taken_up(
    wish: dict[str, Any], reason: str, words: str
) -> None:
    found = not_taken_up(pod(node=None), spec(**wish))
    assert found.reason == reason
    assert words in found.message
