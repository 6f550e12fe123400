"""Each row: what stands in the way → the sentence that a user reads."""

from __future__ import annotations

from typing import Any

import pytest

from kubeseg_operator.decide import Ask, Observed
from kubeseg_operator.obstacle import EDITED, MAX_WORDS, Obstacle
from kubeseg_operator.obstacles import no_pod, not_taken_up, of_events, of_pod
from tests.support.operator_decisions import look, pending
from tests.support.operator_objects import at, attempt, child, job, pod
from tests.support.operator_obstacles import spec, why


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
                "a node with so much free. An edit is taken up at once."
            ),
        ),
        (
            "0/1 nodes are available: 1 node(s) had untolerated taint(s). preemption: x",
            "Unschedulable",
            (
                "needs 1 nvidia.com/gpu, 1 CPU, 4Gi memory on one node; 0/1 nodes are available: "
                "1 node(s) had untolerated taint(s). To do: add to spec.tolerations what the "
                "nodes' taints need (kubectl describe nodes names them). An edit is "
                "taken up at once."
            ),
        ),
        (
            "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
            "Unschedulable",
            (
                "needs 1 nvidia.com/gpu, 1 CPU, 4Gi memory on one node; 0/1 nodes are available: "
                "1 node(s) didn't match Pod's node affinity/selector. To do: look at "
                "spec.nodeSelector and spec.affinity. An edit is taken up at once."
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
    assert why(message) == Obstacle(reason, words)


CLAIM = {"spec": {"accessModes": ["ReadWriteMany"], "storageClassName": "fast"}}
UNBOUND = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."


@pytest.mark.parametrize(
    ("message", "answers", "reason", "words"),
    [
        (
            UNBOUND,
            {Ask.CLAIM: (CLAIM,)},
            "WorkspaceUnbound",
            'not bound to a volume (ReadWriteMany, of class "fast"): look at its storage class',
        ),
        (
            UNBOUND,
            {
                Ask.CLAIM: (CLAIM,),
                Ask.CLAIM_EVENTS: ({"reason": "ProvisioningFailed", "message": "no RWX here."},),
            },
            "WorkspaceUnbound",
            (
                ": no RWX here. A claim's class and access mode can't be changed: delete it "
                "(kubectl delete pvc kubeseg-workspace), and make it anew with what the cluster "
                "offers (kubectl get storageclass)."
            ),
        ),
        (
            '0/1 nodes are available: persistentvolumeclaim "kubeseg-workspace" is being deleted.',
            {},
            "WorkspaceLeaving",
            "pods that still use it hold it up",
        ),
        (
            "0/2 nodes are available: 2 node(s) didn't match PersistentVolume's node affinity.",
            {},
            "Unschedulable",
            'workspace claim "kubeseg-workspace" ties the job to other nodes',
        ),
        (
            "0/2 nodes are available: 2 node(s) were unschedulable.",
            {},
            "Unschedulable",
            "kubectl uncordon",
        ),
    ],
)
def test_the_workspace_claim(
    message: str, answers: dict[Ask, Any], reason: str, words: str
) -> None:
    found = why(message, answers=answers)
    assert found is not None
    assert found.reason == reason
    assert words in found.message


@pytest.mark.parametrize(
    ("wish", "after", "reason"),
    [
        ({}, 60, None),  # a scheduler in a burst needs minutes
        ({}, 120, "NotScheduled"),
        ({"schedulerName": "binpack"}, 0, None),
        ({"schedulerName": "binpack"}, 20, "NotScheduled"),
    ],
)
def test_a_scheduler_that_is_not_there(
    wish: dict[str, Any], after: float, reason: str | None
) -> None:
    found = why(None, wish, after=after)
    assert (found.reason if found else None) == reason
    if found and wish:
        assert "spec.schedulerName names it" in found.message


def test_scheduling_gates_are_named() -> None:
    gate = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}
    found = why(None, pods=(pending(node=None, conditions=[gate]),))
    assert found is not None
    assert found.reason == "SchedulingGated"


PULL = (
    'rpc error: code = NotFound desc = failed to pull and unpack image "docker.io/r/t:9": failed '
    'to resolve reference "docker.io/r/t:9": docker.io/r/t:9: not found'
)
DENIED = "pull access denied, repository does not exist"
CORRECT = "Correct spec.image (the operator's default is trainer:1), or push it there."


@pytest.mark.parametrize(
    ("waiting", "message", "words"),
    [
        ("ErrImagePull", PULL, f"docker.io/r/t:9: not found. {CORRECT}"),
        (
            "ImagePullBackOff",
            f'Back-off pulling image "r/t:9": ErrImagePull: {PULL}',
            f"docker.io/r/t:9: not found. {CORRECT}",
        ),
        (
            "ImagePullBackOff",
            'Back-off pulling image "r/t:9"',
            (
                "the last try failed. Correct spec.image (the operator's default is trainer:1), or "
                "see to it that the nodes reach its registry."
            ),
        ),
        (
            "ErrImagePull",
            DENIED,
            (
                f"{DENIED}. Name in spec.imagePullSecrets a Secret with credentials for its "
                "registry, or correct spec.image (the operator's default is trainer:1)."
            ),
        ),
        (
            "InvalidImageName",
            "could not parse",
            "this is no image's name. Correct spec.image (the operator's default is trainer:1).",
        ),
        (
            "ErrImageNeverPull",
            "is not present",
            (
                "it is not on the node, and spec.imagePullPolicy is Never. Load it there, or set "
                "spec.imagePullPolicy to IfNotPresent."
            ),
        ),
        ("ErrImagePull", "dial tcp: i/o timeout", "dial tcp: i/o timeout. Correct spec.image"),
    ],
)
def test_no_image(waiting: str, message: str, words: str) -> None:
    stuck = pod(state={"waiting": {"reason": waiting, "message": message}})
    found = of_pod(stuck, spec(image="r/t:9"), "trainer:1")
    assert found is not None
    assert found.reason == "ImagePull"
    assert found.message.startswith(f'image "r/t:9" can\'t be pulled: {words}')
    assert found.message.endswith(EDITED)


def test_the_operators_own_image_is_not_the_users_to_correct() -> None:
    stuck = pod(state={"waiting": {"reason": "ErrImagePull", "message": PULL}})
    found = of_pod(stuck, spec(), "trainer:1")
    assert found is not None
    assert "Whoever runs the operator must correct its default, or name another in spec.image" in (
        found.message
    )


def no_secret(minutes: float = 0) -> dict[str, Any]:
    words = (
        "Unable to retrieve some image pull secrets (nosuch); attempting to pull the image may not "
        "succeed."
    )
    return {
        "reason": "FailedToRetrieveImagePullSecret",
        "message": words,
        "lastTimestamp": at(-60 * minutes),
    }


@pytest.mark.parametrize(
    ("minutes", "words"),
    [
        (
            5,
            (
                "docker.io/r/t:9: not found; pull secret nosuch can't be read. Create it in the "
                "job's namespace (kubectl create secret docker-registry), or correct "
                "spec.imagePullSecrets."
            ),
        ),
        (30, f"docker.io/r/t:9: not found. {CORRECT}"),  # it has come since
    ],
)
def test_a_pull_secret_that_is_not_there_is_named(minutes: float, words: str) -> None:
    waiting = {"reason": "ErrImagePull", "message": PULL}
    stuck = pending(state={"waiting": waiting})
    wish = {"image": "r/t:9", "imagePullSecrets": [{"name": "nosuch"}]}
    known = job(spec=wish, status={"attempts": [attempt()]})
    seen = Observed(children=(child(),), pods=(stuck,))
    assert look(known, seen).ask is Ask.POD_EVENTS
    last = {"reason": "Failed", "message": PULL, "lastTimestamp": at(0)}
    found = why(None, wish, pods=(stuck,), events=(no_secret(minutes), last))
    assert found == Obstacle("ImagePull", f'image "r/t:9" can\'t be pulled: {words}{EDITED}')


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
        (
            (
                'Error creating: pods "x" is forbidden: error looking up service account '
                'team/default: serviceaccount "default" not found'
            ),
            "ServiceAccountMissing",
        ),
        ("no PriorityClass with name high was found", "PriorityClassMissing"),
        ('pod rejected: RuntimeClass "kata" not found', "RuntimeClassMissing"),
        ("maximum memory usage per Container is 1Gi, but limit is 4Gi", "LimitRange"),
        ('admission webhook "policy.example.com" denied the request: no', "AdmissionWebhook"),
        ("Error creating: something else", "PodRefused"),
    ],
)
def test_no_pod(message: str, reason: str) -> None:
    events = [{"reason": "SuccessfulDelete", "message": "no matter"}]
    assert no_pod(events, spec()) is None
    found = no_pod([*events, {"reason": "FailedCreate", "message": message}], spec())
    assert found is not None
    assert found.reason == reason
    assert message.removeprefix("Error creating: ") in found.message


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


MULTI = (
    'Multi-Attach error for volume "pvc-1" Volume is already exclusively attached to one node and '
    "can't be attached to another"
)


@pytest.mark.parametrize(
    ("events", "reason", "words"),
    [
        (
            [("FailedMount", "new", 2), ("FailedMount", "old", 1), ("Scheduled", "x", 3)],
            "VolumeMount",
            "a volume can't be mounted: new. Node gpu-1 tries again by itself",
        ),
        (
            [("FailedAttachVolume", MULTI, 1)],
            "WorkspaceInUse",
            'another node holds the volume of workspace claim "kubeseg-workspace"',
        ),
        (
            [("FailedCreatePodSandBox", "no address", 1)],
            "PodSandbox",
            "node gpu-1 can't make the pod: no address. It tries again by itself",
        ),
        # The first try of a mount failed, the next did not: the image is on its way.
        ([("FailedMount", "not yet", 1), ("Pulling", "image", 2)], None, ""),
        ([("Scheduled", "x", 3)], None, ""),
        ([], None, ""),
    ],
)
def test_the_newest_event_of_a_pod_that_hangs_counts(
    events: list[tuple[str, str, int]], reason: str | None, words: str
) -> None:
    raw = [{"reason": r, "message": m, "lastTimestamp": at(n)} for r, m, n in events]
    found = of_events(raw, pod(node="gpu-1"), spec())
    assert (found.reason if found else None) == reason
    assert words in (found.message if found else "")


STRANGE = "something nobody has foreseen" + 1000 * "!"
HUNG = pod(node="gpu-1")


@pytest.mark.parametrize(
    ("found", "remedy"),
    [
        (
            of_pod(
                pod(
                    node="gpu-1",
                    state={"waiting": {"reason": "RunContainerError", "message": STRANGE}},
                ),
                spec(),
                "t:1",
            ),
            "Look whether spec.image (t:1) is a kubeseg trainer for node gpu-1's processor.",
        ),
        (
            of_pod(
                pod(
                    state={"waiting": {"reason": "CreateContainerConfigError", "message": STRANGE}}
                ),
                spec(),
                "t:1",
            ),
            "Create it, and the job goes on by itself.",
        ),
        (
            of_events([{"reason": "FailedCreatePodSandBox", "message": STRANGE}], HUNG, spec()),
            "kubectl cordon gpu-1, then kubectl delete pod job-1-0-abcde",
        ),
        (
            of_events([{"reason": "FailedMount", "message": STRANGE}], HUNG, spec()),
            "(kubectl describe pvc kubeseg-workspace; kubectl describe pod job-1-0-abcde).",
        ),
        (
            no_pod([{"reason": "FailedCreate", "message": STRANGE}], spec()),
            "Look at what spec adds to the pod, or ask who runs the cluster. An edit",
        ),
    ],
)
def test_a_remedy_stands_behind_whatever_words(found: Obstacle | None, remedy: str) -> None:
    assert found is not None
    assert STRANGE[:40] in found.message
    assert remedy in found.message
    assert len(found.message) < MAX_WORDS
